"""`compare`: which runs are meant, what is said of them, and what is refused."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_project.cli.main import run
from tests.support.stored import SHA, StoredRuns

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def stored(store: str) -> StoredRuns:
    return StoredRuns(store)


def compared(capsys: Capture, *options: str) -> tuple[dict[str, object], str]:
    capsys.readouterr()
    assert run(["compare", *options, "--format", "json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def names(comparison: dict[str, object]) -> list[str]:
    return [row["model"] for row in comparison["accuracy"]]  # type: ignore[attr-defined]


def test_runs_get_intervals_and_a_verdict_in_words(stored: StoredRuns, capsys: Capture) -> None:
    good = stored.training([], epochs=8)
    bad = stored.training(range(30), epochs=5)
    same = stored.training(range(2, 32), lr=0.01)
    assert run(["compare", "--runs", f"{good},{bad}, {same}"]) == 0
    out = capsys.readouterr().out
    assert "3 models, all evaluated on the same 200 test images" in out
    assert "lr=0.1 epochs=8 is better: 30 images against 0, p < 0.0001 (corrected for 3 pairs)" in out
    assert "no significant difference: 2 images against 2, p = 1.00 (corrected for 3 pairs)" in out
    assert "Overall: the 3 models are not all equally good" in out
    assert "Pareto front (*): lr=0.1 epochs=8, lr=0.1 epochs=5, lr=0.01 epochs=5" in out
    assert "configurations over" not in out


def test_each_format_holds_the_same(stored: StoredRuns, capsys: Capture) -> None:
    runs = f"{stored.training([], epochs=8)},{stored.training(range(30))}"
    comparison, _ = compared(capsys, "--runs", runs)
    assert comparison["images_sha256"] == SHA
    assert comparison["overall"]["statistic"] == 30  # type: ignore[index]
    first = comparison["accuracy"][1]  # type: ignore[index]
    assert (first["right"], first["pictures"], first["train_seconds"]) == (170, 200, 500)
    for table in ("accuracy", "pairs"):
        assert run(["compare", "--runs", runs, "--format", "csv", "--table", table]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [list(row) for row in rows] == [list(row) for row in comparison[table]]  # type: ignore[attr-defined]


def five_and_eight(stored: StoredRuns) -> None:
    """Two configurations at three seeds, the longer one better."""
    for seed, wrong in ((0, 60), (1, 62), (2, 64)):
        stored.training(range(wrong), seed=seed, name=f"five {seed}")
        stored.training(range(wrong // 6), seed=seed, epochs=8, name=f"eight {seed}")


def test_configurations_come_first_where_there_are_seeds(stored: StoredRuns, capsys: Capture) -> None:
    five_and_eight(stored)
    assert run(["compare"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 configurations over their seeds and the same 200 test images\n")
    assert "The best: lr=0.1 epochs=8, 95.00 % on average over 3 seeds.\n" in out
    assert "Worse: lr=0.1 epochs=5 (-26.00 points, " in out
    assert out.index("2 configurations") < out.index("6 models, all evaluated")
    assert "15 of them are listed by: --format csv --table pairs" in out


def test_verdicts_can_be_on_models_or_configurations_alone(stored: StoredRuns, capsys: Capture) -> None:
    five_and_eight(stored)
    assert run(["compare", "--by", "model"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("6 models, all evaluated")
    assert "configurations over" not in out
    assert run(["compare", "--by", "configuration"]) == 0
    assert "6 models" not in capsys.readouterr().out
    assert run(["compare", "--by", "configuration", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["seeds"] for row in rows] == ["0, 1, 2", "0, 1, 2"]


def test_configurations_of_one_seed_each_are_refused(stored: StoredRuns, capsys: Capture) -> None:
    stored.training([1])
    stored.training([2], epochs=8)
    line = refused(capsys, "--by", "configuration")
    assert (
        "no two of these have two trained seeds each; train more with: mlflow-project sweep --seeds" in line
    )


def test_a_seed_whose_loss_became_infinite_is_part_of_the_finding(
    stored: StoredRuns, capsys: Capture
) -> None:
    five_and_eight(stored)
    reason = {"reason": "the loss became nan at batch 7 (epoch 1): training stopped"}
    diverged = stored.training(None, seed=3, epochs=8, status="failed", tags=reason, name="eight 3")
    stored.training(None, seed=3, status="failed", tags={"reason": "the disk is full"})
    stored.training(None, seed=3, lr=9, status="failed", tags=reason)
    note = "1 of 4 seeds didn't train (seed 3) of lr=0.1 epochs=8"
    comparison, _ = compared(capsys)
    assert comparison["notes"] == [note]
    assert [row["failed"] for row in comparison["configurations"]] == ["", "3"]  # type: ignore[attr-defined]
    runs = [row.info.run_id for row in stored.client.search_runs([stored.experiment])]
    named = [run_id for run_id in runs if stored.client.get_run(run_id).data.tags["status"] == "completed"]
    comparison, err = compared(capsys, "--runs", ",".join([*named, diverged]))
    assert comparison["notes"] == [note]
    assert "Note: eight 3 didn't train: the loss became nan at batch 7" in err
    sweep = stored.sweep([{"run": run_id, "run_id": run_id} for run_id in (*named, diverged)])
    assert compared(capsys, "--sweep", sweep)[0]["notes"] == [note]
    assert "none of the runs named has a model: eight 3" in refused(capsys, "--runs", diverged)


def test_a_sweep_is_its_completed_cells_also_those_done_before(stored: StoredRuns, capsys: Capture) -> None:
    before = stored.training([], epochs=8)
    done = stored.training([1])
    failed = stored.training([2], status="failed", lr=9)
    rows = [{"run": "a", "run_id": before}, {"run": "b", "run_id": failed}, {"run": "c", "run_id": done}]
    comparison, err = compared(capsys, "--sweep", stored.sweep(rows))
    assert names(comparison) == ["lr=0.1 epochs=8", "lr=0.1 epochs=5"]
    assert "b is left out: it isn't completed" in err


def test_a_sweep_without_its_table_is_the_runs_below_it(stored: StoredRuns, capsys: Capture) -> None:
    sweep = stored.sweep(None)
    stored.training([9], lr=0.7)
    for lr in (0.1, 0.01):
        stored.training([1], lr=lr, tags={"mlflow.parentRunId": sweep})
    assert names(compared(capsys, "--sweep", sweep)[0]) == ["lr=0.1 epochs=5", "lr=0.01 epochs=5"]


def test_registered_models_are_called_as_they_were_asked_for(stored: StoredRuns, capsys: Capture) -> None:
    stored.training([1], alias="m1")
    stored.training([2], alias="m2", epochs=8)
    assert names(compared(capsys, "--models", "m2,1")[0]) == ["m2", "m1"]


def test_a_second_name_of_the_same_version_is_left_out_with_a_word(
    stored: StoredRuns, capsys: Capture
) -> None:
    stored.training([1], alias="m1")
    stored.training([2], alias="m2", epochs=8)
    comparison, err = compared(capsys, "--models", "m1,m2,1")
    assert names(comparison) == ["m1", "m2"]
    assert "Note: 1 names mnist-base-cnn version 1, which is among the others as m1; it counts once" in err
    assert run(["compare", "--models", "m1,1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "only one model, m1 (run " in line
    assert "(1 names mnist-base-cnn version 1, which is among the others as m1; it counts once)" in line


def test_without_a_choice_the_newest_of_each_configuration_is_taken(
    stored: StoredRuns, capsys: Capture
) -> None:
    stored.training(range(50), identity="one")
    for n in range(11):
        stored.training([n], identity=f"other {n}", epochs=n + 1)
    stored.training([], identity="one", name="newest")
    stored.training([], status="interrupted", identity="x")
    comparison, err = compared(capsys)
    assert names(comparison) == [*(f"lr=0.1 epochs={n + 1}" for n in range(1, 11)), "newest"]
    assert "the 10 latest configurations are taken" in err


def test_without_a_choice_runs_on_other_images_are_left_out_and_named(
    stored: StoredRuns, capsys: Capture
) -> None:
    stored.training([1], sha256="b2" * 32, data="e0" * 32, epochs=1)
    stored.training([1], epochs=2)
    stored.training([2], epochs=3)
    comparison, err = compared(capsys)
    assert names(comparison) == ["lr=0.1 epochs=2", "lr=0.1 epochs=3"]
    assert "left out: 1 run on other images (not d0d0d0d0d0d0); name any by --runs" in err


def test_runs_of_one_name_get_their_ids(stored: StoredRuns, capsys: Capture) -> None:
    ids = [stored.training([n], identity=str(n)) for n in (1, 2)]
    assert names(compared(capsys)[0]) == [f"lr=0.1 epochs=5 ({run_id[:8]})" for run_id in ids]


def test_one_run_without_predictions_is_left_out_of_what_nobody_has_named(
    stored: StoredRuns, capsys: Capture
) -> None:
    runs = [stored.training([n], lr=lr) for n, lr in enumerate((0.1, 0.2))]
    marked = stored.training(None, name="marked by hand", lr=0.3)
    damaged = stored.training([1], name="damaged", lr=0.4)
    artifacts = Path(stored.client.get_run(damaged).info.artifact_uri.removeprefix("file://"))
    (artifacts / "predictions" / "test.parquet").write_bytes(b"no table")
    sweep = stored.sweep([{"run": run_id, "run_id": run_id} for run_id in (*runs, marked)])
    comparison, err = compared(capsys)
    assert names(comparison) == ["lr=0.1 epochs=5", "lr=0.2 epochs=5"]
    assert f"marked by hand is left out: run {marked} (marked by hand) has no predictions" in err
    assert f"damaged is left out: run {damaged} (damaged) has no readable predictions" in err
    assert names(compared(capsys, "--sweep", sweep)[0]) == ["lr=0.1 epochs=5", "lr=0.2 epochs=5"]
    assert run(["report"]) == 0
    assert "marked by hand is left out" in capsys.readouterr().err
    assert f"run {marked} (marked by hand) has no predictions" in refused(
        capsys, "--runs", f"{runs[0]},{marked}"
    )


def test_where_nothing_has_predictions_the_reason_is_named(stored: StoredRuns, capsys: Capture) -> None:
    stored.training(None)
    assert "has no predictions/test.parquet" in refused(capsys)


def test_of_a_deleted_experiment_the_experiment_is_to_be_restored(
    stored: StoredRuns, capsys: Capture
) -> None:
    run_id = stored.training([1], alias="m1")
    stored.training([2], alias="m2", lr=0.2)
    stored.client.delete_experiment(stored.experiment)
    restore = f"mlflow experiments restore --experiment-id {stored.experiment}"
    for options in ((), ("--models", "m1,m2"), ("--runs", run_id)):
        assert f"experiment mnist-base-cnn is deleted, with its runs; restore it with: {restore}" in refused(
            capsys, *options
        )


def refused(capsys: Capture, *options: str) -> str:
    capsys.readouterr()
    assert run(["compare", *options]) != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def test_models_tested_on_different_images_are_refused_with_both_sha256(
    stored: StoredRuns, capsys: Capture
) -> None:
    other = "b2" * 32
    runs = [stored.training([1]), stored.training([1], sha256=other, epochs=8)]
    message = refused(capsys, "--runs", ",".join(runs))
    assert SHA in message
    assert other in message


def test_what_cannot_be_compared_is_one_line_that_names_it(stored: StoredRuns, capsys: Capture) -> None:
    assert "has no completed run" in refused(capsys)
    one = stored.training([1])
    assert f"only one model, lr=0.1 epochs=5 (run {one})" in refused(capsys)
    bare = stored.training(None, epochs=8)
    assert f"run {bare} (lr=0.1 epochs=8) has no predictions/test.parquet" in refused(
        capsys, "--runs", f"{one},{bare}"
    )
    assert "there is not a run abc in this store; name a run by its id" in refused(
        capsys, "--runs", f"{one},abc"
    )
    cut = stored.training([1], status="interrupted", epochs=9)
    assert (
        f"is interrupted; only completed runs are compared. Resume it by: mlflow-project train --resume {cut}"
        in (refused(capsys, "--runs", f"{one},{cut}"))
    )
    sweep = stored.sweep([])
    assert f"name it by --sweep {sweep}" in refused(capsys, "--runs", sweep)
    assert "is not a sweep" in refused(capsys, "--sweep", one)
    assert "no run of sweep" in refused(capsys, "--sweep", sweep)
    assert "are both given" in refused(capsys, "--runs", one, "--models", "m1")
    stored.client.delete_run(one)
    assert f"run {one} is deleted" in refused(capsys, "--runs", one)


def test_a_store_that_is_away_is_no_lack_of_predictions(
    stored: StoredRuns, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.artifacts

    def away(**options: str) -> str:
        raise ConnectionError("Connection refused")

    runs = [stored.training([1]), stored.training([2], epochs=8)]
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", away)
    message = refused(capsys, "--runs", ",".join(runs))
    assert (
        "is unreachable; start it there (mlflow-project serve), or name another store by MLFLOW_TRACKING_URI"
        in message
    )


def test_no_model_is_run_and_pytorch_is_not_even_loaded(stored: StoredRuns) -> None:
    stored.training([1])
    stored.training([2], epochs=8)
    program = (
        "import sys; from mlflow_project.cli.main import run; status = run(['compare']); "
        "sys.exit(status or int('torch' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    assert "no significant difference" in done.stdout

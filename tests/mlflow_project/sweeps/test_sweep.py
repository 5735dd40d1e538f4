"""A grid computes nothing twice and loses nothing."""

import errno
import json
import os
from pathlib import Path

import pytest

from mlflow_project.cli.main import run
from mlflow_project.tracking.journal.spool import FileSpool
from tests.support.tiny import move, options, sweep_runs, table, weights

pytestmark = pytest.mark.usefixtures("unrendered")


def test_a_forked_model_is_bit_for_bit_the_one_that_is_trained_alone(
    tiny: Path, store: str, tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["sweep", "--lr", "0.03", "--epochs", "1,2", *options(tiny)]) == 0
    (parent,), (short, long) = sweep_runs(store)
    sweep_weights = weights(store)

    alone = move(tmp_path / "alone", migrated_store, monkeypatch)
    for epochs in ("1", "2"):
        assert run(["train", "--lr", "0.03", "--epochs", epochs, *options(tiny)]) == 0
    assert weights(alone) == sweep_weights

    from mlflow import MlflowClient

    client = MlflowClient(store, registry_uri=store)
    seconds = {}
    for trial, epochs in ((short, 1), (long, 2)):
        assert trial.tags["mlflow.parentRunId"] == parent.run_id
        history = client.get_metric_history(trial.run_id, "epoch_seconds")
        assert [point.step for point in history] == list(range(1, epochs + 1))
        seconds[epochs] = [point.value for point in history]
        assert trial.metrics["train_seconds"] == pytest.approx(sum(seconds[epochs]))
        (version,) = client.search_model_versions(f"run_id = '{trial.run_id}'")
        assert version.tags["weights_sha256"] == trial.tags["weights_sha256"]
        assert {"loss_curve.png", "confusion_matrix.png"} <= {
            file.path for file in client.list_artifacts(trial.run_id)
        }
    assert seconds[2][:1] == seconds[1]
    assert long.run_id in short.tags["shares_training_with"]
    assert f"lr=0.03 epochs=1 dataset={tiny} ({short.run_id})" == long.tags["shares_training_with"]
    assert parent.status == "FINISHED"
    assert "2 epochs in 1 job; without sharing there would be 3" in parent.tags["mlflow.note.content"]
    assert "report.html" in [file.path for file in client.list_artifacts(parent.run_id)]
    rows_ = table(store, parent.run_id)
    assert [(row["run_id"], row["state"]) for row in rows_] == [
        (short.run_id, "trained"),
        (long.run_id, "trained"),
    ]


def test_the_same_sweep_again_does_only_what_is_missing(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", "--lr", "0.03", "--epochs", "1", *options(tiny)]) == 0
    (first,), (trial,) = sweep_runs(store)
    capsys.readouterr()

    more = ["sweep", "--lr", "0.03", "--epochs", "1,2", *options(tiny), "--format", "json"]
    assert run([*more, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    plan = {row["epochs"]: row for row in json.loads(out)}
    assert (plan[1]["state"], plan[1]["run_id"]) == ("completed", trial.run_id)
    assert (plan[2]["state"], plan[2]["shared"], plan[2]["epochs_trained"]) == ("missing", 1, 1)
    assert "to do: 1 epoch in 1 job (2 without sharing), about" in err
    assert len(sweep_runs(store)[0]) == 1

    assert run(more) == 0
    out, err = capsys.readouterr()
    assert [(row["state"]) for row in json.loads(out)] == ["reused", "trained"]
    assert "epoch 1/2" not in err
    assert "epoch 2/2" in err
    assert list(weights(store)) == ["lr=0.03 epochs=1 seed=0", "lr=0.03 epochs=2 seed=0"]
    longer = sweep_runs(store)[1][-1]
    assert longer.tags["shares_training_with"] == f"lr=0.03 epochs=1 dataset={tiny} ({trial.run_id})"

    assert run(more) == 0
    out, err = capsys.readouterr()
    assert [(row["state"]) for row in json.loads(out)] == ["reused", "reused"]
    parents, trials_ = sweep_runs(store)
    assert len(trials_) == 2
    assert first.run_id == parents[0].run_id
    assert len(parents) == 3
    assert f"run {trial.run_id}" in parents[2].tags["mlflow.note.content"]


def test_a_dry_run_leaves_nothing(
    tiny: Path, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "--lr", "0.1,0.01", "--epochs", "5,8", *options(tiny), "--dry-run", "--format", "csv"]
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert "4 trials, 0 done or running; to do: 16 epochs in 2 jobs (26 without sharing)" in err
    assert ", about " in err  # a few batches have told
    assert sweep_runs(store) == ([], [])
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be_written_is_one_line(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_PROJECT_STATE", str(tmp_path / "file" / "state"))
    assert run(["sweep", "--lr", "0.03", "--epochs", "1", *options(tiny)]) == 1
    assert (
        "can't be written: Not a directory; free disk space, or set MLFLOW_PROJECT_STATE"
        in capsys.readouterr().err
    )


def test_a_trial_that_fails_does_not_stop_the_others(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "--lr", "1e30,0.03", "--epochs", "1", *options(tiny)]
    assert run(command) == 1
    _, err = capsys.readouterr()
    assert "1 of 2 trials failed (lr=1e+30 epochs=1" in err.splitlines()[-1]
    (parent,), runs = sweep_runs(store)
    assert {r.params["lr"]: r.status for r in runs} == {"1e+30": "FAILED", "0.03": "FINISHED"}
    assert parent.status == "FAILED"

    assert run(command) == 1  # tries the failed one again, in the same run of the same sweep
    assert "reused" in capsys.readouterr().out
    (again,), runs_again = sweep_runs(store)
    assert again.run_id == parent.run_id
    assert {r.run_id for r in runs_again} == {r.run_id for r in runs}


def test_a_sweep_whose_table_finds_no_room_has_failed_and_goes_on_when_there_is_some(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full_for_tables(self: FileSpool, source: Path, target: Path) -> None:
        if source.name == "sweep.csv":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(self, source, target)

    copy = FileSpool._copy
    command = ["sweep", "--lr", "0.03", "--epochs", "1", *options(tiny)]
    with monkeypatch.context() as patch:
        patch.setattr(FileSpool, "_copy", full_for_tables)
        assert run(command) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("Error: 1 value of the run isn't saved, because")
    assert message.endswith("free disk space there, and start the same sweep again")
    (parent,), (trial,) = sweep_runs(store)
    assert (parent.status, trial.status) == ("FAILED", "FINISHED")
    assert "No space left on device" in parent.tags["reason"]

    assert run(command) == 0
    (again,), (same,) = sweep_runs(store)
    assert (again.run_id, again.status, same.run_id) == (parent.run_id, "FINISHED", trial.run_id)
    assert table(store, parent.run_id)


def test_a_run_that_was_deleted_is_missing(tiny: Path, store: str) -> None:
    from mlflow import MlflowClient

    command = ["sweep", "--lr", "0.03", "--epochs", "1", *options(tiny)]
    assert run(command) == 0
    _, (deleted,) = sweep_runs(store)
    MlflowClient(store, registry_uri=store).delete_run(deleted.run_id)
    assert run(command) == 0
    _, (trial,) = sweep_runs(store)
    assert trial.run_id != deleted.run_id
    assert trial.tags["weights_sha256"] == deleted.tags["weights_sha256"]

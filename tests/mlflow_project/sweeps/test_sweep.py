"""A grid computes nothing twice, loses nothing, and ends the same however often it was killed."""

import errno
import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from hw2.training.checkpoint import previous_path
from hw2.training.config import TrainingConfig
from mlflow_project.cli.main import run
from mlflow_project.sweeps.plan import Grid, SweepPlan, make_plan
from mlflow_project.tracking.journal.spool import FileSpool
from tests.support.sweeps import begin, start
from tests.support.tiny import VALIDATION, full, kept, move, options, table, weights


def test_a_forked_model_is_bit_for_bit_the_one_that_is_trained_alone(
    tiny: Path, store: str, tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["sweep", "--lr", "0.03", "--epochs", "1,2", *options(tiny)]) == 0
    (parent,), (short, long) = kept(store)
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
    (first,), (trial,) = kept(store)
    capsys.readouterr()

    more = ["sweep", "--lr", "0.03", "--epochs", "1,2", *options(tiny), "--format", "json"]
    assert run([*more, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    plan = {row["epochs"]: row for row in json.loads(out)}
    assert (plan[1]["state"], plan[1]["run_id"]) == ("completed", trial.run_id)
    assert (plan[2]["state"], plan[2]["shared"], plan[2]["epochs_trained"]) == ("missing", 1, 1)
    assert "to do: 1 epoch in 1 job (2 without sharing), about" in err
    assert len(kept(store)[0]) == 1

    assert run(more) == 0
    out, err = capsys.readouterr()
    assert [(row["state"]) for row in json.loads(out)] == ["reused", "trained"]
    assert "epoch 1/2" not in err
    assert "epoch 2/2" in err
    assert list(weights(store)) == ["lr=0.03 epochs=1 seed=0", "lr=0.03 epochs=2 seed=0"]
    longer = kept(store)[1][-1]
    assert longer.tags["shares_training_with"] == f"lr=0.03 epochs=1 dataset={tiny} ({trial.run_id})"

    assert run(more) == 0
    out, err = capsys.readouterr()
    assert [(row["state"]) for row in json.loads(out)] == ["reused", "reused"]
    parents, trials_ = kept(store)
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
    assert kept(store) == ([], [])
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
    (parent,), runs = kept(store)
    assert {r.params["lr"]: r.status for r in runs} == {"1e+30": "FAILED", "0.03": "FINISHED"}
    assert parent.status == "FAILED"

    assert run(command) == 1  # tries the failed one again, in the same run of the same sweep
    assert "reused" in capsys.readouterr().out
    (again,), runs_again = kept(store)
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
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("Error: 1 value of the run isn't saved, because")
    assert said.endswith("free disk space there, and start the same sweep again")
    (parent,), (trial,) = kept(store)
    assert (parent.status, trial.status) == ("FAILED", "FINISHED")
    assert "No space left on device" in parent.tags["reason"]

    assert run(command) == 0
    (again,), (same,) = kept(store)
    assert (again.run_id, again.status, same.run_id) == (parent.run_id, "FINISHED", trial.run_id)
    assert table(store, parent.run_id)


@pytest.mark.parametrize("previous", [True, False])
def test_a_damaged_state_is_said_and_the_sweep_goes_on_from_one_before_it(
    previous: bool,
    tiny: Path,
    store: str,
    tmp_path: Path,
    migrated_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    command = ["sweep", "--lr", "0.03", "--epochs", "3", *options(tiny)]
    with monkeypatch.context() as patch:
        patch.setattr(FileSpool, "_copy", full)
        assert run(command) == 1
    (saved,) = (tmp_path / "state").glob("runs/*/checkpoint.pt")
    os.truncate(saved, saved.stat().st_size // 2)
    if not previous:
        previous_path(saved).unlink()
    capfd.readouterr()
    assert run(command) == 0
    (said,) = [line for line in capfd.readouterr().err.splitlines() if "is damaged" in line]
    assert said.startswith(f"Warning: {saved} is damaged")
    assert said.endswith("the one before it can serve" if previous else "no other can serve")
    damaged = weights(store)
    whole = move(tmp_path / "whole", migrated_store, monkeypatch)
    assert run(command) == 0
    assert weights(whole) == damaged


def test_a_run_that_was_deleted_is_missing(tiny: Path, store: str) -> None:
    from mlflow import MlflowClient

    command = ["sweep", "--lr", "0.03", "--epochs", "1", *options(tiny)]
    assert run(command) == 0
    _, (deleted,) = kept(store)
    MlflowClient(store, registry_uri=store).delete_run(deleted.run_id)
    assert run(command) == 0
    _, (trial,) = kept(store)
    assert trial.run_id != deleted.run_id
    assert trial.tags["weights_sha256"] == deleted.tags["weights_sha256"]


@pytest.mark.process
def test_a_sweep_that_is_killed_three_times_ends_like_one_that_was_not(
    tiny: Path, store: str, tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)
    command = ["sweep", "--lr", "0.03,0.02", "--epochs", "3,12", *options(tiny)]
    kills, longest = 0, 20.0
    while kills < 3:
        wait = chance.uniform(0, longest)
        with start(command) as process:
            try:
                process.communicate(timeout=wait)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        # It was done before. What is left to be killed is a sweep of which nothing is kept.
        assert process.returncode == 0
        longest = wait
        store = move(tmp_path / f"after {wait}", migrated_store, monkeypatch)
        kills = 0
    assert run(command) == 0
    assert run(["sync"]) == 0
    # Where a kill met a sweep that had said all and was only about to exit, the next is a run of its own.
    parents, trials_ = kept(store)
    assert {parent.status for parent in parents} == {"FINISHED"}
    assert len({parent.tags["sweep_sha256"] for parent in parents}) == 1
    survived = weights(store)
    client = MlflowClient(store, registry_uri=store)
    versions = client.search_model_versions()
    assert sorted(version.run_id for version in versions) == sorted(trial.run_id for trial in trials_)

    undisturbed = move(tmp_path / "undisturbed", migrated_store, monkeypatch)
    assert run(command) == 0
    assert weights(undisturbed) == survived


@pytest.mark.process
def test_a_sweep_with_workers_that_is_asked_to_end_marks_its_runs_and_goes_on_later(
    tiny: Path, store: str, tmp_path: Path
) -> None:
    command = ["sweep", "--lr", "0.03,0.02", "--epochs", "60", "--workers", "2", *options(tiny)]
    with begin(command, tmp_path / "state") as process:
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM" in err.splitlines()[-1]
    assert "run the same command again to resume" in err.splitlines()[-1]
    (parent,), trials_ = kept(store)
    assert {parent.status, *(trial.status for trial in trials_)} == {"KILLED"}
    assert parent.tags["status"] == "interrupted"
    plan = make_plan_of(tiny, (0.03, 0.02), (60,), store)
    assert {trial.state for trial in plan.trials} <= {"resumable", "missing"}
    assert sum(job.start > (0, 0) for job in plan.jobs) >= 1


@pytest.mark.process
def test_workers_of_a_killed_sweep_end_by_themselves_and_another_takes_their_runs_over(
    tiny: Path, store: str, tmp_path: Path
) -> None:
    command = ["sweep", "--lr", "0.03,0.02", "--epochs", "5", *options(tiny)]
    with begin([*command, "--workers", "2"], tmp_path / "state") as process:
        process.kill()
    assert run(command) == 0
    (parent,), trials_ = kept(store)
    assert len(weights(store)) == 2
    assert any(trial.tags["resumed"] != "0" for trial in trials_)
    assert {row["state"] for row in table(store, parent.run_id)} <= {"trained", "resumed"}


def test_a_sweep_while_the_server_is_away_is_kept_and_not_done_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    mlflow.set_tracking_uri("http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for place in (
        "sweeps.executors.DELIVERY_SECONDS",
        "sweeps.parent_run.KILLED_DELIVERY_SECONDS",
    ):
        monkeypatch.setattr(f"mlflow_project.{place}", 0.1)
    command = ["sweep", "--lr", "0.03", "--epochs", "1", *options(tiny)]
    assert run(command) == 0
    err = capsys.readouterr().err
    assert "only runs of this machine can be reused" in err
    assert "log entries not uploaded" in err
    assert run(command) == 0
    assert "reused" in capsys.readouterr().out


def test_a_trial_whose_process_died_before_its_delivery_is_delivered_by_the_next_sweep(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow_project.tracking.delivery.uploader import JournalUploader

    def away(self: JournalUploader) -> bool:
        raise ConnectionError("Connection refused")

    command = ["sweep", "--lr", "0.03", "--epochs", "1", *options(tiny)]
    with monkeypatch.context() as patch:
        patch.setattr(JournalUploader, "step", away)
        for place in ("sweeps.executors.DELIVERY_SECONDS", "sweeps.parent_run.KILLED_DELIVERY_SECONDS"):
            patch.setattr(f"mlflow_project.{place}", 0.1)
        assert run(command) == 0
    assert "log entries not uploaded" in capsys.readouterr().err

    assert run(command) == 0
    out, err = capsys.readouterr()
    assert "reused" in out
    assert "not uploaded" not in err
    parents, (trial,) = kept(store)
    assert (trial.status, trial.tags["status"]) == ("FINISHED", "completed")
    assert trial.tags["mlflow.parentRunId"] == parents[0].run_id
    (row,) = table(store, parents[1].run_id)
    assert (row["run_id"], row["state"]) == (trial.run_id, "reused")


@pytest.mark.parametrize("registered", [False, True])
def test_an_undelivered_trial_that_is_to_have_an_alias_is_registered_without_a_sync_first(
    registered: bool, tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from mlflow_project.sweeps.request import SweepSpec
    from mlflow_project.sweeps.sweep import run_request
    from mlflow_project.tracking.delivery.uploader import JournalUploader

    def away(self: JournalUploader) -> bool:
        raise ConnectionError("Connection refused")

    register = "--register" if registered else "--no-register"
    with monkeypatch.context() as patch:
        patch.setattr(JournalUploader, "step", away)
        for place in ("sweeps.executors.DELIVERY_SECONDS", "sweeps.parent_run.KILLED_DELIVERY_SECONDS"):
            patch.setattr(f"mlflow_project.{place}", 0.1)
        assert run(["sweep", "--lr", "0.03", "--epochs", "1", register, *options(tiny)]) == 0
    config = TrainingConfig(lr=0.03, epochs=1, dataset=str(tiny), validation_size=VALIDATION, threads=1)
    result = run_request(SweepSpec(name="named", configs=[config], aliases={config: ("m9",)}))
    result.raise_failure()
    (trial,) = result.results.values()
    # One that its own delivery registers is not done again; the other begins, and ends, at the end of the first.
    assert trial.state == ("reused" if registered else "trained")
    (version,) = MlflowClient(store, registry_uri=store).search_model_versions("name = 'tiny-base-cnn'")
    assert version.run_id == trial.run_id
    assert result.plan.epochs == 0


def make_plan_of(tiny: Path, lr: tuple[float, ...], epochs: tuple[int, ...], uri: str) -> SweepPlan:
    """What a sweep over this grid would do now."""
    from mlflow_project.sweeps.existing_runs import ExperimentIndex
    from mlflow_project.tracking.delivery.client import connect
    from mlflow_project.training import inputs

    base = TrainingConfig(dataset=str(tiny), validation_size=VALIDATION, threads=1)
    _, loaded = inputs.load(base)
    return make_plan(
        Grid(base=base, lr=lr, epochs=epochs, batch_size=(64,), seed=(0,)).configs(),
        loaded.dataset.identity,
        ExperimentIndex(connect(uri)),
    )


@pytest.mark.parametrize("text", ["{}", "lr=0.1 ({}), lr=0.2 (1f00)"])
def test_a_run_that_is_named_by_its_journal_is_named_by_its_id_in_mlflow(text: str, store: str) -> None:
    from mlflow import MlflowClient

    from mlflow_project.common.names import JOURNAL_REFERENCE
    from mlflow_project.tracking.delivery.background import deliver
    from mlflow_project.tracking.journal.entities import RunEnded, Tag
    from mlflow_project.tracking.journal.locks import FileLock
    from mlflow_project.tracking.journal.writer import Journal

    # Each names the other, as runs do that share a training.
    one, other = Journal.create(store, "grid", "one"), Journal.create(store, "grid", "other")
    for journal, named in ((one, other), (other, one)):
        journal.append(Tag("named", text.format(JOURNAL_REFERENCE + named.header.key)), RunEnded())
        journal.close()
    with FileLock(other.folder / "sending.lock"):
        early = deliver(one.folder)
    assert "isn't in MLflow yet" in (early.problem or "")
    deliveries = deliver(one.folder), deliver(other.folder)
    assert all(delivery.complete for delivery in deliveries)
    client = MlflowClient(store, registry_uri=store)
    ids = [str(delivery.run_id) for delivery in deliveries]
    for run_id, named_id in (ids, ids[::-1]):
        run = client.get_run(run_id)
        assert run.data.tags["named"] == text.format(named_id)
        assert run.info.status == "FINISHED"


def test_a_reference_to_no_journal_stays_as_it_is(store: str) -> None:
    from mlflow import MlflowClient

    from mlflow_project.tracking.delivery.background import deliver
    from mlflow_project.tracking.journal.entities import Tag
    from mlflow_project.tracking.journal.writer import Journal

    text = "journal:x and journal:20240101T000000-000-0123456789ab"
    journal = Journal.create(store, "grid", "one")
    journal.append(Tag("named", text))
    journal.close()
    run_id = str(deliver(journal.folder).run_id)
    assert MlflowClient(store, registry_uri=store).get_run(run_id).data.tags["named"] == text

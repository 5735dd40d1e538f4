"""A sweep ends the same however often it was killed, stopped, or found its state damaged."""

import os
from pathlib import Path

import pytest

from hw2.training.checkpoint import previous_path
from hw2.training.config import TrainingConfig
from mlflow_project.cli.main import run
from mlflow_project.sweeps.plan import Grid, SweepPlan, make_plan
from mlflow_project.tracking.journal.spool import FileSpool
from tests.support.sweeps import begin, kill_three_times
from tests.support.tiny import VALIDATION, full, move, options, sweep_runs, table, weights

pytestmark = pytest.mark.usefixtures("unrendered")


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
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if "is damaged" in line]
    assert warning.startswith(f"Warning: {saved} is damaged")
    assert warning.endswith("the one before it can serve" if previous else "no other can serve")
    damaged = weights(store)
    whole = move(tmp_path / "whole", migrated_store, monkeypatch)
    assert run(command) == 0
    assert weights(whole) == damaged


@pytest.mark.process
def test_a_sweep_that_is_killed_three_times_ends_like_one_that_was_not(
    tiny: Path, store: str, tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    command = ["sweep", "--lr", "0.03,0.02", "--epochs", "3,12", *options(tiny)]
    store = kill_three_times(command, store, lambda name: move(tmp_path / name, migrated_store, monkeypatch))
    assert run(command) == 0
    assert run(["sync"]) == 0
    # Where a kill met a sweep that had said all and was only about to exit, the next is a run of its own.
    parents, trials_ = sweep_runs(store)
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
    (parent,), trials_ = sweep_runs(store)
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
    (parent,), trials_ = sweep_runs(store)
    assert len(weights(store)) == 2
    assert any(trial.tags["resumed"] != "0" for trial in trials_)
    assert {row["state"] for row in table(store, parent.run_id)} <= {"trained", "resumed"}


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

"""How runs end that share a training: each by itself, and by a signal only where something is left to stop."""

import signal
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_project.cli.main import run
from mlflow_project.tracking.delivery.uploader import JournalUploader
from mlflow_project.training.tracked_run import TrackedRun
from tests.support.tiny import options, sweep_runs

pytestmark = pytest.mark.usefixtures("unrendered")


def stopped_before(method: str, patch: pytest.MonkeyPatch) -> None:
    """A SIGTERM comes whenever a run does this."""
    unpatched = getattr(TrackedRun, method)

    def signalled(self: TrackedRun, *arguments: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        unpatched(self, *arguments)

    patch.setattr(TrackedRun, method, signalled)


def out_of_reach(patch: pytest.MonkeyPatch) -> None:
    def away(self: JournalUploader) -> bool:
        raise ConnectionError("Connection refused")

    patch.setattr(JournalUploader, "step", away)
    for place in ("training.shared_training", "sweeps.group_run"):
        patch.setattr(f"mlflow_project.{place}.KILLED_DELIVERY_SECONDS", 0.1)


def test_a_run_that_cannot_be_completed_does_not_end_the_training_of_the_others(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    complete = TrackedRun.complete

    def full(self: TrackedRun, *arguments: object) -> None:
        if self.plan.config.epochs == 1:
            raise OSError(28, "No space left on device", "model.pt2")
        complete(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TrackedRun, "complete", full)
    assert run(["sweep", "--lr", "0.03", "--epochs", "1,2", *options(tiny)]) == 1
    assert "1 of 2 trials failed (lr=0.03 epochs=1" in capsys.readouterr().err.splitlines()[-1]
    _, trials = sweep_runs(store)
    assert {trial.params["epochs"]: trial.status for trial in trials} == {"1": "FAILED", "2": "FINISHED"}
    (failed,) = [trial for trial in trials if trial.status == "FAILED"]
    assert (
        failed.tags["reason"]
        == "No space left on device: model.pt2; free disk space there and resume the run"
    )


def test_a_signal_that_comes_when_all_is_trained_leaves_the_result(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_before("complete", monkeypatch)
    assert run(["train", "--lr", "0.03", "--epochs", "1", *options(tiny)]) == 0
    assert "lr=0.03 epochs=1" in capsys.readouterr().out
    _, (trial,) = sweep_runs(store)
    assert (trial.status, trial.tags["status"]) == ("FINISHED", "completed")


def test_a_sweep_without_a_report_says_why(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", "--lr", "0.03", "--epochs", "1", *options(tiny)]) == 0
    (parent,), _ = sweep_runs(store)
    assert (
        "no report added to the sweep: a report takes 2 to 20 complete trials, and there are 1; make one with: "
        f"mlflow-project report --sweep {parent.run_id}" in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_run_that_is_stopped_while_the_server_is_away_says_what_isn_t_delivered(
    command: str, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out_of_reach(monkeypatch)
    stopped_before("epoch", monkeypatch)
    assert run([command, "--lr", "0.03", "--epochs", "2", *options(tiny)]) == 143
    lines = capsys.readouterr().err.splitlines()
    (warning,) = [line for line in lines if "not uploaded" in line]
    assert warning.endswith("upload with: mlflow-project sync")
    assert "stopped by SIGTERM" in lines[-1]


def test_a_sweep_that_goes_on_and_the_run_made_for_it_name_each_other(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["sweep", "--lr", "1e30", "--epochs", "1", *options(tiny)]
    assert run(command) == 1
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("mnist-base-cnn")
    assert experiment is not None
    made = client.create_run(experiment.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    assert run(command) == 1
    (parent,), _ = sweep_runs(store)
    assert parent.tags["resumed_by"] == made
    orphan = client.get_run(made)
    assert orphan.data.tags["resumes"] == parent.run_id
    assert orphan.info.run_name == "resumed sweep lr=1e+30 epochs=1"
    assert orphan.info.status == "FAILED"

"""What a sweep could not upload, or was not to register, is reused, uploaded and registered by the next."""

from pathlib import Path

import pytest

from hw2.training.config import TrainingConfig
from mlflow_project.cli.main import run
from tests.support.tiny import VALIDATION, options, sweep_runs, table

pytestmark = pytest.mark.usefixtures("unrendered")


def test_a_sweep_while_the_server_is_away_is_kept_and_not_done_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    mlflow.set_tracking_uri("http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for place in (
        "sweeps.executors.DELIVERY_SECONDS",
        "sweeps.group_run.KILLED_DELIVERY_SECONDS",
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
        for place in ("sweeps.executors.DELIVERY_SECONDS", "sweeps.group_run.KILLED_DELIVERY_SECONDS"):
            patch.setattr(f"mlflow_project.{place}", 0.1)
        assert run(command) == 0
    assert "log entries not uploaded" in capsys.readouterr().err

    assert run(command) == 0
    out, err = capsys.readouterr()
    assert "reused" in out
    assert "not uploaded" not in err
    parents, (trial,) = sweep_runs(store)
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
        for place in ("sweeps.executors.DELIVERY_SECONDS", "sweeps.group_run.KILLED_DELIVERY_SECONDS"):
            patch.setattr(f"mlflow_project.{place}", 0.1)
        assert run(["sweep", "--lr", "0.03", "--epochs", "1", register, *options(tiny)]) == 0
    config = TrainingConfig(lr=0.03, epochs=1, dataset=str(tiny), validation_size=VALIDATION, threads=1)
    result = run_request(SweepSpec(name="named", configs=[config], aliases={config: ("m9",)}))
    result.raise_failure()
    (trial,) = result.results.values()
    assert trial.state == "reused"
    (version,) = MlflowClient(store, registry_uri=store).search_model_versions("name = 'tiny-base-cnn'")
    assert version.run_id == trial.run_id
    assert result.plan.epochs == 0


def test_trials_that_were_trained_without_it_are_registered_as_they_are(tiny: Path, store: str) -> None:
    from mlflow import MlflowClient

    grid = ["sweep", "--lr", "0.03,0.1", "--epochs", "1", *options(tiny)]
    assert run([*grid, "--no-register"]) == 0
    client = MlflowClient(store, registry_uri=store)
    assert client.search_model_versions() == []
    _, trained = sweep_runs(store)
    for _ in range(2):
        assert run(grid) == 0
        _, trials = sweep_runs(store)
        assert [trial.run_id for trial in trials] == [trial.run_id for trial in trained]
        versions = client.search_model_versions("name = 'tiny-base-cnn'")
        assert {version.run_id for version in versions} == {trial.run_id for trial in trained}
        assert len(versions) == 2
    assert {version.tags["lr"] for version in versions} == {"0.03", "0.1"}
    assert all(f"models:/tiny-base-cnn/{version.version}" in version.description for version in versions)
    assert run(["models", "verify", "--all"]) == 0

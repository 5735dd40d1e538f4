"""The run that MLFLOW_RUN_ID names: taken if it is free, else left exactly as it is, by every command."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_project.cli import main
from mlflow_project.common.names import CLAIM_TAG
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.journal import local_runs
from tests.support.tiny import only_run, options

pytestmark = pytest.mark.usefixtures("unrendered")


def error_line(capfd: pytest.CaptureFixture[str]) -> str:
    """The last line of stderr."""
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def everything(store: str, run_id: str) -> dict[str, Any]:
    """A run with all that is written on it."""
    found: dict[str, Any] = open_client(store).get_run(run_id).to_dictionary()
    return found


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_finished_run_is_not_written_to_again(
    command: str,
    tiny: Path,
    store: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main.run(["train", "--lr", "0.1", "--epochs", "1", *options(tiny)]) == 0
    finished = only_run(store).info.run_id
    before, folders = everything(store, finished), local_runs.folders()
    capfd.readouterr()
    monkeypatch.setenv("MLFLOW_RUN_ID", finished)
    assert main.run([command, "--lr", "0.01", "--epochs", "1", *options(tiny)]) == 1
    assert f"run {finished} belongs to another process already" in error_line(capfd)
    assert everything(store, finished) == before
    assert local_runs.folders() == folders
    assert len(open_client(store).search_model_versions()) == 1


def test_a_parameter_that_differs_is_refused_and_the_run_stays_running(
    tiny: Path, store: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store)
    made = client.create_run("0").info.run_id
    client.log_param(made, "lr", "0.2")
    before = everything(store, made)
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    assert main.run(["train", "--lr", "0.1", "--epochs", "1", *options(tiny)]) == 1
    assert "has the parameter lr=0.2, and this one would be 0.1; unset MLFLOW_RUN_ID" in error_line(capfd)
    assert everything(store, made) == before


def test_parameters_are_the_run_s_own_however_mlflow_run_has_written_them(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store)
    made = client.create_run("0").info.run_id
    given = {"augment": "shift,flip", "nesterov": "yes", "momentum": "9e-1", "weight_decay": "5e-4"}
    for key, value in given.items():
        client.log_param(made, key, value)
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    words = [word for key, value in given.items() for word in (f"--{key}", value)]
    assert main.run(["train", "--epochs", "1", *words, *options(tiny)]) == 0
    run = client.get_run(made)
    assert run.info.status == "FINISHED"
    assert run.data.params.items() >= given.items()


@pytest.mark.parametrize("status", ["FINISHED", "RUNNING"])
@pytest.mark.parametrize("command", [["models", "show", "nope"], ["compare"], ["train", "--epochs", "0"]])
def test_a_command_that_fails_ends_no_run_of_somebody_else(
    status: str,
    command: list[str],
    store: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = MlflowClient(store)
    made = client.create_run("0", tags={"status": "theirs", "journal_key": "theirs"}).info.run_id
    if status == "FINISHED":
        client.set_terminated(made, status)
    before = everything(store, made)
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    assert main.run(command) in (1, 2)
    assert everything(store, made) == before


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("MLFLOW_RUN_ID", "garbage", "32 hexadecimal digits"),
        ("MLFLOW_RUN_ID", "0" * 32, "isn't in the store"),
        ("MLFLOW_TRACKING_URI", "./mlruns2", "a folder, which MLflow takes no more"),
        ("MLFLOW_TRACKING_URI", "  http://127.0.0.1:9", "with blanks around it"),
        ("MLFLOW_TRACKING_URI", "htp://127.0.0.1:9", "a kind of store that MLflow doesn't know"),
        ("MLFLOW_TRACKING_URI", "sqlite:///nowhere/mlflow.db", "can't be opened: there is not a folder"),
        ("MLFLOW_TRACKING_URI", "sqlite:///.", "can't be opened (it is no file)"),
        ("MLFLOW_EXPERIMENT_ID", "4711", "has no such experiment"),
    ],
)
def test_what_can_never_be_delivered_is_refused_before_the_training(
    variable: str,
    value: str,
    named: str,
    tiny: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    assert main.run(["train", "--epochs", "1", *options(tiny)]) in (1, 2)
    assert named in error_line(capfd)
    assert local_runs.folders() == []
    assert not Path("mlruns2").exists()


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_all_runs_of_a_command_are_in_the_experiment_that_the_variables_name_by_id(
    command: str,
    tiny: Path,
    tmp_path: Path,
    store: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = MlflowClient(store)
    artifacts = tmp_path / "elsewhere"
    experiment = client.create_experiment("foo", artifacts.as_uri())
    given = client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mnist-base-cnn")
    assert main.run([command, "--epochs", "1", *options(tiny)]) == 0
    assert client.get_experiment_by_name("mnist-base-cnn") is None
    runs = client.search_runs([experiment])
    assert len(runs) == {"train": 1, "sweep": 2}[command]
    assert all(run.info.artifact_uri.startswith(artifacts.as_uri()) for run in runs)
    assert given in [run.info.run_id for run in runs]
    assert not [tag for tag in client.get_run(given).data.tags if tag.startswith(CLAIM_TAG)]
    monkeypatch.delenv("MLFLOW_RUN_ID")
    capfd.readouterr()
    assert main.run(["compare"]) == 1
    assert "only one model, lr=0.001 epochs=1" in error_line(capfd)


def test_a_deleted_experiment_is_refused(
    tiny: Path, store: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store)
    experiment = client.create_experiment("foo")
    client.delete_experiment(experiment)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    assert main.run(["train", "--epochs", "1", *options(tiny)]) == 2
    assert "'foo' that MLFLOW_EXPERIMENT_ID names was deleted" in error_line(capfd)
    assert local_runs.folders() == []
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "foo")
    for command in ("train", "sweep"):
        assert main.run([command, "--epochs", "1", *options(tiny)]) == 2
        assert f"`mlflow experiments restore -x {experiment}` brings it back" in error_line(capfd)
        assert local_runs.folders() == []

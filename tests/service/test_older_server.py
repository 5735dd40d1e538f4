"""A server of MLflow 2.22, which has no logged models: all that it can keep arrives, and the model can be used."""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from mlflow_project.cli.main import run
from mlflow_project.tracking.journal.entities import Metric, RunEnded
from mlflow_project.tracking.journal.writer import Journal
from tests.service.core_install import core_install
from tests.support.ports import free_port
from tests.support.tiny import make_tiny, options

pytestmark = pytest.mark.server

READY_SECONDS = 120


USE = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1], registry_uri=sys.argv[1])
if sys.argv[2] == "fill":
    experiment = client.create_experiment("mnist-base-cnn")
    run = client.create_run(experiment)
    client.set_terminated(run.info.run_id)
    client.create_registered_model("mnist-base-cnn")
    client.create_model_version("mnist-base-cnn", run.info.artifact_uri + "/model", run.info.run_id)
assert [model.name for model in client.search_registered_models()] == ["mnist-base-cnn"]
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of MLflow 2.22 are."""
    return core_install(tmp_path_factory, "oldest").parent


@pytest.fixture(scope="module")
def variables(programs: Path) -> dict[str, str]:
    """An environment without this MLflow's variables."""
    others = {name: text for name, text in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHON"))}
    return {**others, "PATH": f"{programs}:{others['PATH']}"}


@pytest.fixture(scope="module")
def older_server(
    programs: Path, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server that runs in an environment of its own."""
    folder = tmp_path_factory.mktemp("older")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        programs / "mlflow", "server", "--host", "127.0.0.1", "--port", url.rpartition(":")[2], "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, env=variables, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:  # refused, or silent while it is loaded
                assert server.poll() is None, (folder / "log").read_text(encoding="utf-8")
                assert time.monotonic() < deadline, (folder / "log").read_text(encoding="utf-8")
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # alone, it would leave gunicorn behind
        server.wait(60)


Use = Callable[[str], int]


@pytest.fixture
def older_store(programs: Path, variables: dict[str, str], tmp_path: Path) -> tuple[str, Use]:
    """The address of a store, and what fills it or looks at it with MLflow 2.22; that returns its exit status."""
    uri = f"sqlite:///{tmp_path}/older.db"

    def use(verb: str) -> int:
        command = [programs / "python", "-c", USE, uri, verb]
        return subprocess.run(command, env=variables, capture_output=True, timeout=300).returncode

    return uri, use


def test_a_training_ends_and_its_model_is_registered_from_the_run_s_artifacts(
    older_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", older_server)
    assert run(["train", "--lr", "0.03", "--epochs", "1", *options(make_tiny(tmp_path / "tiny"))]) == 0
    assert capsys.readouterr().err.count("the server keeps no logged models") == 1
    client = MlflowClient(older_server, registry_uri=older_server)
    (version,) = client.search_model_versions("")
    stored = client.get_run(version.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.tags["status"] == "completed"
    assert version.source == f"{stored.info.artifact_uri}/model"
    listed = mlflow.artifacts.list_artifacts(artifact_uri=version.source, tracking_uri=older_server)
    assert "model/MLmodel" in [file.path for file in listed]
    assert len(client.get_metric_history(version.run_id, "train_loss")) == 1

    name = ["--name", version.name]
    assert run(["models", "verify", version.version, *name]) == 0
    assert run(["models", "show", version.version, *name]) == 0
    assert run(["models", "promote", "--best", *name]) == 0
    assert run(["models", "verify", "champion", *name]) == 0
    capsys.readouterr()
    assert run(["sweep", "--lr", "0.03", "--epochs", "1", *options(tmp_path / "tiny")]) == 0
    assert "no MLflow" not in capsys.readouterr().err
    trained = client.search_runs([stored.info.experiment_id], "params.lr = '0.03'")
    assert [trial.info.run_id for trial in trained] == [version.run_id]  # it was not trained again
    assert run(["sync"]) == 0
    assert run(["status", "--format", "csv"]) == 0
    assert version.run_id not in capsys.readouterr().out


def test_its_store_is_migrated_only_when_that_is_wanted(
    older_store: tuple[str, Use],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri, use = older_store
    assert use("fill") == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    before = (tmp_path / "older.db").read_bytes()
    for command in ("models list", "models show 1", "compare", "train --epochs 1", "sweep --dry-run"):
        assert run(command.split()) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert "was written by an older MLflow" in last
        assert last.endswith("make a backup (mlflow-project backup), then add --migrate")
    assert run(["status"]) == 0
    assert "can't list runs of other hosts" in capsys.readouterr().err
    assert (tmp_path / "older.db").read_bytes() == before
    assert use("look") == 0

    assert run(["models", "list", "--format", "csv", "--migrate"]) == 0
    assert "mnist-base-cnn,1," in capsys.readouterr().out
    assert run(["models", "list"]) == 0
    assert use("look") != 0


def test_what_was_trained_for_it_before_mlflow_was_renewed_is_delivered_when_it_is_migrated(
    older_store: tuple[str, Use],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri, use = older_store
    journal = Journal.create(uri, "mnist-base-cnn", "kept")
    journal.append(Metric("m", 1.0), RunEnded())
    journal.close()
    assert use("fill") == 0
    assert run(["sync"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "then add --migrate" in last
    assert "try again later" not in last
    assert run(["sync", "--as-new"]) == 1
    assert run(["sync", "--migrate"]) == 0
    client = MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("mnist-base-cnn")
    runs = client.search_runs([experiment.experiment_id], "metrics.m = 1")
    assert [found.info.run_name for found in runs] == ["kept"]

"""A server of MLflow 2.22, which has no logged models: all that it can keep arrives, and the model can be used."""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from mlflow_project.cli.main import run
from tests.support.ports import free_port
from tests.support.shared import locked
from tests.support.tiny import make_tiny, options

pytestmark = pytest.mark.server

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 120


@pytest.fixture(scope="module")
def older_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that runs in an environment of its own."""
    folder = tmp_path_factory.mktemp("older")
    with locked(ROOT / ".venv-older.lock"):
        subprocess.run([ROOT / "scripts" / "setup-older-mlflow"], check=True)
    programs = ROOT / ".venv-older" / "bin"
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        programs / "mlflow", "server", "--host", "127.0.0.1", "--port", url.rpartition(":")[2], "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    variables = {
        name: text for name, text in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHON"))
    }
    variables["PATH"] = f"{programs}:{variables['PATH']}"
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

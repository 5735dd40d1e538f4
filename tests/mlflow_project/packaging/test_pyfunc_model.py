"""`mlflow models serve` on a registered model, asked over HTTP as anybody would."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from hw2.data.image_set import load_dataset
from mlflow_project.packaging.pyfunc_model import COLUMNS
from tests.support.ports import free_port

pytestmark = pytest.mark.server

# Read by Python at its start: as on a machine where our packages aren't installed.
HIDDEN = "import sys\nsys.modules['hw2'] = sys.modules['mlflow_project'] = None\n"
READY_SECONDS = 240


@pytest.fixture(scope="module")
def server(registered_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the champion."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "sitecustomize.py").write_text(HIDDEN)
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = ["models", "serve", "-m", "models:/mnist-base-cnn@champion", "--env-manager", "local"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "-p", str(port)],
            cwd=folder,
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": f"sqlite:///{registered_once}/mlflow.db",
                "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
                "PYTHONPATH": str(folder),
                # MLflow starts uvicorn by its name.
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                requests.get(f"{address}/ping", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def ask(server: str, content: dict[str, Any]) -> requests.Response:
    return requests.post(f"{server}/invocations", json=content, timeout=60)


@pytest.mark.parametrize("size", [1, 2, 257])
def test_images_are_answered_with_our_columns(server: str, size: int) -> None:
    images = load_dataset("mnist-sample").test.images[:size]
    response = ask(server, {"inputs": images.tolist()})
    assert response.status_code == 200, response.text
    answers = response.json()["predictions"]
    assert len(answers) == size
    assert {tuple(answer) for answer in answers} == {tuple(COLUMNS)}
    assert all(0 <= answer["label"] <= 9 and isinstance(answer["not_a_digit"], bool) for answer in answers)


@pytest.mark.parametrize(
    "images",
    [[[0] * 28] * 28, [[[0] * 27] * 28], [[[[0] * 28] * 28]], [0], [], "digit", [[[256] * 28] * 28]],
    ids=["no batch", "27 wide", "with a channel", "a number", "nothing", "text", "too white"],
)
def test_what_are_no_images_of_28_x_28_bytes_gets_a_400(server: str, images: Any) -> None:
    response = ask(server, {"inputs": images})
    assert response.status_code == 400, response.text


@pytest.mark.parametrize("content", [{}, {"pictures": []}])
def test_a_request_without_images_gets_a_400(server: str, content: dict[str, Any]) -> None:
    assert ask(server, content).status_code == 400

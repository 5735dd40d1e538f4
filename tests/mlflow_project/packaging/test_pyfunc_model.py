"""`mlflow models serve` on a registered model, asked over HTTP as anybody would."""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import torch

from hw2.common.image_spec import ImageSpec
from hw2.data.image_set import load_dataset
from hw2.models.factory import new_model
from mlflow_project.packaging.model_files import write_model_files
from mlflow_project.packaging.pyfunc_model import COLUMNS
from tests.support.ports import free_port
from tests.support.registered import Registered

pytestmark = pytest.mark.server

# Read by Python at its start: as on a machine where our packages aren't installed.
HIDDEN = "import sys\nsys.modules['hw2'] = sys.modules['mlflow_project'] = None\n"
READY_SECONDS = 240


@contextmanager
def serve(model: str, store: str, folder: Path) -> Iterator[str]:
    """The address of a server of that model."""
    (folder / "sitecustomize.py").write_text(HIDDEN, encoding="utf-8")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = ["models", "serve", "-m", model, "--env-manager", "local"]
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "-p", str(port)],
            cwd=folder,
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": store,
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
                assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
                assert time.monotonic() < deadline, (folder / "log").read_text(encoding="utf-8")
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def server(registered_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the champion."""
    store = f"sqlite:///{registered_once}/mlflow.db"
    with serve("models:/mnist-base-cnn@champion", store, tmp_path_factory.mktemp("serving")) as address:
        yield address


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
    [
        [[0] * 28] * 28,
        [[[0] * 27] * 28],
        [[[[0]] * 28] * 28],
        [[[0] * 28] * 27 + [[0] * 27]],
        [0],
        [],
        "digit",
        [[[256] * 28] * 28],
        [[[-1] * 28] * 28],
        [[[0.5] * 28] * 28],
        [[[1.0] * 27 + [0.25]] * 28],
        [[[None] * 28] * 28],
        [[[True] * 28] * 28],
    ],
    ids=[
        "no batch", "27 wide", "with a channel last", "ragged", "a number", "nothing", "text", "too white", "too black",
        "halves", "one fraction", "null", "true",
    ],
)  # fmt: skip
def test_what_are_no_images_of_28_x_28_bytes_gets_a_400(server: str, images: Any) -> None:
    response = ask(server, {"inputs": images})
    assert response.status_code == 400, response.text
    if images:  # else MLflow itself refuses
        assert (
            "expected images [N, 28, 28] or [N, 1, 28, 28] of whole numbers from 0 (background) to 255 (ink)"
            in response.text
        )


@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_whole_numbers_may_be_written_as_floats(server: str, key: str) -> None:
    images = load_dataset("mnist-sample").test.images[:3]
    whole = ask(server, {"inputs": images.tolist()})
    floats = ask(server, {key: images.double().tolist()})
    assert floats.status_code == 200, floats.text
    assert floats.json() == whole.json()


def test_in_python_whole_numbers_of_any_type_are_taken_and_fractions_never(registered: Registered) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, about its own type hints
        import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(f"models:/{registered.name}@champion")
    images = load_dataset("mnist-sample").test.images[:3].numpy()
    expected = model.predict(images)
    for kind in (np.int64, np.float32, np.float64, object):
        pd.testing.assert_frame_equal(model.predict(images.astype(kind)), expected)
    for wrong in (images / 255, images * np.nan, images.astype(np.int64) + 1, images.astype(np.int64) - 1):
        with pytest.raises(mlflow.MlflowException, match=r"a value of .*; expected images \[N, 28, 28\]"):
            model.predict(wrong)
    with pytest.raises(mlflow.MlflowException, match="multiply by 255"):
        model.predict(images / 255)


@pytest.mark.parametrize("content", [{}, {"pictures": []}])
def test_a_request_without_images_gets_a_400(server: str, content: dict[str, Any]) -> None:
    assert ask(server, content).status_code == 400


@pytest.mark.parametrize(
    ("model", "channels", "wrong"),
    [(None, 3, [[[0] * 12] * 9]), (("resnet20", ""), 1, [[[[0] * 3] * 12] * 9])],
    ids=["color", "grey"],
)
def test_images_in_color_and_grey_ones_of_another_size_are_served_with_their_classes(
    model: tuple[str, str] | None, channels: int, wrong: Any, store: str, tmp_path: Path
) -> None:
    spec = ImageSpec(("ash", "beech", "oak"), channels, 9, 12, (0.5,) * channels, (0.5,) * channels)
    images = np.random.default_rng(3).integers(0, 256, (4, *spec.shape)).astype(np.uint8)
    net = new_model(1, model, spec).eval()
    write_model_files(tmp_path / "model", net, None, torch.from_numpy(images[:2]))
    described = mlflow.models.Model.load(tmp_path / "model")
    assert described.metadata == {"images": f"uint8 {spec.forms}", "classes": ["ash", "beech", "oak"]}
    (tmp_path / "serving").mkdir()
    with serve(str(tmp_path / "model"), store, tmp_path / "serving") as address, torch.no_grad():
        expected = [spec.classes[label] for label in net(torch.from_numpy(images)).argmax(1)]
        for given in (images, images[:, None]) if channels == 1 else (images,):
            response = ask(address, {"inputs": given.tolist()})
            assert response.status_code == 200, response.text
            assert [answer["class"] for answer in response.json()["predictions"]] == expected
        response = ask(address, {"inputs": wrong})
        assert response.status_code == 400
        assert f"expected images {spec.forms} of whole numbers from 0 to 255" in response.text

"""resnet20 and torchvision's nets go from training to a loaded model, and are described as what they are."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from hw2.training.config import TrainingConfig
from mlflow_project.packaging import model_files
from mlflow_project.registry.registered_model import RegisteredModel
from mlflow_project.training.run_spec import RunSpec
from tests.mlflow_project.any_images import KINDS, carry_out

SHORT = ("--batch-size", "50", "--threads", "1", "--precision", "float32", "--epochs", "1", "--warmup", "0")
WITHOUT_US = """
import json, sys
sys.modules["hw2"] = sys.modules["mlflow_project"] = None  # as where they aren't installed
import mlflow.pyfunc, numpy
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(numpy.load(sys.argv[2]))
print(json.dumps(answer["outlier_score"].tolist()))
"""


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    ("model", "name", "description"),
    [
        ("resnet20", "resnet20", "a residual net of 20 layers"),
        pytest.param(
            "torchvision:shufflenet_v2_x0_5",
            "torchvision-shufflenet_v2_x0_5",
            "torchvision's shufflenet_v2_x0_5",
            marks=pytest.mark.campaign,
        ),
    ],
)
def test_a_named_net_goes_through_every_command(
    model: str, name: str, description: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, image = KINDS["8 x 8 digits in an npz"].write(tmp_path)
    options = ("--dataset", path, "--model", model, *SHORT)
    registered = f"digits8-{name}"
    (row,) = json.loads(carry_out(capsys, "train", "--lr", 0.05, *options, "--format", "json"))
    assert row["run"].endswith(f" model={name}")
    assert MlflowClient().get_run(row["run_id"]).data.params["model"] == model
    assert "completed" in carry_out(capsys, "sweep", "--lr", 0.05, *options, "--dry-run")
    client = MlflowClient()
    assert description in client.get_registered_model(registered).description
    card = client.get_model_version(registered, "1").description
    assert description in card
    assert "uint8 [N, 8, 8] or [N, 1, 8, 8]" in card
    assert "verified" in carry_out(capsys, "models", "verify", "--name", registered, 1)
    (answer,) = json.loads(
        carry_out(capsys, "predict", image, "--model", 1, "--name", registered, "--format", "json")
    )
    assert answer["class"] in "0123456789"
    carry_out(capsys, "outliers", "--models", 1, "--name", registered)
    carry_out(capsys, "report", "--models", "1", "--name", registered, "--output", "report.html")
    assert_loads_alone(registered, tmp_path)


@pytest.mark.usefixtures("unrendered")
def test_a_model_that_is_registered_later_is_described_with_its_own_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = KINDS["letters from 1"].write(tmp_path)
    options = ("--dataset", path, "--lr", 0.05, *SHORT)
    carry_out(capsys, "train", *options, "--no-register")
    carry_out(capsys, "sweep", *options, "--register")
    client = MlflowClient()
    described = client.get_registered_model("letters-base-cnn").description
    parameters = 320 + 18_496 + (64 * 6 * 5 + 1) * 26
    assert f"12 x 10 images into 26 classes: BaseCNN, two 3 x 3 convolutions, {parameters:,}" in described
    card = client.get_model_version("letters-base-cnn", "1").description
    assert "uint8 [N, 12, 10] or [N, 1, 12, 10], 0 to 255" in card


def assert_loads_alone(registered: str, folder: Path) -> None:
    """The class, the program and the function without this project agree, and take a channel, too."""
    model = RegisteredModel(name=registered)
    loaded = model.load(model.resolve("1"))
    images = np.random.default_rng(2).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    outputs = loaded.model.forward_features(torch.from_numpy(images))
    assert torch.equal(outputs.logits, loaded.model(torch.from_numpy(images[:, 0])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, about its own type hints
        import mlflow.pytorch
    program = mlflow.pytorch.load_model(f"models:/{registered}/1")
    torch.testing.assert_close(program(torch.from_numpy(images[:, 0])), outputs.logits, rtol=1e-4, atol=1e-4)
    np.save(folder / "images.npy", images)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_US, f"models:/{registered}/1", folder / "images.npy"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        cwd="/",
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert loaded.detector is not None
    expected = loaded.detector.score(outputs)
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, rtol=1e-3)


def test_a_run_s_specification_comes_back_with_its_net() -> None:
    for model in ("resnet20", "torchvision:resnet18"):
        spec = RunSpec(config=TrainingConfig(model=model))
        again = RunSpec.from_json(spec.to_json())
        assert again == spec
        assert again.config.custom_net == (model, "")


def test_files_of_torchvision_s_nets_require_torchvision_and_others_don_t(tmp_path: Path) -> None:
    from hw2.common.image_spec import ImageSpec
    from hw2.models.factory import new_model

    spec = ImageSpec(("a", "b"), 1, 8, 8)
    for number, model in enumerate(("resnet20", "torchvision:shufflenet_v2_x0_5")):
        folder = tmp_path / str(number)
        net = new_model(0, (model, ""), spec).eval()
        model_files.write_model_files(folder, net, None, torch.zeros(2, 8, 8, dtype=torch.uint8))
        assert (folder / "extra_files" / "net.txt").read_text(encoding="utf-8") == model
        pins = (folder / "requirements.txt").read_text(encoding="utf-8")
        assert ("torchvision==" in pins) == model.startswith("torchvision:")
        again, _ = model_files.read_model(folder, "it")
        assert again.custom == (model, "")

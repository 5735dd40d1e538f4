"""What docs/another-model.md says of one's own images and one's own net, done word by word; and what is refused."""

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from hw2.training.config import TrainingConfig
from mlflow_project.cli.main import run
from mlflow_project.training import inputs

PAGE = Path(__file__).resolve().parents[3] / "docs" / "another-model.md"


def block(containing: str) -> str:
    """The page's one block with these words."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    (result,) = [text for text in blocks if containing in text]
    return str(result)


@pytest.fixture
def garden(tmp_path: Path) -> Path:
    """A folder of IDX files as the page writes them, and an image beside it."""
    names: dict[str, Any] = {}
    exec(block("def write_split"), names)
    folder = tmp_path / "garden"
    folder.mkdir()
    random = np.random.default_rng(11)
    patterns = random.integers(0, 255, (10, 28, 28))
    for stem, n in (("train", 600), ("t10k", 200)):
        labels = random.integers(0, 10, n).astype(np.uint8)
        images = (patterns[labels] / 2 + random.integers(0, 128, (n, 28, 28))).astype(np.uint8)
        names["write_split"](folder, stem, images, labels)
    Image.fromarray(images[0]).resize((56, 56)).save(tmp_path / "image.png")
    return folder


def carry_out(line: str) -> None:
    program, *arguments = shlex.split(line)
    assert program == "mlflow-project"
    assert run(arguments) == 0, line


def test_a_folder_of_own_images_goes_through_every_command_of_the_page(
    garden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, promote, predict = block("models promote").splitlines()
    small = sweep.replace("5,8", "1").replace("0.1,0.01", "0.03") + " --validation-size 100 --threads 1"
    for line in (small, promote, predict):
        carry_out(line)
    assert "image.png" in capsys.readouterr().out


SMALL = " --validation-size 100 --threads 1"


def test_a_net_of_ones_own_goes_through_every_command_of_the_page(
    garden: Path, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second command on without the file: what was registered stands alone, and needs no pickle."""
    file = garden.parent / "small_net.py"
    file.write_text(block("class SmallNet"), encoding="utf-8")
    own, base, *after = block("--model small_net.py:SmallNet").splitlines()
    carry_out(own + SMALL)
    file.unlink()
    carry_out(base + SMALL)
    capsys.readouterr()
    for line in after:
        carry_out(line.replace("outliers", "outliers --outliers letters", 1))
    text = capsys.readouterr().out
    assert "epochs=2 dataset=garden model=small-net" in text
    assert re.search(r"garden-small-net +1 +verified", text)
    assert "image.png" in text

    client = MlflowClient()
    version = client.get_model_version("garden-small-net", "1")
    assert version.description.startswith("SmallNet, lr=0.05 epochs=2: ")
    assert "SmallNet, 5,402 parameters" in version.description
    params = client.get_run(version.run_id).data.params
    assert params["model"] == "small_net.py:SmallNet"
    assert "model_source" not in params
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, about its own type hints
        import mlflow.pyfunc
        import mlflow.pytorch
    images = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (3, 28, 28), dtype=np.uint8))
    logits = mlflow.pytorch.load_model("models:/garden-small-net/1")(images)
    answer = mlflow.pyfunc.load_model("models:/garden-small-net/1").predict(images.numpy())
    assert answer["label"].tolist() == logits.argmax(1).tolist()

    carry_out("mlflow-project report --output report.html")
    page = Path("report.html").read_text(encoding="utf-8")
    assert "a SmallNet with 5,402 parameters" in page
    assert "a BaseCNN with 144,266 parameters" in page


def test_the_same_net_is_not_trained_again_and_a_changed_one_is(
    garden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = garden.parent / "small_net.py"
    file.write_text(block("class SmallNet"), encoding="utf-8")
    line = (
        "mlflow-project sweep --dataset garden --lr 0.05 --epochs 1 --model small_net.py:SmallNet --dry-run"
        + SMALL
    )
    carry_out(line.replace(" --dry-run", ""))
    folder = garden.parent / "elsewhere"
    folder.mkdir()
    file.rename(folder / "small_net.py")
    for changed, missing in ((False, 0), (True, 1)):
        if changed:
            text = (folder / "small_net.py").read_text(encoding="utf-8")
            (folder / "small_net.py").write_text(
                text.replace("Dropout(0.1)", "Dropout(0.2)"), encoding="utf-8"
            )
        capsys.readouterr()
        carry_out(line.replace("small_net.py", "elsewhere/small_net.py"))
        assert f"in {missing} job" in capsys.readouterr().err


NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(784, {outputs})
    def forward(self, images):
        return {answer}
"""
GOOD = NET.format(outputs=10, answer="self.last(images.flatten(1))")


@pytest.mark.parametrize(
    ("text", "message", "named"),
    [
        (GOOD, "base-cmn", "torchvision:NAME or FILE.py:CLASS; did you mean base-cnn?"),
        (GOOD, "net.py", "did you mean net.py:Net?"),
        (GOOD, "nets.py:Net", "nets.py can't be read (No such file or directory); did you mean net.py?"),
        (GOOD, "net.py:Nett", "net.py has no class 'Nett'; did you mean net.py:Net?"),
        ("class Net(:", "net.py:Net", "net.py line 1 is not Python"),
        ("class BaseCNN: pass", "net.py:BaseCNN", "the name base-cnn, which is taken"),
        ("import pandas" + GOOD, "net.py:Net", "net.py imports pandas, which doesn't travel"),
        ("class Net: pass", "net.py:Net", "Net is no torch.nn.Module"),
        (GOOD.replace("__init__(self)", "__init__(self, width)"), "net.py:Net", "Net can't be used: TypeError"),
        (GOOD.replace("784", "100"), "net.py:Net", "Net can't be used: RuntimeError: mat1 and mat2"),
        (GOOD.replace(", 10)", ", 7)"), "net.py:Net", "net.py: Net's forward returned float32 [3, 7] for 3 images; "
         "expected a tensor [N, 10] of logits; let its constructor take `classes`"),
        (GOOD, "torchvision:resnet81", "torchvision has no such classifier; did you mean torchvision:resnet18"),
        (GOOD, "torchvision:vgg11", "torchvision:vgg11 can't be used: RuntimeError: Given input size: (512x1x1)"),
        (NET.format(outputs=10, answer="None"), "net.py:Net", "Net's forward returned NoneType"),
        (GOOD.replace("class Net(torch.nn.Module):", "class Net(torch.nn.Module):\n    shapes = 'nowhere'"),
         "net.py:Net", "Net.shapes is 'nowhere', no layer that its forward calls; it calls last"),
        (GOOD.replace("10)", "10, dtype=torch.float64)").replace("flatten(1)", "flatten(1).double()"),
         "net.py:Net", "must have parameters of float32, but last.bias is no such"),
        (GOOD.replace("        return", "        if images.sum() > 0: images = -images\n        return"),
         "net.py:Net", "Net can't be exported"),
    ],
)  # fmt: skip
def test_a_net_that_cannot_be_trained_is_refused_in_one_line_before_any_run(
    garden: Path, text: str, message: str, named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (garden.parent / "net.py").write_text(text, encoding="utf-8")
    assert run(["train", "--dataset", "garden", "--model", message]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert named in line
    assert [experiment.name for experiment in MlflowClient().search_experiments()] == ["Default"]


def test_two_files_with_one_class_name_have_two_registered_models(
    garden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stem in ("net", "another"):
        (garden.parent / f"{stem}.py").write_text(GOOD, encoding="utf-8")
        carry_out(f"mlflow-project train --dataset garden --epochs 1 --model {stem}.py:Net" + SMALL)
    names = {model.name for model in MlflowClient().search_registered_models()}
    assert names == {"garden-net", "garden-another.net"}
    capsys.readouterr()
    carry_out("mlflow-project models verify models:/garden-another.net/1")
    carry_out("mlflow-project predict --model models:/garden-another.net/1 image.png")
    text = capsys.readouterr().out
    assert re.search(r"garden-another\.net +1 +verified", text)
    assert "image.png" in text


def test_batch_norm_over_a_last_batch_of_one_image_is_refused_before_any_run(
    garden: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = GOOD.replace("self.last(", "self.norm(self.last(").replace("flatten(1))", "flatten(1)))")
    text = text.replace(
        "        self.last", "        self.norm = torch.nn.BatchNorm1d(10)\n        self.last"
    )
    (garden.parent / "net.py").write_text(text, encoding="utf-8")
    line = ["train", "--dataset", "garden", "--model", "net.py:Net", "--epochs", "1", *SMALL.split()]
    assert run([*line, "--batch-size", "499"]) == 2
    message = capfd.readouterr().err.splitlines()[-1]
    assert "net.py:Net can't be trained on one image at a time" in message
    assert "the last batch of 500 images by 499 has one; use another --batch-size" in message
    assert run([*line, "--batch-size", "498"]) == 0


@pytest.mark.parametrize(
    ("text", "named", "runs"),
    [
        ("import sys\nsys.exit(0)\n" + GOOD, "Net would have ended the program (sys.exit(0))", 0),
        (GOOD.replace("        return", "        import sys\n        sys.exit()\n        return"),
         "Net would have ended the program (sys.exit(None))", 0),
        (GOOD.replace("        return", "        if self.training: import sys; sys.exit(0)\n        return"),
         "Net would have ended the program (sys.exit(0))", 1),
        (GOOD.replace("        return", "        if self.training: raise KeyError('last')\n        return"),
         "Net failed at work: KeyError: 'last'", 1),
    ],
)  # fmt: skip
def test_a_net_that_fails_at_work_or_ends_the_program_is_one_line_and_status_1(
    garden: Path, text: str, named: str, runs: int, capfd: pytest.CaptureFixture[str]
) -> None:
    (garden.parent / "net.py").write_text(text, encoding="utf-8")
    assert run(["train", "--dataset", "garden", "--model", "net.py:Net", *SMALL.split()]) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Error")]
    assert named in line
    experiment = MlflowClient().get_experiment_by_name("mnist-base-cnn")
    stored_runs = [] if experiment is None else MlflowClient().search_runs([experiment.experiment_id])
    assert [each.info.status for each in stored_runs] == ["FAILED"] * runs


LOUD = """
import os, threading, time
import torch
print("read")
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.last = torch.nn.Linear(784, 10)
        if os.environ.get("STAYS"):
            threading.Thread(target=time.sleep, args=(10_000,), name="watching").start()
    def forward(self, images):
        print("asked")
        os.write(1, b"asked below Python\\n")
        return self.last(images.flatten(1))
"""


@pytest.mark.process
def test_what_a_net_prints_is_no_result_and_a_thread_that_it_leaves_does_not_hold_up_the_end(
    garden: Path,
) -> None:
    (garden.parent / "net.py").write_text(LOUD, encoding="utf-8")
    line = (
        "train --dataset garden --epochs 1 --model net.py:Net --format json --threads 0 --validation-size 100"
    )
    result = subprocess.run(
        [sys.executable, "-m", "mlflow_project", *line.split()],
        env={**os.environ, "STAYS": "yes", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=240,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)
    assert row["run"] == "lr=0.001 epochs=1 dataset=garden model=net"
    assert {"read", "asked", "asked below Python"} <= set(result.stderr.splitlines())
    (introduction,) = [line for line in result.stderr.splitlines() if "500 images" in line]
    assert re.search(r"cpu, \w+, [12] threads?, the fastest for this net$", introduction)
    assert "still running (watching" in result.stderr.splitlines()[-1]

    result = subprocess.run(
        [sys.executable, "-m", "mlflow_project", "predict", "image.png", "--format", "json", "--model", "1",
         "--name", "garden-net"],
        env={**os.environ, "STAYS": ""},
        capture_output=True,
        text=True,
        timeout=240, encoding="utf-8"
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)) == 1


def test_after_a_training_on_one_thread_the_next_may_have_all_cores(
    garden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (garden.parent / "net.py").write_text(GOOD, encoding="utf-8")
    calls: list[int] = []
    monkeypatch.setattr(
        "hw2.training.thread_count.fastest_threads", lambda _, most, *__: calls.append(most) or 1
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for batch_size in (32, 64):
            line = "train --dataset garden --epochs 1 --model net.py:Net --validation-size 100"
            assert run([*line.split(), "--batch-size", str(batch_size)]) == 0
    finally:
        torch.set_num_threads(before)
    assert calls == [2, 2]


def test_the_number_of_threads_is_measured_once(garden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (garden.parent / "net.py").write_text(GOOD, encoding="utf-8")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    for fastest in (3, 5):
        monkeypatch.setattr("hw2.training.thread_count.fastest_threads", lambda *_, fastest=fastest: fastest)
        assert inputs.runtime_of(TrainingConfig(model="net.py:Net", device="cpu")).threads == 3
    assert inputs.runtime_of(TrainingConfig(model="net.py:Net", device="cpu", batch_size=8)).threads == 5


def test_the_study_is_reproduced_with_its_own_net_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "--model", "small_net.py:SmallNet"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_the_page_names_files_that_are_there() -> None:
    named = set(re.findall(r"`((?:hw2|mlflow_project)/[\w/]+\.py)`", PAGE.read_text(encoding="utf-8")))
    assert len(named) >= 2
    assert [name for name in sorted(named) if not (PAGE.parents[1] / name).is_file()] == []

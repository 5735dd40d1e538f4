"""What docs/another-model.md says of a folder of one's own pictures, done word by word."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlflow_project.cli import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "another-model.md"


def block(containing: str) -> str:
    """The page's one block with these words."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
    (found,) = [text for text in blocks if containing in text]
    return str(found)


def test_a_folder_of_own_pictures_goes_through_every_command_of_the_page(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    Image.fromarray(images[0]).resize((56, 56)).save(tmp_path / "picture.png")

    sweep, promote, predict = block("models promote").splitlines()
    small = sweep.replace("5,8", "1").replace("0.1,0.01", "0.03") + " --validation-size 100 --threads 1"
    for line in (small, promote, predict):
        program, *arguments = shlex.split(line)
        assert program == "mlflow-project"
        assert run(arguments) == 0, line
    assert "picture.png" in capsys.readouterr().out


def test_the_page_names_files_that_are_there() -> None:
    named = set(re.findall(r"`((?:hw2|mlflow_project)/\w+\.py)`", PAGE.read_text()))
    assert len(named) >= 5
    assert [name for name in sorted(named) if not (PAGE.parents[1] / name).is_file()] == []

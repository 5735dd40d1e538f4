"""`predict` answers every picture that can be read, and says of each other one why not."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlflow_project.cli import run


def picture(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    from hw2.data import load_dataset

    return picture(tmp_path / "digit.png", load_dataset("mnist-sample").test.images[0].numpy())


@pytest.fixture
def garment(tmp_path: Path) -> Path:
    from hw2.data import load_split

    images = load_split("fashion-mnist-sample", "test").images
    return picture(tmp_path / "garment.png", images[0].numpy())


@pytest.mark.usefixtures("registered")
def test_a_digit_is_named_and_a_garment_is_no_digit(
    digit: Path, garment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(digit), str(garment), "--format", "json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["picture"] == str(digit)
    assert not first["not_a_digit"]
    assert second["not_a_digit"]
    assert second["outlier_score"] > first["outlier_score"]


@pytest.mark.usefixtures("registered")
def test_one_bad_file_gets_one_line_and_the_others_are_answered(
    digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, text = tmp_path / "empty.png", tmp_path / "text.png"
    empty.touch()
    text.write_text("no picture")
    assert run(["predict", str(empty), str(digit), str(text), "--format", "csv"]) == 1
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert [str(file) in line for file, line in zip((empty, text), lines, strict=True)] == [True, True]
    assert [row["picture"] for row in csv.DictReader(io.StringIO(said.out))] == [str(digit)]

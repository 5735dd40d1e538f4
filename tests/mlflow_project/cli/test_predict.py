"""`predict` answers every image that can be read, and says of each other one why not."""

import csv
import io
import json
import os
import shutil
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlflow_project.cli.main import run
from tests.support.registered import Registered


def write_image(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    from hw2.data.image_set import load_dataset

    return write_image(tmp_path / "digit.png", load_dataset("mnist-sample").test.images[0].numpy())


@pytest.fixture
def garment(tmp_path: Path) -> Path:
    from hw2.data.image_set import load_split

    images = load_split("fashion-mnist-sample", "test").images
    return write_image(tmp_path / "garment.png", images[0].numpy())


@pytest.mark.usefixtures("registered")
def test_a_digit_is_named_and_a_garment_is_no_digit(
    digit: Path, garment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(digit), str(garment), "--format", "json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["image"] == str(digit)
    assert not first["not_a_digit"]
    assert second["not_a_digit"]
    assert second["outlier_score"] > first["outlier_score"]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("way", ["fifo", "-", "/dev/stdin", "<(...)"])
@pytest.mark.parametrize("kind", ["png", "idx"])
def test_what_can_be_read_once_alone_is_read_once(
    way: str, kind: str, digit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from hw2.data.idx import write_idx

    file = digit
    if kind == "idx":
        file = tmp_path / "digits"
        write_idx(file, np.asarray(Image.open(digit))[None])
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb") as end:
        match way:
            case "fifo":
                os.mkfifo(tmp_path / "pipe")
                name = str(tmp_path / "pipe")
                threading.Thread(
                    target=lambda: Path(name).write_bytes(file.read_bytes()), daemon=True
                ).start()
            case "-":
                name = "-"
                monkeypatch.setattr("sys.stdin", io.TextIOWrapper(pipe, encoding="utf-8"))
            case _:
                name = f"/dev/fd/{reading}"
        end.write(file.read_bytes())
        end.close()
        assert run(["predict", name, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["image"] == (name if kind == "png" else f"{name}[0]")


def test_an_endless_stream_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("hw2.data.image_files.MOST_BYTES", 1000)
    assert run(["predict", "/dev/zero"]) == 1
    assert "/dev/zero: more than 1,000 bytes" in capsys.readouterr().err


@pytest.mark.usefixtures("registered")
def test_one_bad_file_gets_one_line_and_the_others_are_answered(
    digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, text = tmp_path / "empty.png", tmp_path / "text.png"
    empty.touch()
    text.write_text("no image", encoding="utf-8")
    assert run(["predict", str(empty), str(digit), str(text), "--format", "csv"]) == 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert [str(file) in line for file, line in zip((empty, text), lines, strict=True)] == [True, True]
    assert [row["image"] for row in csv.DictReader(io.StringIO(captured.out))] == [str(digit)]


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large; its data are never reached."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.usefixtures("registered")
def test_a_image_that_is_too_large_is_refused_unread(
    digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(png_of(20_000, 20_000))
    assert run(["predict", str(large), str(digit)]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"Error: {large}: found 20,000 x 20,000 pixels")
    assert str(digit) in captured.out


@pytest.mark.usefixtures("registered")
def test_what_was_guessed_is_said(digit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ink = np.asarray(Image.open(digit))
    transparent = np.zeros((28, 28, 4), np.uint8)
    transparent[..., 3] = ink
    path = tmp_path / "black on transparent.png"
    Image.fromarray(transparent).resize((280, 280)).save(path)
    assert run(["predict", str(digit), str(path), "--format", "json"]) == 0
    plain, guessed = json.loads(capsys.readouterr().out)
    assert plain["notes"] == []
    assert "what is transparent taken as white" in guessed["notes"]
    assert guessed["label"] == plain["label"]
    assert run(["predict", str(path)]) == 0
    assert "what is transparent taken as white; " in capsys.readouterr().out


@pytest.mark.usefixtures("registered")
def test_the_table_says_not_a_digit_and_how_strange(
    garment: Path, digit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(garment), str(digit)]) == 0
    _, _, first, second = capsys.readouterr().out.splitlines()
    assert "not a digit" in first
    assert "fewer than 1 digit in 500 looks as strange" in first
    assert "digits in 100 look as strange" in second


@pytest.mark.usefixtures("registered")
def test_every_image_of_an_idx_file_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    path = tmp_path / "several"
    path.write_bytes(bytes.fromhex("00000803 00000003 0000001c 0000001c") + images.tobytes())
    assert run(["predict", str(path), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in rows] == [f"{path}[{n}]" for n in range(3)]
    assert all(row["not_a_digit"] for row in rows)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(("model", "message"), [("champoin", "did you mean champion?"), ("7", "version 7")])
def test_a_model_that_is_not_there_is_one_line(
    model: str, message: str, digit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(digit), "--model", model]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_version_changed_by_one_byte_answers_nothing(
    registered: Registered, digit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = registered.files(1) / "extra_files" / "weights.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert run(["predict", str(digit)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "version 1 is not what was registered" in captured.err


@pytest.mark.parametrize(
    ("lost", "line"),
    [
        ("MLmodel", "is not what was registered: MLmodel is missing"),
        ("", "has lost its files; restore them from a backup"),
        ("extra_files/SHA256SUMS", "can't be verified; restore it from a backup"),
    ],
)
def test_a_model_that_has_lost_files_is_said_in_one_line(
    lost: str, line: str, registered: Registered, digit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = registered.files(1)
    if lost:
        (files / lost).unlink()
    else:
        shutil.rmtree(files)
    assert run(["predict", "--model", "1", str(digit)]) == 1
    (last,) = capsys.readouterr().err.splitlines()
    assert last.startswith("Error: mnist-base-cnn version 1 ")
    assert last.endswith(line)

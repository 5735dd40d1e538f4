"""Image sets of every kind that a person comes with, each small enough to train in a moment."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hw2.data import idx
from mlflow_project.cli.main import run

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """How a set is written below a folder, and what is expected of it.

    write: returns its path and an image file of its test part; options: of `train`; name: of the set.
    """

    write: Callable[[Path], tuple[Path, Path]]
    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    options: tuple[str, ...] = ("--validation-size", "100")
    scored: bool = True


def patterned(
    classes: int, each: int, shape: tuple[int, ...], seed: int = 0
) -> tuple[Pixels, NDArray[np.int64]]:
    """A pattern for each class under noise; the same patterns whatever the number of images."""
    patterns = np.random.default_rng(1).integers(0, 255, (classes, *shape))
    labels = np.tile(np.arange(classes), each)
    noise = np.random.default_rng(seed).integers(0, 96, (len(labels), *shape))
    return (patterns[labels] * 0.6 + noise).astype(np.uint8), labels


def write_files(
    folder: Path, images: Pixels, labels: NDArray[Any], names: tuple[str, ...], suffix: str = ".png"
) -> Path:
    """Class folders; returns the last file."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / names[label] / f"{number:04}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return path


def eight_by_eight() -> tuple[Pixels, NDArray[Any]]:
    """scikit-learn's digits."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images * (255 / 16)).round().astype(np.uint8), digits.target


def digit_folders(folder: Path) -> tuple[Path, Path]:
    images, labels = eight_by_eight()
    names = tuple(map(str, range(10)))
    write_files(folder / "digits8" / "train", images[:600], labels[:600], names)
    return folder / "digits8", write_files(
        folder / "digits8" / "test", images[600:750], labels[600:750], names
    )


def digit_npz(folder: Path) -> tuple[Path, Path]:
    images, labels = eight_by_eight()
    parts = {"train": slice(0, 600), "val": slice(600, 700), "test": slice(700, 850)}
    arrays = {f"{part}_images": images[where] for part, where in parts.items()}
    arrays |= {f"{part}_labels": labels[where, None] for part, where in parts.items()}
    np.savez(folder / "digits8.npz", **arrays)
    Image.fromarray(images[800]).save(folder / "image.png")
    return folder / "digits8.npz", folder / "image.png"


def hundred_classes(folder: Path) -> tuple[Path, Path]:
    names = tuple(f"species {number:02}" for number in range(100))
    for part, each in (("train", 6), ("test", 2)):
        images, labels = patterned(100, each, (9, 12, 3), each)
        path = write_files(folder / "species" / part, images, labels, names)
    return folder / "species", path


def two_of_unlike_size(folder: Path) -> tuple[Path, Path]:
    images, labels = patterned(2, 300, (24, 32, 3))
    chosen = np.flatnonzero((labels == 0) | (np.cumsum(labels) <= 30))
    path = write_files(folder / "leaves", images[chosen], labels[chosen], ("healthy", "ill"), ".jpg")
    return folder / "leaves", path


def letters_from_1(folder: Path) -> tuple[Path, Path]:
    (folder / "letters").mkdir()
    for stem, each in (("train", 24), ("t10k", 4)):
        images, labels = patterned(26, each, (12, 10), each)
        idx.write_idx(folder / "letters" / f"{stem}-images-idx3-ubyte", images)
        idx.write_idx(folder / "letters" / f"{stem}-labels-idx1-ubyte", (labels + 1).astype(np.uint8))
    alphabet = "\n".join("abcdefghijklmnopqrstuvwxyz")
    (folder / "letters" / "classes.txt").write_text(alphabet, encoding="utf-8")
    Image.fromarray(images[0]).save(folder / "image.png")
    return folder / "letters", folder / "image.png"


DIGITS = tuple("0123456789")
KINDS = {
    "8 x 8 digits in folders": Kind(digit_folders, "digits8", DIGITS, (8, 8)),
    "8 x 8 digits in an npz": Kind(digit_npz, "digits8", DIGITS, (8, 8), options=()),
    "100 classes in color": Kind(
        hundred_classes, "species", tuple(f"species {n:02}" for n in range(100)), (9, 12, 3)
    ),
    "30 and 300 images": Kind(
        two_of_unlike_size, "leaves", ("healthy", "ill"), (16, 16, 3), ("--image-size", "16"), scored=False
    ),
    "letters from 1": Kind(letters_from_1, "letters", tuple("abcdefghijklmnopqrstuvwxyz"), (12, 10)),
}


def carry_out(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints, which must succeed."""
    capsys.readouterr()
    status = run([*map(str, arguments)])
    printed, progress = capsys.readouterr()
    assert status == 0, progress
    return printed

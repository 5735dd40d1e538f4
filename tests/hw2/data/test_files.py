"""Damaged files are refused with their name, what was found and what was expected."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hw2.common.constants import DIGITS
from hw2.common.errors import DataError
from hw2.data import catalog, idx
from hw2.data.image_set import load_dataset
from tests.hw2.data.idx_sets import write_set

pytestmark = pytest.mark.usefixtures("empty_cache")


def _labels(folder: Path, labels: list[int]) -> None:
    idx.write_idx(folder / "train-labels-idx1-ubyte.gz", torch.tensor(labels, dtype=torch.uint8))


def _test_labels(folder: Path, labels: list[int]) -> None:
    idx.write_idx(folder / "t10k-labels-idx1-ubyte.gz", torch.tensor(labels, dtype=torch.uint8))


def _images(folder: Path, images: Tensor) -> None:
    idx.write_idx(folder / "train-images-idx3-ubyte.gz", images.to(torch.uint8))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "fewer labels than images": (lambda f: _labels(f, [1] * 29), "labels.*: found 29 labels, expected 30"),
    "more labels than images": (lambda f: _labels(f, [1] * 31), "labels.*: found 31 labels, expected 30"),
    "labels that skip numbers": (
        lambda f: _labels(f, [*range(9), 10] * 3),
        "the class 9 is in the test part only, expected it among the training images",
    ),
    "labels from 3": (
        lambda f: (_labels(f, [3, 4] * 15), _test_labels(f, [3, 4] * 10)),
        "found labels from 3, expected them to run from 0 or from 1",
    ),
    "images as labels": (
        lambda f: (f / "train-labels-idx1-ubyte.gz").write_bytes(
            (f / "train-images-idx3-ubyte.gz").read_bytes()
        ),
        "labels.*: found 3 dimensions, expected 1",
    ),
    "labels as images": (
        lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(
            (f / "train-labels-idx1-ubyte.gz").read_bytes()
        ),
        "images.*: found values of shape 30, expected images, N x height x width",
    ),
    "images of 27 by 28": (
        lambda f: _images(f, torch.zeros(30, 27, 28)),
        "the test images are 28 x 28 pixels, those to train on 28 x 27 pixels",
    ),
    "no image": (lambda f: _images(f, torch.zeros(0, 28, 28)), "images.*: holds no image"),
    "a wrong count": (
        lambda f: _images(f, torch.zeros(29, 28, 28)),
        "labels.*: found 30 labels, expected 29",
    ),
    "a truncated gzip": (
        lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(
            (f / "train-images-idx3-ubyte.gz").read_bytes()[:5000]
        ),
        "images.*ends too early",
    ),
    "no labels": (
        lambda f: (f / "train-labels-idx1-ubyte.gz").unlink(),
        "found no file of the labels of the train set, expected it beside train-images",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_with_the_file_in_one_line(tmp_path: Path, damage: str) -> None:
    inflict, expected = DAMAGES[damage]
    folder = write_set(tmp_path / "D")
    inflict(folder)
    with pytest.raises(DataError, match=expected) as caught:
        load_dataset(str(folder))
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_a_known_set_has_its_published_number_of_images(tmp_path: Path) -> None:
    write_set(tmp_path)
    with pytest.raises(
        DataError, match=r"images-idx3-ubyte.gz: found \d0 images, expected \d0,000 as published"
    ):
        load_dataset("mnist", tmp_path)


def test_one_changed_image_of_a_known_set_is_found_by_its_md5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path, suffix="")
    sums = {
        f"{split}-{kind}": hashlib.md5((tmp_path / f"{stem}-{kind}-idx{n}-ubyte").read_bytes()).hexdigest()
        for split, stem in (("train", "train"), ("test", "t10k"))
        for kind, n in (("images", 3), ("labels", 1))
    }
    known = catalog.DatasetSpec("MNIST", DIGITS, (30, 20), md5=sums)
    monkeypatch.setitem(catalog.DATASETS, "mnist", known)
    load_dataset("mnist", tmp_path)
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        original = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(original[:-1] + bytes([(original[-1] + 1) % 10]))
        with pytest.raises(DataError, match=f"{name}: found MD5 [0-9a-f]{{32}}.*, expected [0-9a-f]{{32}}"):
            load_dataset("mnist", tmp_path)
        (tmp_path / name).write_bytes(original)


def test_a_set_under_another_set_s_name_is_refused_with_both_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path, suffix="")
    sums = {
        f"{split}-images": hashlib.md5((tmp_path / f"{stem}-images-idx3-ubyte").read_bytes()).hexdigest()
        for split, stem in (("train", "train"), ("test", "t10k"))
    }
    for name, folder, md5 in (
        ("mnist", "MNIST", sums),
        ("kmnist", "KMNIST", {}),
        ("fashion-mnist", "FashionMNIST", dict.fromkeys(sums, "0" * 32)),
    ):
        known = catalog.DatasetSpec(folder, DIGITS, (30, 20), md5=md5)
        monkeypatch.setitem(catalog.DATASETS, name, known)
    assert load_dataset("mnist", tmp_path).name == "mnist"
    for name, folder in (("kmnist", "KMNIST"), ("fashion-mnist", "FashionMNIST")):
        with pytest.raises(
            DataError, match=f"images-.*: found the images of MNIST .*, expected .* {folder};"
        ):
            load_dataset(name, tmp_path)

"""The embedded samples are what their page says, and the full sets what their authors published."""

import gzip
import hashlib
from pathlib import Path

import pytest
import torch

from hw2.common.errors import DataError
from hw2.data import image_set
from hw2.data.image_set import load_dataset, load_split
from hw2.data.lookup import identify_dataset


def test_the_samples_are_those_of_their_page() -> None:
    folder = Path(image_set.__file__).parent / "samples"
    lines = [
        line.split()
        for line in (folder / "README.md").read_text(encoding="utf-8").splitlines()
        if line.endswith(".gz")
    ]
    assert len(lines) == 6
    for expected, name in lines:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected


def test_full_mnist_is_read_checked_and_hashed_as_published(full_data: Path) -> None:
    full = load_dataset("mnist", full_data)
    assert (len(full.train), len(full.test), full.is_sample) == (60_000, 10_000, False)
    assert torch.bincount(full.train.labels)[[0, 1, 9]].tolist() == [5923, 6742, 5949]


def test_the_garments_of_the_sample_are_the_first_of_the_full_set(full_data: Path) -> None:
    full = load_split("fashion-mnist", "test", full_data)
    assert (full.name, len(full)) == ("fashion-mnist", 10_000)
    assert full.subset(torch.arange(1_000)).sha256 == load_split("fashion-mnist-sample", "test").sha256


def test_one_changed_byte_of_full_mnist_is_named(tmp_path: Path, full_data: Path) -> None:
    for source in (full_data / "MNIST" / "raw").iterdir():
        (tmp_path / source.name).symlink_to(source)
    target = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(target.read_bytes()))
    content[-1] = (content[-1] + 1) % 10
    target.unlink()
    target.write_bytes(gzip.compress(bytes(content), compresslevel=1))
    with pytest.raises(
        DataError, match=f"{target.name}: found MD5 .* expected 27ae3e4e09519cfbb04c329615203637"
    ):
        load_dataset("mnist", tmp_path)


def test_a_set_is_known_by_the_same_sum_without_its_tensors(full_data: Path) -> None:
    for name, folder in (("mnist", None), ("mnist", full_data)):
        assert identify_dataset(name, folder) == load_dataset(name, folder).identity

"""CIFAR and SVHN as torchvision lays them, and QMNIST's labels of eight columns."""

import hashlib
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from hw2.common.errors import DataError
from hw2.data import catalog, idx
from hw2.data.formats import archives
from hw2.data.image_set import load_dataset, load_split
from tests.hw2.data.idx_sets import write_set

pytestmark = pytest.mark.usefixtures("empty_cache")


def publish(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    """Take the sums of the files in a folder as the published ones."""
    spec = archives.ARCHIVES[name]

    def md5(file: str) -> str:
        return hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest()

    files = {part: {file: md5(file) for file in of_part} for part, of_part in spec.files.items()}
    meta = None if spec.meta is None else (*spec.meta[:2], md5(spec.meta[0]))
    there = archives.ArchiveSpec(spec.torchvision, spec.folder, files, meta, spec.downloads)
    monkeypatch.setitem(archives.ARCHIVES, name, there)


def write_cifar(folder: Path, name: str = "cifar10", labels: str = "labels") -> np.ndarray[Any, Any]:
    spec = archives.ARCHIVES[name]
    assert spec.meta is not None
    place = folder / spec.folder
    place.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part in spec.files.values():
        for file in part:
            pixels = random.integers(0, 256, (4, 3072)).astype(np.uint8)
            (place / file).write_bytes(pickle.dumps({"data": pixels, labels: [0, 1, 2, 1]}, protocol=2))
    (place / spec.meta[0]).write_bytes(pickle.dumps({spec.meta[1]: ["cat", "dog", "fox"]}, protocol=2))
    return pixels


@pytest.mark.parametrize(("name", "labels"), [("cifar10", "labels"), ("cifar100", "fine_labels")])
def test_cifar_is_read_in_color_with_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, labels: str
) -> None:
    last = write_cifar(tmp_path, name, labels)
    publish(monkeypatch, name, tmp_path / archives.ARCHIVES[name].folder)
    found = load_dataset(name, tmp_path)
    assert found.test.images.shape == (4, 32, 32, 3)
    assert found.test.classes == ("cat", "dog", "fox")
    assert (found.test.images.numpy() == last.reshape(4, 3, 32, 32).transpose(0, 2, 3, 1)).all()
    assert load_split(name, "test", tmp_path).sha256 == found.test.sha256


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("what was unpickled has run",)


def test_a_batch_that_isnt_the_published_one_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    with pytest.raises(
        DataError, match=r"data_batch_1: found MD5 .*, expected c99cafc152244af753f735de768cd75f"
    ):
        load_dataset("cifar10", tmp_path)
    batch.write_bytes(pickle.dumps(Harmful()))
    publish(monkeypatch, "cifar10", batch.parent)
    with pytest.raises(DataError, match=r"data_batch_3: no batch of CIFAR .it names posix.mkdir"):
        load_dataset("cifar10", tmp_path)
    assert not Path("what was unpickled has run").exists()


def test_svhn_has_its_zeros_at_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 10)).astype(np.uint8)
    for part in ("train", "test"):
        content = io.BytesIO()
        savemat(content, {"X": images, "y": np.arange(1, 11)[:, None]})
        (tmp_path / f"{part}_32x32.mat").write_bytes(content.getvalue())
    publish(monkeypatch, "svhn", tmp_path)
    found = load_dataset("svhn", tmp_path)
    assert found.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert (found.train.images[3].numpy() == images[..., 3]).all()


def test_a_known_archive_that_is_nowhere_is_asked_for_by_its_files(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"found no cifar-10-batches-py of cifar10; put its files there .*--download"
    ):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize("prefix", ["", "qmnist-"])
def test_the_first_of_qmnists_eight_columns_is_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    qmnist = catalog.DatasetSpec("QMNIST", catalog.DIGITS, (30, 20), prefix="qmnist-")
    monkeypatch.setitem(catalog.DATASETS, "qmnist", qmnist)
    folder = write_set(tmp_path / "raw", prefix=prefix, test_stem="test")
    for stem in ("train", "test"):
        path = folder / f"{prefix}{stem}-labels-idx1-ubyte.gz"
        labels = idx.read_integers(path).astype(">i4")
        path.unlink()
        columns = np.concatenate([labels[:, None], np.full((len(labels), 7), 70_000, ">i4")], axis=1)
        header = struct.pack(">HBBII", 0, idx.INTEGERS, 2, len(labels), 8)
        (folder / f"{prefix}{stem}-labels-idx2-int").write_bytes(header + columns.astype(">i4").tobytes())
    found = load_dataset("qmnist", tmp_path) if prefix else load_dataset(str(tmp_path))
    assert found.train.labels.tolist() == [*range(10)] * 3

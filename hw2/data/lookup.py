"""Data sets on disk: found by name, read, and identified by their SHA-256.

Searched in this order: the folder that was given (DIR/MNIST/raw as torchvision lays it, DIR/raw, DIR);
without one, the folder that downloads go to; at last the embedded sample, which has another name and SHA-256
than the full set. The network is touched only where `download` is true.

Nothing here imports PyTorch, which takes longer than to read 70,000 images.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hw2.common.constants import DIGITS
from hw2.common.errors import ConfigurationError, DataError
from hw2.data.catalog import DATASETS, SAMPLE_SUFFIX, SAMPLES, DatasetSpec
from hw2.data.files import (
    FILE_STEMS,
    DatasetNotFoundError,
    Labels,
    Pixels,
    download_dir,
    expanded,
    find_folder,
    find_known,
    find_sibling,
    is_folder,
    read_split,
)

SPLITS = ("train", "test")
SAMPLE_SOURCE = "embedded sample"
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class DatasetFiles:
    """Where a set's files are. known: as published, None for another folder or a sample."""

    name: str
    folder: Path
    classes: tuple[str, ...]
    known: DatasetSpec | None
    is_sample: bool

    @property
    def source(self) -> str:
        """Where the images come from, in words."""
        return SAMPLE_SOURCE if self.is_sample else str(self.folder)

    def read(self, split: str) -> tuple[Pixels, Labels]:
        """Read images (uint8 [N, 28, 28]) and labels (int64 [N]); DataError where the files are damaged."""
        return read_split(self.folder, split, len(self.classes), self.known)

    def read_both(self, use: Callable[[str, Pixels, Labels], _Read]) -> tuple[_Read, _Read]:
        """Return `use` of the training and of the test images; the two are read side by side."""
        with ThreadPoolExecutor(len(SPLITS)) as pool:
            train, test = pool.map(lambda split: use(split, *self.read(split)), SPLITS)
        return train, test


@dataclass(frozen=True)
class DatasetInfo:
    """A set's identity, and its number of training images."""

    name: str
    sha256: str
    training_images: int
    is_sample: bool


def identify_dataset(name: str, data_dir: Path | None = None, download: bool = False) -> DatasetInfo:
    """Identify what `hw2.data.image_set.load_dataset` would load, with all of its checks and errors."""
    stored = find_dataset(name, data_dir, download)
    train, test = stored.read_both(lambda _, images, labels: (len(labels), images_sha256(images, labels)))
    return DatasetInfo(stored.name, dataset_sha256(train[1], test[1]), train[0], stored.is_sample)


def images_sha256(images: Pixels, labels: Labels) -> str:
    """Hash shape, images and labels (SHA-256): equal content has an equal hash, whatever file it came from."""
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(images.data)
    digest.update(labels.data)
    return digest.hexdigest()


def dataset_sha256(train: str, test: str) -> str:
    """Hash a training and a test set that belong together, by their own SHA-256."""
    return hashlib.sha256(f"{train} {test}".encode()).hexdigest()


def find_dataset(name: str, data_dir: Path | None = None, download: bool = False) -> DatasetFiles:
    """Find a set with both splits, by name, or a folder of IDX files by path.

    Raises:
        DataError: `data_dir` lacks the files, or the set has more than ten classes, BaseCNN's outputs.
    """
    known = DATASETS.get(name)
    if known is not None and len(known.classes) > len(DIGITS):
        ten = ", ".join(other for other, spec in DATASETS.items() if len(spec.classes) == len(DIGITS))
        raise DataError(
            f"{name}: found {len(known.classes)} classes, expected {len(DIGITS)} as BaseCNN has outputs; "
            f"train on {ten}, or show {name} as outliers"
        )
    return _stored(name, SPLITS, _find(name, SPLITS, data_dir, download))


def find_split(
    name: str, split: str, data_dir: Path | None = None, download: bool = False, sibling: bool = False
) -> DatasetFiles:
    """Find a set, of any number of classes, that has one split; the sample also where `data_dir` lacks it.

    sibling: `data_dir` is where another set was found, so that only DIR/<the set's folder>/raw counts there.
    """
    if split not in FILE_STEMS:
        raise ConfigurationError(f"unknown split {split!r}, expected {' or '.join(FILE_STEMS)}")
    known = DATASETS.get(name)
    try:
        if sibling and known is not None:
            folder = find_sibling(name, known, (split,), data_dir, download)
        else:
            folder = _find(name, (split,), data_dir, download)
    except DatasetNotFoundError:
        if split not in SAMPLES.get(name, {}):
            raise
        folder = None
    return _stored(name, (split,), folder)


def name_of(folder: Path) -> str:
    """Derive a set's name from its folder: fit for the name of a registered model, and never that of a known set."""
    folder = folder.resolve()
    named = folder.parent if folder.name == "raw" else folder
    name = re.sub(r"[^a-z0-9]+", "-", named.name.lower()).strip("-") or "folder"
    return f"{name}-folder" if name in DATASETS or name.endswith(SAMPLE_SUFFIX) else name


def _find(name: str, splits: Sequence[str], data_dir: Path | None, download: bool) -> Path | None:
    """Find the folder of a set's files; None where only an embedded sample can serve."""
    known: DatasetSpec | None = DATASETS.get(name)
    if known is not None:
        return find_known(name, known, splits, data_dir, download)
    if name.endswith(SAMPLE_SUFFIX) and name.removesuffix(SAMPLE_SUFFIX) in SAMPLES:
        return None
    folder = expanded(Path(name))
    if not is_folder(folder):
        raise DataError(
            f"unknown data set {name!r}: expected {', '.join(DATASETS)}, or a folder of IDX files"
        )
    return find_folder(folder, splits)


def _stored(name: str, splits: Sequence[str], folder: Path | None) -> DatasetFiles:
    """Describe the set in a folder, or for None the embedded sample that stands in for it."""
    if folder is None:
        base = name.removesuffix(SAMPLE_SUFFIX)
        folders = SAMPLES.get(base, {})
        if any(split not in folders for split in splits):
            raise DatasetNotFoundError(
                f"{base}: found neither in {download_dir()} nor as an embedded sample; "
                "name a folder that has its files by --data-dir, or let them be downloaded by --download"
            )
        return DatasetFiles(base + SAMPLE_SUFFIX, folders[splits[0]], DATASETS[base].classes, None, True)
    known = DATASETS.get(name)
    if known is None:
        return DatasetFiles(name_of(folder), folder, DIGITS, None, False)
    return DatasetFiles(name, folder, known.classes, known, False)

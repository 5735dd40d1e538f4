"""Image sets in memory.

Looked for, in this order: the folder that was given (DIR/MNIST/raw as torchvision lays it, DIR/raw, DIR);
without one, the folder that downloads go to; at last the embedded sample, which has another name and SHA-256
than the full set. The network is touched only where `download` is true.
"""

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hw2.catalogue import DATASETS, DIGITS, SAMPLE_SUFFIX, SAMPLES, KnownSet
from hw2.errors import ConfigurationError, DataError
from hw2.sources import (
    FILE_STEMS,
    SIDE,
    AbsentError,
    download_dir,
    expanded,
    find_beside,
    find_folder,
    find_known,
    is_folder,
    read_any,
    read_split,
)

__all__ = [
    "DATASETS",
    "Dataset",
    "ImageSet",
    "download_dir",
    "load_dataset",
    "load_folder",
    "load_split",
    "split_validation",
]

# Decides which pictures are for validation, in every run alike: runs are compared on the same pictures.
VALIDATION_SEED = 20170825


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Pictures with their labels.

    images: uint8 [N, 28, 28], 0 is background, 255 is ink; labels: int64 [N], index into classes; source:
    where from, in words.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        expected = (len(self.labels), SIDE, SIDE)
        if self.images.dtype != torch.uint8 or tuple(self.images.shape) != expected:
            found = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise DataError(
                f"{self.name} {self.split}: found pictures {found}, expected torch.uint8 {expected}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sha256(self) -> str:
        """Over shape, pictures and labels: equal content has an equal sum, whatever file it came from."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().data)
        digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()

    def take(self, index: Tensor) -> "ImageSet":
        """The pictures at these positions (int64 [M]), in this order."""
        return replace(self, images=self.images[index], labels=self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test set that belong together."""

    name: str
    train: ImageSet
    test: ImageSet
    is_sample: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.train.sha256} {self.test.sha256}".encode()).hexdigest()


def load_dataset(name: str, data_dir: Path | None = None, download: bool = False) -> Dataset:
    """Both splits of a set by name, or of a folder of IDX files by path.

    Raises DataError where files are damaged, where `data_dir` is given and lacks them, and for a set of more
    than ten classes, which BaseCNN can't tell apart.
    """
    known, classes = DATASETS.get(name), DIGITS
    if known is not None and len(known.classes) > len(DIGITS):
        ten = ", ".join(other for other, its in DATASETS.items() if len(its.classes) == len(DIGITS))
        raise DataError(
            f"{name}: found {len(known.classes)} classes, expected {len(DIGITS)} as BaseCNN has outputs; "
            f"train on {ten}, or show {name} as outliers"
        )
    splits = ("train", "test")
    folder = _find(name, splits, data_dir, download)
    is_sample = folder is None
    if folder is None:
        name, folder = _sample(name, splits)
        classes = DATASETS[name.removesuffix(SAMPLE_SUFFIX)].classes
    elif known is None:
        name = _name_of(folder)
    else:
        classes = known.classes
    source = "embedded sample" if is_sample else str(folder)

    def load(split: str) -> ImageSet:
        checked = None if is_sample else known
        images, labels = read_split(folder, split, len(classes), checked)
        image_set = ImageSet(name, split, images, labels, classes, source)
        _ = image_set.sha256  # now, while the other split is being read
        return image_set

    with ThreadPoolExecutor(len(splits)) as pool:
        train, test = pool.map(load, splits)
    return Dataset(name, train, test, is_sample)


def load_split(
    name: str, split: str, data_dir: Path | None = None, download: bool = False, beside: bool = False
) -> ImageSet:
    """One split of a set, of any number of classes; from the sample also where `data_dir` lacks it.

    beside: `data_dir` is where another set was found, so that only DIR/<the set's folder>/raw counts there.
    """
    if split not in FILE_STEMS:
        raise ConfigurationError(f"unknown split {split!r}, expected {' or '.join(FILE_STEMS)}")
    known = DATASETS.get(name)
    try:
        if beside and known is not None:
            folder = find_beside(name, known, (split,), data_dir, download)
        else:
            folder = _find(name, (split,), data_dir, download)
    except AbsentError:
        if split not in SAMPLES.get(name, {}):
            raise
        folder = None
    if folder is None:
        name, folder = _sample(name, (split,))
        classes = DATASETS[name.removesuffix(SAMPLE_SUFFIX)].classes
        images, labels = read_split(folder, split, len(classes))
        return ImageSet(name, split, images, labels, classes, "embedded sample")
    classes = known.classes if known is not None else DIGITS
    images, labels = read_split(folder, split, len(classes), known)
    return ImageSet(
        name if known is not None else _name_of(folder), split, images, labels, classes, str(folder)
    )


def load_folder(folder: Path) -> ImageSet:
    """Pictures of a folder of IDX files: those to test with, else those to train with, else its only ones.

    Labels are any from 0 to 255; without a file of labels each is 0, and the only class "unknown".
    """
    folder = expanded(folder)
    images, labels = read_any(folder)
    if labels is None:
        labels = torch.zeros(len(images), dtype=torch.int64)
        classes: tuple[str, ...] = ("unknown",)
    else:
        classes = tuple(str(label) for label in range(int(labels.max()) + 1))
    return ImageSet(_name_of(folder), "test", images, labels, classes, str(folder))


def split_validation(train: ImageSet, size: int) -> tuple[ImageSet, ImageSet | None]:
    """Training and validation part, by a permutation that is the same in every run; None for size 0."""
    if not 0 <= size < len(train):
        raise ConfigurationError(
            f"validation_size {size} of {len(train)} training pictures, expected 0 to {len(train) - 1}; "
            "choose a smaller one"
        )
    if size == 0:
        return train, None
    # RandomState's stream is frozen by numpy's own promise; torch and numpy.random.Generator give none.
    order = torch.from_numpy(np.random.RandomState(VALIDATION_SEED).permutation(len(train)))
    held_out, rest = order[:size].sort().values, order[size:].sort().values
    return train.take(rest), replace(train.take(held_out), split="validation")


def _find(name: str, splits: Sequence[str], data_dir: Path | None, download: bool) -> Path | None:
    """The folder of a set's files; None where only an embedded sample can serve."""
    known: KnownSet | None = DATASETS.get(name)
    if known is not None:
        return find_known(name, known, splits, data_dir, download)
    if _is_sample_name(name):
        return None
    folder = expanded(Path(name))
    if not is_folder(folder):
        raise DataError(
            f"unknown data set {name!r}: expected {', '.join(DATASETS)}, or a folder of IDX files"
        )
    return find_folder(folder, splits)


def _sample(name: str, splits: Sequence[str]) -> tuple[str, Path]:
    """Name and folder of the embedded sample that stands in for a set."""
    base = name.removesuffix(SAMPLE_SUFFIX)
    folders = SAMPLES.get(base, {})
    if any(split not in folders for split in splits):
        raise AbsentError(
            f"{base}: found neither in {download_dir()} nor as an embedded sample; "
            "give a data_dir that has its files, or let them be downloaded (download=true)"
        )
    return base + SAMPLE_SUFFIX, folders[splits[0]]


def _is_sample_name(name: str) -> bool:
    return name.endswith(SAMPLE_SUFFIX) and name.removesuffix(SAMPLE_SUFFIX) in SAMPLES


def _name_of(folder: Path) -> str:
    """A folder's name, fit for the name of a registered model, and never that of a known set."""
    folder = folder.resolve()
    own = folder.parent if folder.name == "raw" else folder
    name = re.sub(r"[^a-z0-9]+", "-", own.name.lower()).strip("-") or "folder"
    return f"{name}-folder" if name in DATASETS or name.endswith(SAMPLE_SUFFIX) else name

"""Image sets in memory, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hw2.common.constants import IMAGE_SIZE
from hw2.common.errors import DataError
from hw2.data.files import Labels, Pixels, expanded, read_any
from hw2.data.lookup import (
    DatasetFiles,
    DatasetInfo,
    dataset_sha256,
    find_dataset,
    find_split,
    images_sha256,
    name_of,
)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels.

    images: uint8 [N, 28, 28], 0 is background, 255 is ink; labels: int64 [N], index into classes; source:
    the origin in words.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        expected = (len(self.labels), IMAGE_SIZE, IMAGE_SIZE)
        if self.images.dtype != torch.uint8 or tuple(self.images.shape) != expected:
            actual = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise DataError(
                f"{self.name} {self.split}: found images {actual}, expected torch.uint8 {expected}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sha256(self) -> str:
        """As `hw2.data.lookup.images_sha256`."""
        return images_sha256(self.images.contiguous().numpy(), self.labels.contiguous().numpy())

    def subset(self, index: Tensor) -> ImageSet:
        """Take the images at these indices (int64 [M]), in this order."""
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
        return dataset_sha256(self.train.sha256, self.test.sha256)

    @property
    def identity(self) -> DatasetInfo:
        """The set's identity, for where its images aren't needed."""
        return DatasetInfo(self.name, self.sha256, len(self.train), self.is_sample)


def load_dataset(name: str, data_dir: Path | None = None, download: bool = False) -> Dataset:
    """Load both splits of a set by name, or of a folder of IDX files by path.

    Raises:
        DataError: files are damaged, `data_dir` lacks them, or the set has more than ten classes.
    """
    stored = find_dataset(name, data_dir, download)

    def load(split: str, images: Pixels, labels: Labels) -> ImageSet:
        image_set = _image_set(stored, split, images, labels)
        _ = image_set.sha256  # now, while the other split is being read
        return image_set

    train, test = stored.read_both(load)
    return Dataset(stored.name, train, test, stored.is_sample)


def load_split(
    name: str, split: str, data_dir: Path | None = None, download: bool = False, sibling: bool = False
) -> ImageSet:
    """Load one split of a set, of any number of classes; from the sample also where `data_dir` lacks it.

    sibling: `data_dir` is where another set was found, so that only DIR/<the set's folder>/raw counts there.
    """
    stored = find_split(name, split, data_dir, download, sibling)
    return _image_set(stored, split, *stored.read(split))


def load_folder(folder: Path) -> ImageSet:
    """Load the images of a folder of IDX files: those to test with, else those to train with, else its only ones.

    Labels are any from 0 to 255; without a file of labels each is 0, and the only class "unknown".
    """
    folder = expanded(folder)
    images, labels = read_any(folder)
    if labels is None:
        labels = np.zeros(len(images), np.int64)
        classes: tuple[str, ...] = ("unknown",)
    else:
        classes = tuple(str(label) for label in range(int(labels.max()) + 1))
    return _image_set(DatasetFiles(name_of(folder), folder, classes, None, False), "test", images, labels)


def _image_set(stored: DatasetFiles, split: str, images: Pixels, labels: Labels) -> ImageSet:
    tensors = torch.from_numpy(images), torch.from_numpy(labels)
    return ImageSet(stored.name, split, *tensors, stored.classes, stored.source)


def examples_table(image_set: ImageSet, per_class: int = 5) -> pd.DataFrame:
    """List the first `per_class` images of each class: index in the set, label, class."""
    labels = image_set.labels.numpy()
    rows = [
        (int(index), label, name)
        for label, name in enumerate(image_set.classes)
        for index in np.flatnonzero(labels == label)[:per_class]
    ]
    return pd.DataFrame(rows, columns=["index", "label", "class"])

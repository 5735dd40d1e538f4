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
from hw2.common.formatting import join_names
from hw2.common.image_spec import ImageSpec, measure
from hw2.data.files import has_idx_files, listing, read_any
from hw2.data.formats.archives import ARCHIVES
from hw2.data.formats.arrays import Labels, OnProgress, Pixels
from hw2.data.formats.class_folders import decode_listed, list_images
from hw2.data.formats.locations import expanded
from hw2.data.formats.requirements import COLORS
from hw2.data.lookup import (
    DatasetFiles,
    DatasetInfo,
    RawDataset,
    dataset_sha256,
    find_split,
    images_sha256,
    name_of,
    read_dataset,
)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels.

    images: uint8 [N, H, W] in grey, where 0 is background and 255 is ink if it's characters, or [N, H, W, 3] in color;
    labels: int64 [N], index into classes; source: the origin in words.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        fits = len(shape) == 3 or (len(shape) == 4 and shape[3] == COLORS)
        if self.images.dtype != torch.uint8 or not fits or shape[0] != len(self.labels):
            raise DataError(
                f"{self.name} {self.split}: found images {self.images.dtype} {shape}, expected torch.uint8 "
                f"({len(self.labels)}, height, width), or with a last side of {COLORS} in color"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sha256(self) -> str:
        """As `hw2.data.lookup.images_sha256`."""
        return images_sha256(self.images.contiguous().numpy(), self.labels.contiguous().numpy())

    @cached_property
    def spec(self) -> ImageSpec:
        """What a net that is trained on these images needs to know of them."""
        return measure(self.name, self.images.numpy(), self.classes)

    def subset(self, index: Tensor) -> ImageSet:
        """Take the images at these indices (int64 [M]), in this order."""
        return replace(self, images=self.images[index], labels=self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test set that belong together, and a validation set where it has its own.

    notes: what was left out or changed as they were read, each worth a line.
    """

    name: str
    train: ImageSet
    test: ImageSet
    is_sample: bool
    validation: ImageSet | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        parts = [part for part in (self.train, self.test, self.validation) if part is not None]
        return dataset_sha256(*(part.sha256 for part in parts))

    @property
    def identity(self) -> DatasetInfo:
        """The set's identity, for where its images aren't needed."""
        return DatasetInfo(
            self.name,
            self.sha256,
            len(self.train),
            self.is_sample,
            tuple(self.train.images.shape[1:]),
            len(self.train.classes),
            None if self.validation is None else len(self.validation),
        )


def load_dataset(
    name: str,
    data_dir: Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Load a set by name, or by the path of class folders, IDX files or an `.npz`; see `lookup.read_dataset`.

    Raises:
        DataError: files are damaged, or `data_dir` lacks them.
    """
    return from_raw(read_dataset(name, data_dir, download, image_size, on_progress))


def from_raw(raw: RawDataset) -> Dataset:
    """Make tensors of a set's arrays, without copying them."""
    sets = {}
    for part, (images, labels) in raw.arrays.parts.items():
        tensors = torch.from_numpy(images), torch.from_numpy(labels)
        sets[part] = ImageSet(raw.name, part, *tensors, raw.arrays.classes, raw.source)
        if part in raw.sha256:
            sets[part].__dict__["sha256"] = raw.sha256[part]  # as the cached property would
    notes, untested = raw.arrays.notes, raw.arrays.untested_classes
    if untested:
        notes = (*notes, f"no test image of {join_names(untested, 3)}, whose accuracy stays unknown")
    return Dataset(raw.name, sets["train"], sets["test"], raw.is_sample, sets.get("validation"), notes)


def load_split(
    name: str, split: str, data_dir: Path | None = None, download: bool = False, sibling: bool = False
) -> ImageSet:
    """Load one split of a set, of any number of classes; from the sample also where `data_dir` lacks it.

    sibling: `data_dir` is where another set was found, so that only DIR/<the set's folder>/raw counts there.
    """
    if name in ARCHIVES:
        dataset = load_dataset(name, data_dir, download)
        return {"train": dataset.train, "test": dataset.test}[split]
    stored = find_split(name, split, data_dir, download, sibling)
    return _image_set(stored, split, *stored.read(split))


def load_folder(folder: Path, shape: tuple[int, ...] = (IMAGE_SIZE, IMAGE_SIZE)) -> ImageSet:
    """Load the images of a folder, to be shown to a model.

    Of IDX files those to test with, else those to train with, else its only ones: labels are any from 0 to 255; without
    a file of labels each is 0, and the only class "unknown". Of class folders the test images, else all; of image files
    all: each is scaled and cut to `shape`, [H, W] or [H, W, 3].
    """
    folder = expanded(folder)
    listing(folder)
    if not has_idx_files(folder) and (files := list_images(folder)):
        size = shape[1], shape[0]
        images, labels, classes = decode_listed(folder, files, size, "L" if len(shape) == 2 else "RGB")
        return _image_set(DatasetFiles(name_of(folder), folder, classes, None, False), "test", images, labels)
    images, numbers = read_any(folder)
    if numbers is None:
        numbers = np.zeros(len(images), np.int64)
        classes = ("unknown",)
    else:
        classes = tuple(str(label) for label in range(int(numbers.max()) + 1))
    return _image_set(DatasetFiles(name_of(folder), folder, classes, None, False), "test", images, numbers)


def _image_set(stored: DatasetFiles, split: str, images: Pixels, labels: Labels) -> ImageSet:
    tensors = torch.from_numpy(images), torch.from_numpy(labels)
    return ImageSet(stored.name, split, *tensors, stored.classes, stored.source)


def examples_table(image_set: ImageSet, per_class: int | None = None) -> pd.DataFrame:
    """List the first `per_class` images of each class: index in the set, label, class.

    None is 5, or 2 of each of the first hundred where there are more than 20 classes.
    """
    labels = image_set.labels.numpy()
    many = len(image_set.classes) > 20
    per_class = per_class or (2 if many else 5)
    rows = [
        (int(index), label, name)
        for label, name in enumerate(image_set.classes[:100])
        for index in np.flatnonzero(labels == label)[:per_class]
    ]
    return pd.DataFrame(rows, columns=["index", "label", "class"])

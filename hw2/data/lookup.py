"""Data sets on disk: found by name or by path, read, and identified by their SHA-256.

Known ones are searched in this order: the folder that was given (DIR/MNIST/raw as torchvision lays it, DIR/raw, DIR);
without one, the folder that downloads go to; at last the embedded sample, which has another name and SHA-256
than the full set. The network is touched only where `download` is true. A path is a folder of class folders or of IDX
files, or an `.npz`.

Nothing here imports PyTorch, which takes longer than to read 70,000 images.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hw2.common.constants import DIGITS
from hw2.common.errors import ConfigurationError, DataError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.data.catalog import DATASETS, SAMPLE_SUFFIX, SAMPLES, DatasetSpec
from hw2.data.files import (
    FILE_STEMS,
    find_folder,
    find_known,
    find_sibling,
    has_idx_files,
    is_folder,
    read_split,
)
from hw2.data.formats.archives import ARCHIVES, archive_listing, find_archive, read_archive
from hw2.data.formats.arrays import ImageArrays, Labels, OnProgress, Part, Pixels, check_same_size
from hw2.data.formats.cache import cache_path, read_cached
from hw2.data.formats.class_folders import find_class_folders, is_class_folders, read_class_folders
from hw2.data.formats.locations import DatasetNotFoundError, download_dir, expanded
from hw2.data.formats.npz import is_npz, read_npz
from hw2.data.formats.requirements import number_classes, read_class_names

SPLITS = ("train", "test")
KNOWN = (*DATASETS, *ARCHIVES)
CLASSES_FILE = "classes.txt"
SAMPLE_SOURCE = "embedded sample"
OWN_SETS = "a folder of class folders or of IDX files, or an .npz"


@dataclass(frozen=True)
class DatasetFiles:
    """Where a set's IDX files are. known: as published, None for another folder or a sample."""

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
        """Read images (uint8 [N, H, W]) and labels (int64 [N]); DataError where the files are damaged."""
        return read_split(self.folder, split, self.known)

    def read_both(self) -> dict[str, Part]:
        """Read the training and the test images, side by side."""
        with ThreadPoolExecutor(len(SPLITS)) as pool:
            return dict(zip(SPLITS, pool.map(self.read, SPLITS), strict=True))


@dataclass(frozen=True, eq=False)
class RawDataset:
    """A set in memory, as arrays; sha256: of each part."""

    name: str
    source: str
    is_sample: bool
    arrays: ImageArrays
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def info(self) -> "DatasetInfo":
        """The set's identity."""
        images, labels = self.arrays.parts["train"]
        validation = self.arrays.parts.get("validation")
        return DatasetInfo(
            self.name,
            dataset_sha256(
                *(self.sha256[part] for part in ("train", "test", "validation") if part in self.sha256)
            ),
            len(labels),
            self.is_sample,
            tuple(images.shape[1:]),
            len(self.arrays.classes),
            None if validation is None else len(validation[1]),
        )


@dataclass(frozen=True)
class DatasetInfo:
    """A set's identity, its number of training images, the shape of one, and its number of classes.

    validation_images: how many its own validation part has, None where it has none.
    """

    name: str
    sha256: str
    training_images: int
    is_sample: bool
    image_shape: tuple[int, ...] = (28, 28)
    num_classes: int = len(DIGITS)
    validation_images: int | None = None

    @property
    def spec(self) -> ImageSpec:
        """Images of this shape and so many classes, without the names and what is measured of them."""
        channels = 1 if len(self.image_shape) == 2 else self.image_shape[2]
        names = tuple(str(label) for label in range(self.num_classes))
        neutral = (0.5,) * channels
        height, width = self.image_shape[:2]
        spec = ImageSpec(names, channels, height, width, neutral, neutral)
        return STUDY if (spec.shape, names) == (STUDY.shape, STUDY.classes) else spec


def identify_dataset(
    name: str,
    data_dir: Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> DatasetInfo:
    """Identify what `hw2.data.image_set.load_dataset` would load, with all of its checks and errors."""
    return read_dataset(name, data_dir, download, image_size, on_progress).info


def read_dataset(
    name: str,
    data_dir: Path | None = None,
    download: bool = False,
    image_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> RawDataset:
    """Read a set with both splits, by name or by path.

    Args:
        name: A known name, or the path of class folders, of IDX files or of an `.npz`.
        data_dir: Where a known set's files are; None for the cache of downloads.
        download: Whether a known set may be downloaded.
        image_size: Side of the square that the images of class folders are made into; None to take them as they are.
        on_progress: Called while files are decoded.

    Raises:
        DataError: There is no such set, or its files are damaged or not what they must be.
    """
    folder = None if name in KNOWN or name.endswith(SAMPLE_SUFFIX) else _path(name)
    if folder is not None and not is_npz(folder) and not has_idx_files(folder) and is_class_folders(folder):
        return _hashed(read_folder(folder, image_size, on_progress))
    if image_size is not None:
        raise ConfigurationError(
            f"image_size is {image_size}, but {name} is no folder of class folders, whose files alone are scaled; "
            "leave it out"
        )
    if name in ARCHIVES:
        spec = ARCHIVES[name]
        place = find_archive(name, spec, data_dir, download)
        arrays = read_cached(
            cache_path(place, name), archive_listing(place, spec), lambda: read_archive(place, spec)
        )
        return _hashed(RawDataset(name, str(place), False, arrays))
    if folder is not None and is_npz(folder):
        return _hashed(RawDataset(name_of(folder), str(folder), False, read_npz(folder)))
    return _hashed(_read_idx(find_dataset(name, data_dir, download)))


def _path(name: str) -> Path:
    """Return the file or folder that a set's name is the path of; DataError where there is none."""
    path = expanded(Path(name))
    if is_folder(path) or is_npz(path):
        return path
    raise DataError(f"unknown data set {name!r}: expected {', '.join(KNOWN)}, or {OWN_SETS}")


def read_folder(folder: Path, image_size: int | None, on_progress: OnProgress | None) -> RawDataset:
    """Read class folders, once: later from the cache, as long as no file has changed."""
    found = find_class_folders(folder)
    arrays = read_cached(
        cache_path(folder, image_size),
        found.listing_sha256,
        lambda: read_class_folders(found, image_size, on_progress),
    )
    return RawDataset(name_of(folder), str(folder), False, arrays)


def _read_idx(stored: DatasetFiles) -> RawDataset:
    parts = stored.read_both()
    check_same_size(stored.folder, parts)
    classes, labels = stored.classes, {part: of for part, (_, of) in parts.items()}
    if stored.known is None and not stored.is_sample:
        names = read_class_names(stored.folder / CLASSES_FILE)
        classes, labels = number_classes(stored.folder, labels, names)
    arrays = ImageArrays({part: (images, labels[part]) for part, (images, _) in parts.items()}, classes)
    return RawDataset(stored.name, stored.source, stored.is_sample, arrays)


def _hashed(raw: RawDataset) -> RawDataset:
    """Add the SHA-256 of the parts, computed side by side."""
    parts = raw.arrays.parts
    with ThreadPoolExecutor(len(parts)) as pool:
        sums = pool.map(lambda part: images_sha256(*part), parts.values())
        return RawDataset(
            raw.name, raw.source, raw.is_sample, raw.arrays, dict(zip(parts, sums, strict=True))
        )


def images_sha256(images: Pixels, labels: Labels) -> str:
    """Hash shape, images and labels (SHA-256): equal content has an equal hash, whatever file it came from."""
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(images.data)
    digest.update(labels.data)
    return digest.hexdigest()


def dataset_sha256(*parts: str) -> str:
    """Hash a training, a test and perhaps a validation set that belong together, by their own SHA-256."""
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def find_dataset(name: str, data_dir: Path | None = None, download: bool = False) -> DatasetFiles:
    """Find a set of IDX files with both splits, by name, or a folder of IDX files by path.

    Raises:
        DataError: `data_dir` lacks the files.
    """
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
    """Derive a set's name from its path: fit for the name of a registered model, and never that of a known set."""
    folder = folder.resolve()
    named = (
        folder.parent
        if folder.name == "raw"
        else folder.with_suffix("")
        if folder.suffix == ".npz"
        else folder
    )
    name = re.sub(r"[^a-z0-9]+", "-", named.name.lower()).strip("-") or "folder"
    return f"{name}-folder" if name in KNOWN or name.endswith(SAMPLE_SUFFIX) else name


def _find(name: str, splits: Sequence[str], data_dir: Path | None, download: bool) -> Path | None:
    """Find the folder of a set's files; None where only an embedded sample can serve."""
    known: DatasetSpec | None = DATASETS.get(name)
    if known is not None:
        return find_known(name, known, splits, data_dir, download)
    if name.endswith(SAMPLE_SUFFIX) and name.removesuffix(SAMPLE_SUFFIX) in SAMPLES:
        return None
    folder = _path(name)
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

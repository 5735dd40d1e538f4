"""CIFAR-10, CIFAR-100 and SVHN as torchvision lays them, checked by their published MD5 sums.

CIFAR's files are pickles: nothing in them is run but what makes an array of numbers.
"""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw2.common.constants import DIGITS
from hw2.common.errors import DataError
from hw2.common.formatting import first_line
from hw2.data.formats.arrays import ImageArrays, Part
from hw2.data.formats.locations import DatasetNotFoundError, download_dir, download_files, expanded

_CIFAR_SIDE = 32


@dataclass(frozen=True)
class ArchiveSpec:
    """A set of torchvision's that isn't in IDX files.

    torchvision: its class there; folder: below the root; files: names with MD5, by part; meta: the file with the names
    of the classes and its key, where there is one.
    """

    torchvision: str
    folder: str
    files: Mapping[str, Mapping[str, str]]
    meta: tuple[str, str, str] | None = None
    downloads: tuple[Mapping[str, str], ...] = ({},)

    @property
    def paths(self) -> list[str]:
        names = [name for files in self.files.values() for name in files]
        return names + ([self.meta[0]] if self.meta else [])


ARCHIVES: dict[str, ArchiveSpec] = {
    "cifar10": ArchiveSpec(
        "CIFAR10",
        "cifar-10-batches-py",
        {
            "train": {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
            "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
        },
        ("batches.meta", "label_names", "5ff9c542aee3614f3951f8cda6e48888"),
    ),
    "cifar100": ArchiveSpec(
        "CIFAR100",
        "cifar-100-python",
        {
            "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
            "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        },
        ("meta", "fine_label_names", "7973b15100ade9c7d40fb424638fde48"),
    ),
    "svhn": ArchiveSpec(
        "SVHN",
        "",
        {
            "train": {"train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373"},
            "test": {"test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3"},
        },
        downloads=({"split": "train"}, {"split": "test"}),
    ),
}


def find_archive(name: str, spec: ArchiveSpec, data_dir: Path | None, download: bool) -> Path:
    """Find the folder of a set's files, below `data_dir` or torchvision's cache.

    Raises:
        DataError: They aren't there, and may not or can't be downloaded.
    """
    root = expanded(data_dir) if data_dir is not None else download_dir()
    places = [root / spec.torchvision / spec.folder, root / spec.folder, root]
    for attempt in range(2):
        for place in places:
            if all((place / file).is_file() for file in spec.paths):
                return place
        if not download or attempt:
            break
        for options in spec.downloads:
            download_files(name, spec.torchvision, root, options)
    raise DatasetNotFoundError(
        f"{root}: found no {spec.folder or spec.paths[0]} of {name}; "
        "put its files there as torchvision lays them, or let them be downloaded by --download"
    )


def archive_listing(folder: Path, spec: ArchiveSpec) -> str:
    """Hash names, sizes and times of a set's files."""
    status = [(name, (folder / name).stat()) for name in spec.paths]
    return hashlib.sha256(repr([(n, s.st_size, s.st_mtime_ns) for n, s in status]).encode()).hexdigest()


def read_archive(folder: Path, spec: ArchiveSpec) -> ImageArrays:
    """Read a set's files; DataError where they aren't those that were published."""
    read = _read_mat if spec.meta is None else _read_cifar
    parts = {}
    for part, files in spec.files.items():
        pieces = [read(folder / name, md5) for name, md5 in files.items()]
        images, labels = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
        parts[part] = images, labels
    classes = DIGITS
    if spec.meta is not None:
        name, key, md5 = spec.meta
        classes = tuple(str(label) for label in _unpickle(folder / name, md5)[key])
    return ImageArrays(parts, classes)


def _read_cifar(path: Path, md5: str) -> Part:
    batch = _unpickle(path, md5)
    labels = batch.get("labels", batch.get("fine_labels"))
    planes = np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, dtype=np.int64)


def _read_mat(path: Path, md5: str) -> Part:
    from io import BytesIO

    from scipy.io import loadmat

    content = loadmat(BytesIO(_content(path, md5)))
    labels = content["y"].astype(np.int64).reshape(-1) % 10  # a 0 is stored as 10
    return np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2)), labels


def _content(path: Path, md5: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != md5:
        raise DataError(f"{path}: found MD5 {digest}, expected {md5} as published; copy or download it again")
    return content


class _ArrayUnpickler(pickle.Unpickler):
    """Makes arrays, lists, dictionaries and text, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(("numpy.", "numpy")) and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _unpickle(path: Path, md5: str) -> dict[str, Any]:
    from io import BytesIO

    try:
        batch: dict[str, Any] = _ArrayUnpickler(BytesIO(_content(path, md5)), encoding="latin1").load()
    except (pickle.UnpicklingError, ValueError, KeyError, EOFError, AttributeError) as error:
        raise DataError(
            f"{path}: no batch of CIFAR ({first_line(error)}); copy or download it again"
        ) from error
    return batch

"""Image sets in one `.npz`, in MedMNIST's layout: train_images, train_labels, test_..., perhaps val_...

Objects in it are never unpickled, and nothing is allocated that the file's own headers don't justify.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw2.common.errors import DataError
from hw2.common.formatting import first_line
from hw2.data.formats.arrays import ImageArrays, Pixels, check_same_size
from hw2.data.formats.requirements import COLORS, check_memory, check_size, number_classes, read_class_names

PREFIXES = {"train": "train", "val": "validation", "test": "test"}
CLASSES = "classes.txt"
_ZIP_MAGIC = b"PK\x03\x04"
_Array = NDArray[Any]


def is_npz(path: Path) -> bool:
    """Whether a file is an archive of arrays, by its content or its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == _ZIP_MAGIC or path.suffix == ".npz"


def read_npz(path: Path) -> ImageArrays:
    """Read an image set; classes are named by their numbers, or by a `classes.txt` beside the file.

    Raises:
        DataError: An array is missing, of another type or shape, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            prefixes = [
                prefix for prefix in PREFIXES if prefix != "val" or "val_images.npy" in archive.namelist()
            ]
            arrays = {
                f"{prefix}_{kind}": _read_member(archive, path, f"{prefix}_{kind}")
                for prefix in prefixes
                for kind in ("images", "labels")
            }
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check its rights") from error
    except Exception as error:  # damaged archives raise zlib's, zipfile's and struct's errors
        raise DataError(f"{path}: a damaged .npz ({first_line(error)}); copy or download it again") from error
    images = {PREFIXES[prefix]: _checked_images(path, f"{prefix}_images", arrays) for prefix in prefixes}
    numbers = {
        PREFIXES[prefix]: _checked_labels(path, f"{prefix}_labels", arrays, len(images[PREFIXES[prefix]]))
        for prefix in prefixes
    }
    classes, labels = number_classes(path, numbers, read_class_names(path.with_name(CLASSES)))
    parts = {part: (images[part], labels[part]) for part in images}
    check_same_size(path, parts)
    return ImageArrays(parts, classes)


def _read_member(archive: zipfile.ZipFile, path: Path, name: str) -> _Array:
    try:
        member = archive.open(f"{name}.npy")
    except KeyError as error:
        there = ", ".join(sorted(entry.removesuffix(".npy") for entry in archive.namelist())[:8]) or "nothing"
        raise DataError(
            f"{path}: found no array {name}, only {there}; expected train_images, train_labels, test_images and "
            "test_labels as MedMNIST has them"
        ) from error
    with member:
        version = np.lib.format.read_magic(member)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read_header(member)
        if dtype.hasobject:
            raise DataError(
                f"{path}: {name} holds Python objects, which are never unpickled; expected whole numbers: save it anew"
            )
        check_memory(f"{path}: {name}", (*shape, dtype.itemsize))
        count = int(np.prod(shape, dtype=np.int64))
        content = member.read(count * dtype.itemsize)
        if len(content) < count * dtype.itemsize or member.read(1):
            raise DataError(f"{path}: {name} is truncated or too long; copy or download it again")
    values = np.frombuffer(bytearray(content), dtype=dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _checked_images(path: Path, name: str, arrays: dict[str, _Array]) -> Pixels:
    images = arrays[name]
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    form = " x ".join(map(str, images.shape))
    if images.dtype != np.uint8:
        raise DataError(
            f"{path}: {name} is of type {images.dtype}, expected uint8, 0 to 255; "
            "convert it (times 255 where it's 0 to 1)"
        )
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] == COLORS):
        raise DataError(f"{path}: {name} has shape {form}, expected N x H x W or N x H x W x 3; save it so")
    check_size(f"{path}: {name}", images.shape[1], images.shape[2], "save the images larger or smaller")
    return np.ascontiguousarray(images)


def _checked_labels(path: Path, name: str, arrays: dict[str, _Array], count: int) -> NDArray[np.integer[Any]]:
    labels = arrays[name]
    form = " x ".join(map(str, labels.shape))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{path}: {name} has shape {form}, expected N or N x 1, one class an image; save it so"
        )
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path}: {name} is of type {labels.dtype}, expected whole numbers; convert it")
    if len(labels) != count:
        raise DataError(
            f"{path}: found {len(labels):,} values in {name}, expected {count:,} as there are images"
        )
    return labels

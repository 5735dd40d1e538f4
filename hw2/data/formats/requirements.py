"""What an image set must be, whatever files it comes from: its sizes, its classes and the memory that it takes."""

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw2.common.constants import MAX_SIDE, MIN_SIDE
from hw2.common.errors import DataError
from hw2.common.formatting import plural
from hw2.common.types import IntArray

MIN_CLASSES, MAX_CLASSES = 2, 1000
MAX_NAME_LENGTH = 100
MAX_BYTES = 4 * 2**30
COLORS = 3

Integers = NDArray[np.integer]


def check_size(place: object, height: int, width: int, remedy: str) -> None:
    """Raise DataError for images that are too small or too large to train on."""
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise DataError(
            f"{place}: found images of {width} x {height} pixels, expected sides of {MIN_SIDE} to {MAX_SIDE}; {remedy}"
        )


def pixel_limit_problem(path: Path, width: int, height: int, max_pixels: int) -> DataError:
    """Build the error for an image of this size."""
    return DataError(
        f"{path}: found {width:,} x {height:,} pixels, expected {max_pixels:,} at most; give a smaller copy"
    )


def check_memory(place: object, shape: Sequence[int]) -> None:
    """Raise DataError where uint8 images of this shape would take more than 4 GiB or half of the memory."""
    size, limit = int(np.prod([int(side) for side in shape], dtype=object)), MAX_BYTES
    reason = "the most that is loaded"
    half = _memory() // 2
    if half < limit:
        limit, reason = half, "half of this machine's memory"
    if size > limit:
        form = " x ".join(f"{side:,}" for side in shape)
        raise DataError(
            f"{place}: {form} = {size / 2**30:.2f} GiB of images, expected {limit / 2**30:.2f} GiB at most, {reason}; "
            "use fewer or smaller images (class folders: --image-size)"
        )


def _memory() -> int:
    """Return the bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 2 * MAX_BYTES


def check_class_names(place: object, names: Sequence[str], least: int = MIN_CLASSES) -> None:
    """Raise DataError for names that can't be shown or told apart, or more than 1,000 or fewer than `least` of them."""
    if not least <= len(names) <= MAX_CLASSES:
        only = f" ({names[0]})" if len(names) == 1 else ""
        raise DataError(
            f"{place}: found {plural(len(names), 'class', 'classes')}{only}, "
            f"expected {MIN_CLASSES} to {MAX_CLASSES:,}; "
            "a classifier needs images of several classes"
        )
    seen: dict[str, str] = {}
    for name in names:
        problem = _name_problem(name)
        if problem:
            raise DataError(f"{place}: the class name {name[:40]!r} {problem}; rename the class")
        same = seen.get(name.casefold())
        seen[name.casefold()] = name
        if same is not None:
            twice = "is there twice" if same == name else f"differs from {same!r} only in case"
            raise DataError(f"{place}: the class name {name!r} {twice}; rename one of the two, or merge them")


def _name_problem(name: str) -> str:
    if not name.strip():
        return "is empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"has {len(name)} characters, expected {MAX_NAME_LENGTH} at most"
    if "/" in name or "\\" in name:
        return "has a slash"
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        return "has characters that can't be printed"
    return ""


def number_classes(
    place: object, labels: Mapping[str, Integers], names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], dict[str, IntArray]]:
    """Name the classes of numbered labels, and count the labels from 0.

    Args:
        place: How messages call the set.
        labels: Whole numbers [N] by part, which run from 0 or from 1.
        names: The classes' names in the order of the numbers; None to name them by their numbers.

    Returns:
        The names, and the labels of each part as indices into them.

    Raises:
        DataError: Labels begin elsewhere, there are more or fewer than names, or a class has no images to train on.
    """
    for part, values in labels.items():
        if len(values) == 0:
            raise DataError(f"{place}: the {part} part has no image, expected one at least; add some")
    lowest = min(int(values.min()) for values in labels.values())
    highest = max(int(values.max()) for values in labels.values())
    if lowest not in (0, 1):
        raise DataError(
            f"{place}: found labels from {lowest}, expected them to run from 0 or from 1; number the classes anew"
        )
    count = highest - lowest + 1
    if names is None:
        if count > MAX_CLASSES:
            raise DataError(
                f"{place}: found labels to {highest:,}, expected {MAX_CLASSES:,} classes at most; "
                "is it a file of labels?"
            )
        names = [str(number) for number in range(lowest, highest + 1)]
    elif len(names) != count:
        raise DataError(
            f"{place}: found labels from {lowest} to {highest}, expected {plural(len(names), 'class', 'classes')} "
            f"as named; correct the names (classes.txt) or the labels"
        )
    indices = {part: values.astype(np.int64) - lowest for part, values in labels.items()}
    check_class_names(place, names)
    check_parts(place, names, indices)
    return tuple(names), indices


def check_parts(place: object, names: Sequence[str], labels: Mapping[str, IntArray]) -> None:
    """Raise DataError where a class has no images to train on; labels: indices into `names` [N] by part."""
    trained = np.bincount(labels["train"], minlength=len(names))
    missing = [int(label) for label in np.flatnonzero(trained == 0)]
    if not missing:
        return
    for part, values in labels.items():
        if part != "train" and np.isin(missing, values).any():
            name = names[next(label for label in missing if label in values)]
            raise DataError(
                f"{place}: the class {name} is in the {part} part only, expected it among the training images, too; "
                "add some there, or take the class out"
            )
    raise DataError(
        f"{place}: the class {names[missing[0]]} has no image to train on (labels must not skip numbers); "
        "add some, or number the classes without gaps"
    )


def read_class_names(path: Path) -> list[str] | None:
    """Read the classes' names, a line each, in the order of their numbers; None where the file is absent."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(f"{path}: no readable list of class names ({reason}); write a name a line") from error
    return [line.strip() for line in lines if line.strip()]

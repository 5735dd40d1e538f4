"""An image set as it was read, as arrays: what every reader of a file format returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw2.common.errors import DataError
from hw2.common.types import IntArray

Pixels = NDArray[np.uint8]
Labels = IntArray
Part = tuple[Pixels, Labels]
OnProgress = Callable[[str, float], None]
"""Receives what is being done, and the share that is done, 0 to 1."""

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """Images, uint8 [N, H, W] or [N, H, W, 3], with labels, int64 [N], by part: train, test and perhaps validation.

    notes: what was left out or changed, each worth a line.
    """

    parts: Mapping[str, Part]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def untested_classes(self) -> list[str]:
        """The classes without a test image, of which no accuracy can be given."""
        counts = np.bincount(self.parts["test"][1], minlength=len(self.classes))
        return [name for name, count in zip(self.classes, counts, strict=True) if count == 0]


def check_same_size(place: object, parts: Mapping[str, Part]) -> None:
    """Raise DataError where the parts' images differ in size or color."""
    shapes = {part: images.shape[1:] for part, (images, _) in parts.items()}
    expected = shapes["train"]
    for part, shape in shapes.items():
        if shape != expected:
            raise DataError(
                f"{place}: the {part} images are {describe_shape(shape)}, "
                f"those to train on {describe_shape(expected)}; make them alike"
            )


def describe_shape(shape: tuple[int, ...]) -> str:
    """Describe one image of this shape: "32 x 32 pixels in color"."""
    return f"{shape[1]} x {shape[0]} pixels{' in color' if len(shape) == 3 else ''}"

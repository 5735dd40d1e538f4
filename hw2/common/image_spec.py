"""What a model knows of the images that it takes: their size, colors and classes, and how it normalizes them."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hw2.common.constants import DIGITS, IMAGE_SIZE

# MNIST's mean pixel and a scale, both in units of [0, 1]. 0.5 instead of MNIST's deviation of 0.3081: at that
# scale a learning rate of 0.1 diverges, at this one it is stable and meets the study's accuracies.
MEAN = 0.1307
SCALE = 0.5
# Of other images the scale is as many standard deviations.
DEVIATIONS = 1.6
_LEAST_SCALE = 0.02  # of images of one color
_ROWS = 250  # images whose squares are summed up at a time


@dataclass(frozen=True)
class ImageSpec:
    """Images as a model takes them, uint8 [N, height, width], or [N, height, width, 3] with 3 channels.

    A pixel is divided by 255, less its channel's mean, divided by its channel's scale.
    """

    classes: tuple[str, ...] = DIGITS
    channels: int = 1
    height: int = IMAGE_SIZE
    width: int = IMAGE_SIZE
    mean: tuple[float, ...] = (MEAN,)
    scale: tuple[float, ...] = (SCALE,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def is_digits(self) -> bool:
        """Whether these are digits as MNIST has them."""
        return self.classes == DIGITS and self.shape == (IMAGE_SIZE, IMAGE_SIZE)

    @property
    def form(self) -> str:
        """The shape of an array of images: "[N, 28, 28]"."""
        return f"[{', '.join(['N', *map(str, self.shape)])}]"

    @property
    def forms(self) -> str:
        """Every shape that raw images may have: "[N, 28, 28] or [N, 1, 28, 28]"."""
        channel = f"[N, 1, {self.height}, {self.width}]"
        return f"{self.form} or {channel}" if self.channels == 1 else self.form

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Invert `to_json`; ValueError or TypeError for other text."""
        plain: dict[str, Any] = json.loads(text)
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        return cls(**values)


STUDY = ImageSpec()
"""MNIST's, as in the reference study."""


def measure(name: str, images: NDArray[np.uint8], classes: tuple[str, ...]) -> ImageSpec:
    """Measure training images, uint8 [N, H, W] or [N, H, W, 3]; of MNIST mean and scale are what they have always been.

    From whole numbers, so that the same images have the same values on every machine.
    """
    channels = 1 if images.ndim == 3 else images.shape[3]
    height, width = images.shape[1:3]
    if name.removesuffix("-sample") == "mnist":
        return ImageSpec(classes, channels, height, width)
    count = len(images) * height * width
    totals = np.zeros((2, channels))  # of whole numbers below 2^53, and so exact
    for start in range(0, len(images), _ROWS):
        pixels = images[start : start + _ROWS].reshape(-1, channels).astype(np.float64)
        totals += pixels.sum(axis=0), np.einsum("ij,ij->j", pixels, pixels)
    mean = totals[0] / (255 * count)
    deviation = np.sqrt(np.maximum(totals[1] / (255.0**2 * count) - mean**2, 0))
    scale = np.maximum(DEVIATIONS * deviation, _LEAST_SCALE)
    return ImageSpec(classes, channels, height, width, _rounded(mean), _rounded(scale))


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)

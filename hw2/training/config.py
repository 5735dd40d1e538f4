"""The configuration of a training. PyTorch isn't imported: a command line reads the defaults at once."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from hw2.common.constants import MAX_SIDE, MIN_SIDE
from hw2.common.errors import ConfigurationError
from hw2.common.formatting import format_float
from hw2.models import net_source

PRECISIONS = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
OPTIMIZERS = ("sgd",)
VALIDATION_SIZE = 5_000
_BOUNDS = {  # what PyTorch takes, and more threads or epochs than anybody has a use for
    "epochs": (1, 1_000_000),
    "batch_size": (1, 2**63 - 1),
    "warmup": (0, 1_000_000_000),
    "seed": (0, 2**63 - 1),
    "threads": (0, 1_024),
}
SMALL_VALIDATION_SHARE = 12  # a set smaller than 60,000 gives a twelfth


@dataclass(frozen=True)
class TrainingConfig:
    """One configuration, as requested.

    lr: finite, above 0. momentum: 0 to below 1. warmup: batches over which the rate rises linearly to lr, counted
    from the beginning of the training; 0 is lr from the first batch on. validation_size: images taken from the
    training set, or None for 5,000 (a twelfth of a set smaller than 60,000). epochs: 1 to 1,000,000. threads:
    processor threads, to 1,024; 0 for all cores, or for a net without kernels as many as are fastest. model:
    `base-cnn`, `resnet20`, torchvision:NAME (see `hw2.models.torchvision_net`), or FILE.py:CLASS for a custom net (see
    `hw2.models.custom_net`); model_source is that file's text, read when the configuration is created and part of it
    from then on. image_size: side of the square that the images of class
    folders are made into, 8 to 128; None to take them as they are.

    Raises:
        ConfigurationError: a value that can't be trained with.
    """

    lr: float = 0.001
    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "sgd"
    momentum: float = 0.0
    warmup: int = 100
    seed: int = 0
    dataset: str = "mnist"
    validation_size: int | None = None
    precision: str = "auto"
    device: str = "auto"
    threads: int = 0
    model: str = net_source.BASE
    image_size: int | None = None
    model_source: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        custom = net_source.is_custom(str(self.model))
        source = (self.model_source or net_source.read(str(self.model))) if custom else ""
        object.__setattr__(self, "model_source", source)
        _require(
            math.isfinite(self.lr) and self.lr > 0, f"lr is {self.lr}; it must be a finite number above 0"
        )
        _require(0 <= self.momentum < 1, f"momentum is {self.momentum}; it must be at least 0 and below 1")
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            _require(
                isinstance(value, int) and low <= value <= high,
                f"{name} is {value}; it must be a whole number from {low:,} to {high:,}",
            )
        _require(
            self.validation_size is None or self.validation_size >= 0,
            f"validation_size is {self.validation_size}; it must be a whole number from 0",
        )
        _require(
            self.image_size is None or MIN_SIDE <= self.image_size <= MAX_SIDE,
            f"image_size is {self.image_size}; it must be a whole number from {MIN_SIDE} to {MAX_SIDE}",
        )
        for name, choices in (("precision", PRECISIONS), ("device", DEVICES), ("optimizer", OPTIMIZERS)):
            value = getattr(self, name)
            _require(value in choices, f"{name} is {value!r}; it must be one of {', '.join(choices)}")

    def rate(self, batch: int) -> float:
        """The learning rate of a batch, counted from 1 at the beginning of the training."""
        return self.lr if batch >= self.warmup else self.lr * (batch / self.warmup)

    @property
    def name(self) -> str:
        """The run's name: learning rate and epochs, and whatever else is not the default."""
        words = [f"lr={format_float(self.lr)}", f"epochs={self.epochs}"]
        named = ("batch_size", "momentum", "warmup", "seed", "dataset", "image_size", "precision")
        words += [f"{k}={getattr(self, k)}" for k in named if getattr(self, k) != _DEFAULTS[k]]
        words += [f"model={self.model_name}"] if self.custom_net else []
        return " ".join(words)

    @property
    def model_name(self) -> str:
        """The net's name in run and model names: `base-cnn`, or a custom net's file and class written like that."""
        return net_source.short_name(self.model)

    @property
    def custom_net(self) -> tuple[str, str] | None:
        """Class and source of a custom net, or the name of another one and "", as `new_model` takes them.

        None for BaseCNN.
        """
        if self.model == net_source.BASE:
            return None
        return (net_source.class_name(self.model) if self.model_source else self.model), self.model_source

    def for_training_set(self, images: int, validation_size: int | None = None) -> "TrainingConfig":
        """Return the configuration with its `validation_size` resolved for a training set of `images`.

        validation_size: instead of the configuration's own, where it is not None.
        """
        size = self.validation_size if validation_size is None else validation_size
        if size is None:
            size = min(VALIDATION_SIZE, images // SMALL_VALIDATION_SHARE)
        left = images - size
        _require(
            left > 0,
            f"validation_size is {size} but the training set has {images} images; leave some to train on",
        )
        _require(
            self.batch_size <= left,
            f"batch_size is {self.batch_size} but only {left} images are trained on; it must not be larger",
        )
        return dataclasses.replace(self, validation_size=size)


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(TrainingConfig)}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigurationError(message)

"""The configuration of a training. PyTorch isn't imported: a command line reads the defaults at once."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hw2.common.constants import MAX_SIDE, MIN_SIDE
from hw2.common.errors import ConfigurationError
from hw2.common.formatting import format_float
from hw2.models import net_source
from hw2.train_step.options import AUGMENTATIONS, OPTIMIZERS, UpdateRule
from hw2.training.schedule import CONSTANT, ONE_CYCLE, SCHEDULES, counts_epochs, learning_rate

PRECISIONS = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
VALIDATION_SIZE = 5_000
_BOUNDS = {  # what PyTorch takes, and more threads or epochs than anybody has a use for
    "epochs": (1, 1_000_000),
    "batch_size": (1, 2**63 - 1),
    "warmup": (0, 1_000_000_000),
    "seed": (0, 2**63 - 1),
    "threads": (0, 1_024),
    "patience": (1, 1_000_000),
}
_CHOICES = {
    "precision": PRECISIONS,
    "device": DEVICES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
LATER = (
    *("image_size", "nesterov", "weight_decay", "label_smoothing", "clip_norm", "schedule", "augment"),
    "patience",
)
"""Fields that earlier versions didn't have; at their default a training is what it was before."""
_NAMED = (
    *("batch_size", "optimizer", "momentum", "nesterov", "weight_decay", "label_smoothing", "clip_norm"),
    *("schedule", "warmup", "augment", "patience", "seed", "dataset", "image_size", "precision"),
)
SMALL_VALIDATION_SHARE = 12  # a set smaller than 60,000 gives a twelfth


@dataclass(frozen=True)
class TrainingConfig:
    """One configuration, as requested.

    lr: finite, above 0; of a schedule the largest. momentum: of SGD, 0 to below 1. nesterov, weight_decay,
    label_smoothing, clip_norm: see `UpdateRule`. schedule: see `hw2.training.schedule`. warmup: batches over which the
    rate rises linearly to lr, counted from the beginning of the training; 0 is lr from the first batch on, and what
    one-cycle, which has its own rise, always has. augment: some of `AUGMENTATIONS`, separated by commas, in any order;
    empty for none. patience: epochs without a validation loss below the least, after which the training ends; with it
    the epoch of the least is kept. validation_size: images taken from the training set, or None for 5,000 (a twelfth
    of a set smaller than 60,000). epochs: 1 to 1,000,000. threads: processor threads, to 1,024; 0 for all cores, or
    without kernels as many as are fastest. model: `base-cnn`, `resnet20`, torchvision:NAME (see
    `hw2.models.torchvision_net`), or FILE.py:CLASS for a custom net (see `hw2.models.custom_net`); model_source is that
    file's text, read when the configuration is created and part of it from then on. image_size: side of the square
    that the images of class folders are made into, 8 to 128; None to take them as they are.

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
    nesterov: bool = False
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    schedule: str = CONSTANT
    augment: str = ""
    patience: int | None = None
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
                (isinstance(value, int) and low <= value <= high) or (value is None and name == "patience"),
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
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            _require(value in choices, f"{name} is {value!r}; it must be one of {', '.join(choices)}")
        _check_update(self)
        _check_patience(self)
        object.__setattr__(self, "augment", _sorted_augmentations(self.augment))
        if self.schedule == ONE_CYCLE:
            object.__setattr__(self, "warmup", 0)

    def rate(self, batch: int, batches: int) -> float:
        """The learning rate of a batch, counted from 1 at the beginning of the training, of so many in all."""
        return learning_rate(self.schedule, self.lr, self.warmup, batch, batches)

    @property
    def update_rule(self) -> UpdateRule:
        """What the training step does beside the learning rate."""
        return UpdateRule(
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(UpdateRule)}
        )

    @property
    def by_autograd(self) -> bool:
        """Whether no kernels can train it, on whatever images: a custom net, or another update than plain SGD."""
        return self.custom_net is not None or not self.update_rule.is_plain

    @property
    def counts_epochs(self) -> bool:
        """Whether each batch's rate depends on `epochs`, so that no other number of them has a beginning in common."""
        return counts_epochs(self.schedule)

    @property
    def name(self) -> str:
        """The run's name: learning rate and epochs, and whatever else is not the default."""
        words = [f"lr={format_float(self.lr)}", f"epochs={self.epochs}"]
        words += [f"{k}={getattr(self, k)}" for k in _NAMED if getattr(self, k) != DEFAULTS[k]]
        if self.schedule == ONE_CYCLE:
            words.remove("warmup=0")
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

    def for_training_set(self, images: int) -> "TrainingConfig":
        """Return the configuration with its `validation_size` resolved for a training set of `images`."""
        size = self.validation_size
        if size is None:
            size = min(VALIDATION_SIZE, images // SMALL_VALIDATION_SHARE)
        _require(
            images > size,
            f"validation_size is {size} but the training set has {images} images; leave some to train on",
        )
        self.check_trained_on(images - size)
        return dataclasses.replace(self, validation_size=size)

    def check_trained_on(self, images: int) -> None:
        """Raise ConfigurationError where so many `images` to train on are no whole batch."""
        _require(
            self.batch_size <= images,
            f"batch_size is {self.batch_size} but only {images} images are trained on; it must not be larger",
        )


DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(TrainingConfig)}


def without_later_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the fields that earlier versions didn't have, where they have their default.

    So what is stored, and hashed, of a configuration stays what it was before there were such fields.
    """
    return {k: v for k, v in values.items() if k not in LATER or v != DEFAULTS[k]}


def _check_update(config: TrainingConfig) -> None:
    decay, smoothing, clip = config.weight_decay, config.label_smoothing, config.clip_norm
    _require(
        math.isfinite(decay) and decay >= 0, f"weight_decay is {decay}; it must be a finite number from 0"
    )
    _require(0 <= smoothing < 1, f"label_smoothing is {smoothing}; it must be at least 0 and below 1")
    _require(
        clip is None or (math.isfinite(clip) and clip > 0),
        f"clip_norm is {clip}; it must be a finite number above 0",
    )
    if config.optimizer != "sgd":
        for name in ("nesterov", "momentum"):
            _require(
                not getattr(config, name),
                f"{name} is {getattr(config, name)} but optimizer is {config.optimizer}, which has its own moments; "
                f"leave {name} out, or train with optimizer sgd",
            )
    _require(
        config.momentum > 0 or not config.nesterov,
        f"nesterov is {config.nesterov} but momentum is 0; give a momentum, such as 0.9, or leave nesterov out",
    )
    _require(
        config.schedule != ONE_CYCLE or config.warmup in (0, DEFAULTS["warmup"]),
        f"warmup is {config.warmup} but the schedule {ONE_CYCLE} has its own rise, over 0.3 of all batches; leave "
        "warmup out",
    )


def _check_patience(config: TrainingConfig) -> None:
    _require(
        config.patience is None or config.validation_size != 0,
        f"patience is {config.patience} but validation_size is 0, and what it waits for is a smaller validation loss; "
        "leave images for validation, or leave patience out",
    )


def _sorted_augmentations(text: str) -> str:
    """Bring the names into the order of AUGMENTATIONS: the same changes are the same configuration."""
    _require(
        isinstance(text, str),
        f"augment is {text!r}; write names with commas between them, such as flip,shift",
    )
    names = [name.strip() for name in text.split(",")] if text else []
    for name in names:
        _require(
            name in AUGMENTATIONS,
            f"augment is {text!r}; {name!r} is none of {', '.join(AUGMENTATIONS)}: write some of them with commas "
            "between",
        )
        _require(names.count(name) == 1, f"augment is {text!r}; {name} is there twice: name each once")
    return ",".join(sorted(names, key=AUGMENTATIONS.index))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigurationError(message)

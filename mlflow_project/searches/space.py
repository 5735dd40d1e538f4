"""What a search varies: intervals and lists of values, as a person writes them and as Optuna takes them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hw2.common.formatting import format_float
from mlflow_project.common.errors import UsageError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = int | float
SIGNIFICANT = 3
"""Digits of a proposed rate: more tell nothing apart, and the run's name has them all."""
_LOGARITHMIC = ("lr", "batch_size")
_WHOLE = ("batch_size", "epochs")


@dataclass(frozen=True)
class Interval:
    """All values from low to high; logarithmic where ratios count."""

    low: Value
    high: Value
    log: bool = False

    def __str__(self) -> str:
        return f"{format_float(self.low)}..{format_float(self.high)}"


@dataclass(frozen=True)
class Choices:
    """A list of values."""

    values: tuple[Value, ...]

    def __str__(self) -> str:
        return ",".join(map(format_float, self.values))


Axis = Interval | Choices


def parse_axis(name: str, text: str | Sequence[Value]) -> Axis:
    """Parse `LOW..HIGH` or `A,B,C`.

    Args:
        name: A field of the configuration: lr, batch_size, momentum or epochs.
        text: What a person wrote, or the values of a list.

    Raises:
        UsageError: It is neither; with what it lacks.
    """
    option = f"--{name.replace('_', '-')}"
    if not isinstance(text, str):
        text = ",".join(map(str, text))
    low, dots, high = text.partition("..")
    if not dots:
        return Choices(tuple(dict.fromkeys(_number(option, name, part, text) for part in text.split(","))))
    if not low.strip() or not high.strip():
        end = "an end" if low.strip() else "a beginning"
        raise UsageError(f"{option} is {text!r}, an interval without {end}; write LOW..HIGH")
    least, most = (_number(option, name, part, text) for part in (low, high))
    if least >= most:
        raise UsageError(
            f"{option} is {text!r}, which begins at {format_float(least)} and ends at {format_float(most)}; "
            "write the smaller one first"
        )
    log = name in _LOGARITHMIC
    if log and least <= 0:
        raise UsageError(f"{option} is {text!r}; its values must be above 0")
    return Interval(least, most, log)


def _number(option: str, name: str, part: str, text: str) -> Value:
    try:
        number = float(part)
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        example = "1..27" if name in _WHOLE else "0.001..0.3"
        raise UsageError(
            f"{option} is {text!r}, and {part.strip()!r} is not a number; write LOW..HIGH, such as {example}, "
            "or values with commas between them"
        ) from None
    if name not in _WHOLE:
        return number
    if number != int(number):
        raise UsageError(f"{option} is {text!r}, and {part.strip()} is not a whole number")
    return int(number)


@dataclass(frozen=True)
class SearchSpace:
    """The axes of a search that have several values, by the names of the configuration's fields."""

    axes: Mapping[str, Axis]

    def __str__(self) -> str:
        return " ".join(f"{name}={axis}" for name, axis in self.axes.items())

    @property
    def size(self) -> int | None:
        """Return how many configurations there are; None where an interval has no end of them."""
        sizes = [len(axis.values) for axis in self.axes.values() if isinstance(axis, Choices)]
        return math.prod(sizes) if len(sizes) == len(self.axes) else None

    def distributions(self) -> "dict[str, BaseDistribution]":
        """Return the axes as Optuna's distributions."""
        return {name: _distribution(axis) for name, axis in self.axes.items()}

    def tidy(self, params: Mapping[str, Any]) -> dict[str, Value]:
        """Return proposed values rounded to `SIGNIFICANT` digits, and within the interval still."""
        return {name: _tidy(self.axes[name], params[name]) for name in self.axes}


def _distribution(axis: Axis) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(axis, Choices):
        return CategoricalDistribution(axis.values)
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return IntDistribution(axis.low, axis.high, log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _tidy(axis: Axis, value: Any) -> Value:
    if isinstance(axis, Choices):
        return next(choice for choice in axis.values if choice == value)
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return int(value)
    return min(max(float(f"{value:.{SIGNIFICANT}g}"), axis.low), axis.high)

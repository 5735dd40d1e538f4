"""The specification of a search."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hw2.training.config import TrainingConfig
from mlflow_project.common.errors import UsageError
from mlflow_project.searches.halving import Budget, make_rungs
from mlflow_project.searches.space import Choices, Interval, SearchSpace, Value, parse_axis
from mlflow_project.sweeps.request import ExecutionSpec

SAMPLERS = ("tpe", "random")
VARIED = ("lr", "batch_size", "momentum")
DEFAULTS = {"lr": "0.001..0.3", "batch_size": "32,64,128", "epochs": "1..27", "budget": "60epochs"}
_UNITS = {"s": 1, "sec": 1, "min": 60, "h": 3600}


@dataclass(frozen=True, kw_only=True)
class SearchSpec(ExecutionSpec):
    """What to search. UsageError where fields don't fit.

    base: what all trials have in common, with the most epochs. epochs: of the first and the last rung. budget: what
    all trials together may take. sampler_seed: of the proposals; that of the trainings is in `base`. study: an address
    or a file for Optuna's record of the search; by default a file in the state folder.
    """

    base: TrainingConfig
    space: SearchSpace
    epochs: tuple[int, int]
    trials: int = 40
    budget: Budget
    reduction: int = 3
    sampler: str = SAMPLERS[0]
    sampler_seed: int = 0
    study: str | None = None

    @classmethod
    def of(
        cls,
        base: TrainingConfig | None = None,
        *,
        lr: str | Sequence[Value] | None = None,
        batch_size: str | Sequence[Value] | None = None,
        momentum: str | Sequence[Value] | None = None,
        epochs: str | None = None,
        budget: str | None = None,
        **options: Any,
    ) -> Self:
        """Make the specification of what a person wrote; an axis of one value is part of what all have in common.

        Raises:
            UsageError, ConfigurationError: It can't be searched.
        """
        base = base or TrainingConfig()
        texts = {"lr": lr, "batch_size": batch_size, "momentum": momentum}
        axes = {
            name: parse_axis(name, text)
            for name in VARIED
            if (text := texts[name] or DEFAULTS.get(name)) is not None
        }
        span = parse_axis("epochs", epochs or DEFAULTS["epochs"])
        if not isinstance(span, Interval):
            raise UsageError(
                f"--epochs is {span}; write LOW..HIGH, the epochs after which trials are first compared and the most, "
                "such as 1..27"
            )
        fixed = {
            n: axis.values[0]
            for n, axis in axes.items()
            if isinstance(axis, Choices) and len(axis.values) == 1
        }
        base = dataclasses.replace(base, epochs=int(span.high), **fixed)  # type: ignore[arg-type]
        for name, axis in axes.items():  # each value that may be proposed can be trained
            for value in (axis.low, axis.high) if isinstance(axis, Interval) else axis.values:
                dataclasses.replace(base, **{name: value})  # type: ignore[arg-type]
        return cls(
            base=base,
            space=SearchSpace({name: axis for name, axis in axes.items() if name not in fixed}),
            epochs=(int(span.low), int(span.high)),
            budget=parse_budget(budget or DEFAULTS["budget"]),
            **options,
        )

    def __post_init__(self) -> None:
        low, high = self.epochs
        if self.reduction < 2:
            raise UsageError(f"--reduction is {self.reduction}; it must be at least 2")
        if self.trials < 2:
            raise UsageError(f"--trials is {self.trials}; a search compares at least 2")
        if low < 1:
            raise UsageError(f"--epochs is {low}..{high}; a trial takes at least 1 epoch")
        if len(self.rungs) < 2:
            raise UsageError(
                f"--epochs is {low}..{high}, fewer than a rung apart at --reduction {self.reduction}; write at least "
                f"{low}..{low * self.reduction}, or a smaller --reduction"
            )
        if self.budget.epochs is not None and self.budget.epochs < low + high:
            raise UsageError(
                f"--budget is {self.budget}; two trials of which one goes on to {high} epochs take {low + high}: "
                "write more, or fewer --epochs"
            )
        if not self.space.axes:
            raise UsageError(
                "nothing to search: each axis has one value; give one several, such as --lr 0.001..0.3"
            )
        if self.base.counts_epochs:
            raise UsageError(
                f"--schedule is {self.base.schedule}, whose rates depend on the number of epochs; a search lets "
                "trials go on from rung to rung: leave --schedule out (constant)"
            )
        if self.base.patience is not None:
            raise UsageError(
                f"--patience is {self.base.patience}; a search itself ends trials that are no better: leave "
                "--patience out"
            )
        if self.base.validation_size == 0:
            raise UsageError("--validation-size is 0; a search chooses by validation images: leave some")
        if self.sampler not in SAMPLERS:
            raise UsageError(f"--sampler is {self.sampler!r}; it must be one of {', '.join(SAMPLERS)}")
        super().__post_init__()

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return after how many epochs trials are compared."""
        return make_rungs(*self.epochs, self.reduction)

    @property
    def name(self) -> str:
        """Return the search as text."""
        low, high = self.epochs
        words = [str(self.space), f"epochs={low}..{high} trials={self.trials} budget={self.budget.short}"]
        if self.reduction != 3:
            words.append(f"reduction={self.reduction}")
        words += [f"{key}={getattr(self, key)}" for key in ("sampler", "sampler_seed") if self._differs(key)]
        return " ".join(words)

    def _differs(self, key: str) -> bool:
        return bool(getattr(self, key) != {"sampler": SAMPLERS[0], "sampler_seed": 0}[key])

    def identity(self) -> Mapping[str, Any]:
        """Return what decides the search, data and code apart."""
        # The workers are part of it: with more of them, decisions are made on fewer results.
        return {"name": self.name, "rungs": self.rungs, "workers": self.workers}


def parse_budget(text: str) -> Budget:
    """Parse `60epochs` or a time such as `30min`.

    Raises:
        UsageError: It is neither, or nothing at all.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text, re.IGNORECASE)
    unit = match[2].lower() if match else ""
    if match is None or unit not in (*_UNITS, "epoch", "epochs"):
        raise UsageError(
            f"--budget is {text!r}; write epochs, such as 60epochs, or a time, such as 30min or 2h"
        )
    amount = float(match[1])
    if amount == 0:
        raise UsageError(f"--budget is {text!r}; nothing can be trained for that")
    if unit in _UNITS:
        return Budget(seconds=amount * _UNITS[unit])
    if amount != int(amount):
        raise UsageError(f"--budget is {text!r}; write whole epochs")
    return Budget(epochs=int(amount))

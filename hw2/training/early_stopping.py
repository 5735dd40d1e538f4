"""When a training ends before its last epoch, and which epoch's weights are its result."""

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Validated(Protocol):
    """What is read of an epoch's metrics."""

    @property
    def epoch(self) -> int: ...
    @property
    def validation_loss(self) -> float | None: ...


_Result = TypeVar("_Result", bound=Validated)


def kept_result(history: Sequence[_Result], patience: int | None) -> _Result:
    """Return the metrics of the epoch whose weights are kept.

    With patience that is the first of the least validation loss, without it the last. Either is a function of the
    epochs so far alone: where trainings share them, each keeps what it would have kept by itself.
    """
    if patience is None:
        return history[-1]
    return min(history, key=_loss)


def is_stopped(history: Sequence[_Result], patience: int | None) -> bool:
    """Whether the validation loss has not been less than before for so many epochs."""
    if patience is None or not history:
        return False
    return history[-1].epoch - kept_result(history, patience).epoch >= patience


def _loss(result: Validated) -> float:
    loss = result.validation_loss
    return math.inf if loss is None or math.isnan(loss) else loss

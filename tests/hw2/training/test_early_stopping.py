"""Which epoch is kept, and after which a training ends."""

import math
from dataclasses import dataclass

import pytest

from hw2.training.early_stopping import is_stopped, kept_result


@dataclass(frozen=True)
class Result:
    epoch: int
    validation_loss: float | None


def history(*losses: float | None) -> list[Result]:
    return [Result(epoch, loss) for epoch, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(
    ("losses", "kept", "stopped"),
    [
        ((3.0,), 1, False),
        ((3.0, 2.0, 2.5), 2, False),
        ((3.0, 2.0, 2.5, 2.1), 2, True),
        ((3.0, 2.0, 2.0, 2.0), 2, True),  # of equal ones the first; they are no progress
        ((3.0, 2.0, 2.5, 1.9), 4, False),
        ((math.nan, 2.0), 2, False),
        ((2.0, math.nan, math.inf), 1, True),
        ((math.nan, math.nan, math.nan), 1, True),
    ],
)
def test_a_training_ends_two_epochs_after_the_best_which_is_kept(
    losses: tuple[float, ...], kept: int, stopped: bool
) -> None:
    assert kept_result(history(*losses), 2).epoch == kept
    assert is_stopped(history(*losses), 2) is stopped


def test_without_patience_the_last_is_kept_and_nothing_stops() -> None:
    assert kept_result(history(1.0, 2.0, 3.0, 4.0), None).epoch == 4
    assert kept_result(history(None, None), None).epoch == 2
    assert not is_stopped(history(1.0, 2.0, 3.0, 4.0), None)


def test_nothing_is_stopped_before_it_begins() -> None:
    assert not is_stopped([], 1)

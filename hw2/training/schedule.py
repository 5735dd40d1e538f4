"""The learning rate of each batch. PyTorch isn't imported.

    constant    lr
    cosine      from lr to 0 by half a cosine, after the warm-up
    one-cycle   from lr / 25 to lr over the first 0.3 of the batches, then to lr / 250,000, both by half a cosine

One-cycle is that of Smith and Topin 2018 as PyTorch's `OneCycleLR` has it, for the rate alone: momentum stays. It has
its own rise instead of the warm-up, over whose batches the rate of the others rises linearly.
"""

import math

CONSTANT, COSINE, ONE_CYCLE = SCHEDULES = ("constant", "cosine", "one-cycle")
_RISE = 0.3  # of all batches
_FIRST = 25.0  # lr over the first rate
_LAST = 1e4  # the first rate over the last


def counts_epochs(schedule: str) -> bool:
    """Whether the rate of a batch depends on how many there will be: such trainings have no beginning in common."""
    return schedule != CONSTANT


def learning_rate(schedule: str, lr: float, warmup: int, batch: int, batches: int) -> float:
    """Compute the rate of a batch, counted from 1 at the beginning of the training, of so many in all."""
    if schedule == ONE_CYCLE:
        return _one_cycle(lr, batch - 1, batches)
    if batch <= warmup:
        return lr * (batch / warmup) if batch < warmup else lr
    if schedule == COSINE:
        return _anneal(lr, 0.0, (batch - 1 - warmup) / (batches - warmup))
    return lr


def _one_cycle(lr: float, step: int, batches: int) -> float:
    first, peak = lr / _FIRST, _RISE * batches - 1
    if step <= peak:
        return _anneal(first, lr, step / peak)
    return _anneal(lr, first / _LAST, (step - peak) / (batches - 1 - peak))


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

"""Paired significance tests over the same images, and corrections for their number. No test divides by zero.

Distributions are those of `scipy.special`, imported where they are needed: `scipy.stats`, which has the same ones under
better names, would cost each comparison half a second.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hw2.common.types import BoolArray, FloatArray, IntArray


class CochranQ(NamedTuple):
    """Cochran's Q, its degrees of freedom, and its p-value."""

    statistic: float
    degrees: int
    p: float


class PairedTest(NamedTuple):
    """Two models on the same images: how many only one has right, and what the first one's lead is.

    difference: of the accuracies, with its 95 % interval; p: of McNemar's exact test.
    """

    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p: float


def paired_test(first: BoolArray, second: BoolArray) -> PairedTest:
    """Compare two models by the images that only one of them has right.

    first, second: whether each answer is right, bool [N].
    """
    only_first, only_second = count_discordant(first, second)
    low, high = paired_difference_ci(only_first, only_second, len(first))
    difference = (only_first - only_second) / len(first)
    return PairedTest(only_first, only_second, difference, low, high, mcnemar(only_first, only_second))


def count_discordant(first: BoolArray, second: BoolArray) -> tuple[int, int]:
    """Count the images that only the first has right, and those that only the second has."""
    return int((first & ~second).sum()), int((second & ~first).sum())


def mcnemar(only_first: int, only_second: int) -> float:
    """Compute the exact two-sided p-value: Q. McNemar, Psychometrika 12 (1947), by the binomial distribution.

    only_first, only_second: images that one model has right and the other wrong. 1 where there are none.
    """
    from scipy.special import bdtr

    # At p = 1/2 both tails are alike; where the counts are, too, their sum has the middle twice.
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, in the order given: S. Holm, Scand. J. Statist. 6 (1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    return _step_down(p, np.arange(len(p), 0, -1))


def best_correction(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of the others' comparisons with the best of k + 1, in the order given.

    The best was chosen by the same data, so the first comparison counts as one of all pairs; each that is decided
    leaves those of one candidate fewer: closed testing, R. Marcus, E. Peritz & K. R. Gabriel, Biometrika 63 (1976).
    """
    p = np.asarray(p_values, dtype=np.float64)
    left = np.arange(len(p) + 1, 1, -1)  # candidates, the best among them
    return _step_down(p, left * (left - 1) / 2)


def _step_down(p: FloatArray, factors: FloatArray | IntArray) -> list[float]:
    """Multiply the least p by the first factor and so on; none is then less than one before it, or above 1."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return [float(value) for value in corrected]


def cochran_q(correct: BoolArray) -> CochranQ:
    """Test whether k models differ: W. G. Cochran, Biometrika 37 (1950), 256-266.

    correct: bool [N, k]. Q is 0 and p 1 where all models are right and wrong on the same images.
    """
    from scipy.special import chdtrc

    models = correct.shape[1]
    by_model = correct.sum(axis=0, dtype=np.float64)
    by_image = correct.sum(axis=1, dtype=np.float64)
    spread = float((by_image * (models - by_image)).sum())
    if models < 2 or spread == 0:
        return CochranQ(0.0, max(models - 1, 0), 1.0)
    statistic = float(models * (models - 1) * ((by_model - by_model.mean()) ** 2).sum() / spread)
    return CochranQ(statistic, models - 1, float(chdtrc(models - 1, statistic)))


def paired_difference_ci(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Compute the 95 % interval of the difference of two models' accuracies on the same n images.

    Wald's with half an image added to each of the four cells: A. Agresti & Y. Min, Statist. Med. 24 (2005).
    """
    first, second, total = only_first + 0.5, only_second + 0.5, n + 2.0
    center = (first - second) / total
    margin = 1.959963984540054 * float(np.sqrt(first + second - (first - second) ** 2 / total)) / total
    return max(-1.0, center - margin), min(1.0, center + margin)

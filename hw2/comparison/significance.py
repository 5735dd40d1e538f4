"""Paired significance tests, over the same images or the same seeds. No test divides by zero.

Distributions are those of `scipy.special`, imported where they are needed: `scipy.stats`, which has the same ones under
better names, would cost each comparison half a second.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hw2.common.types import BoolArray


class CochranQ(NamedTuple):
    """Cochran's Q, its degrees of freedom, and its p-value."""

    statistic: float
    degrees: int
    p: float


class PairedDifference(NamedTuple):
    """Mean difference of n pairs, its standard deviation, 95 % interval (NaN where unknown) and p-value."""

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float


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
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
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


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Test first - second by Student's paired t-test.

    Where every pair differs by exactly the same, t is infinite and says nothing: p is then that of the exact
    sign-flip test, 2 / 2^n, or 1 where the difference is 0. A single pair has p = 1 and no interval.
    """
    from scipy.special import stdtr, stdtrit

    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        return PairedDifference(n, mean, np.nan, np.nan, np.nan, 1.0)
    sd = float(differences.std(ddof=1))
    # Accuracies are ratios of integers: what is equal but for rounding is equal.
    if sd <= 1e-12:
        p = 1.0 if abs(mean) <= 1e-12 else min(1.0, 2.0 / 2**n)
        return PairedDifference(n, mean, 0.0, mean, mean, p)
    error = sd / n**0.5
    margin = float(stdtrit(n - 1, 0.975)) * error
    return PairedDifference(
        n, mean, sd, mean - margin, mean + margin, float(2 * stdtr(n - 1, -abs(mean) / error))
    )


def paired_difference_ci(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """Compute the 95 % interval of the difference of two models' accuracies on the same n images.

    Wald's with half an image added to each of the four cells: A. Agresti & Y. Min, Statist. Med. 24 (2005).
    """
    first, second, total = only_first + 0.5, only_second + 0.5, n + 2.0
    center = (first - second) / total
    margin = 1.959963984540054 * float(np.sqrt(first + second - (first - second) ** 2 / total)) / total
    return max(-1.0, center - margin), min(1.0, center + margin)

"""Configurations compared over seeds and test images: both sources of chance in one interval.

An accuracy moves with the seed and with the images that happen to be in the test set: X. Bouthillier et al., MLSys
(2021). Seeds and images are crossed, and each source has a variance of its own: A. B. Owen, Ann. Appl. Stat. 1 (2007).
Few seeds leave theirs uncertain, many images do not. So each variance is multiplied by the square of its own t quantile
before they are added: S. K. Banerjee, Sankhya A 23 (1961), whose intervals are never too short for independent
variances. What makes these longer: the noise of single answers is in both variances.
`scripts/benchmark verdicts` checks all this by simulation.

Distributions are those of `scipy.special`; see `significance`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hw2.common.formatting import ALPHA
from hw2.common.types import BoolArray, FloatArray

_BISECTIONS, _LEAST_P = 50, 1e-20


class Difference(NamedTuple):
    """A difference of mean accuracies with its 95 % interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float


def compare_means(first: BoolArray, second: BoolArray) -> Difference:
    """Compare two configurations' mean accuracies, first - second.

    Seeds that both have are not paired: pairs would halve the degrees of freedom, and what they have in common makes
    this interval longer than it need be, never shorter.

    Args:
        first: Whether each answer is right, bool [seeds, images], two seeds at least.
        second: The same for the same images; the number of seeds may be another.
    """
    difference = float(first.mean() - second.mean())
    images = image_variance(first.mean(axis=0) - second.mean(axis=0))
    if images == 0 and difference == 0:
        return Difference(0.0, 0.0, 0.0, 1.0)
    seeds, degrees = _seed_variance((first, second))
    margin = _margin(images, seeds, degrees, ALPHA)
    low, high = max(-1.0, difference - margin), min(1.0, difference + margin)
    return Difference(difference, low, high, _p_value(abs(difference), images, seeds, degrees))


def mean_interval(correct: BoolArray) -> tuple[float, float]:
    """Compute the 95 % interval of a mean accuracy; correct: bool [seeds, images], two seeds or more."""
    seeds, degrees = _seed_variance((correct,))
    margin = _margin(image_variance(correct.mean(axis=0)), seeds, degrees, ALPHA)
    mean = float(correct.mean())
    return max(0.0, mean - margin), min(1.0, mean + margin)


def image_variance(values: FloatArray) -> float:
    """Estimate the variance of a mean over images; values [images], of -1 to 1.

    Half an image is added to each cell of the table of right and wrong, as in `paired_difference_ci`, unless all
    values are 0: then nothing differs.
    """
    if not values.any():
        return 0.0
    n = len(values) + 2.0
    return float((values @ values + 1.0 - values.sum() ** 2 / n) / n**2)


def _seed_variance(groups: Sequence[BoolArray]) -> tuple[float, int]:
    """Estimate the variance that seeds give a difference of means (or one mean), and its degrees of freedom.

    B. L. Welch's, rounded down, and no more than the smaller number of seeds could give at best: with two seeds
    against ten, Welch's own are too many.
    """
    parts = np.array([group.mean(axis=1).var(ddof=1) / len(group) for group in groups])
    degrees = np.array([len(group) - 1 for group in groups])
    total = float(parts.sum())
    if len(groups) == 1 or total == 0:
        return total, int(degrees.min())
    welch = total**2 / float((parts**2 / degrees).sum())
    return total, max(1, int(min(welch, 2 * degrees.min() - 1)))


def _margin(images: float, seeds: float, degrees: int, alpha: float) -> float:
    from scipy.special import ndtri, stdtrit

    normal, students = ndtri(alpha / 2), stdtrit(degrees, alpha / 2)
    return float(np.sqrt(normal**2 * images + students**2 * seeds))


def _p_value(difference: float, images: float, seeds: float, degrees: int) -> float:
    """Find the level at which the interval just reaches 0, by bisection of its logarithm."""
    low, high = np.log(_LEAST_P), 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _margin(images, seeds, degrees, float(np.exp(middle))) > difference:
            low = middle
        else:
            high = middle
    return float(np.exp(high))

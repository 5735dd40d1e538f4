"""How well a score tells outliers from digits: always the whole fixed set of metrics, with intervals.

Conventions as in `hw2.outliers.scores`: larger is more of an outlier, outliers are the positive class.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from hw2.common.constants import TARGET_RECALL
from hw2.common.errors import DataError
from hw2.common.types import BoolArray, FloatArray, IntArray

RESAMPLES = 1000
# Resamples per block of work: few enough to stay in the processor's cache.
BLOCK = 20


class Interval(NamedTuple):
    """A metric with its bootstrap interval (percentiles, level 95 %)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OODMetrics:
    """All in 0 to 1. Published tables say "FPR95" for either of the last two; here the names say which.

    auroc: the probability that an outlier scores above a digit, ties half.
    aupr_out, aupr_in: area under precision over recall by trapezoids, outliers or digits the class sought.
    outliers_accepted: share of outliers below the threshold that keeps 95 % of digits.
    digits_rejected: share of digits above the threshold that rejects 95 % of outliers.
    """

    auroc: Interval
    aupr_out: Interval
    aupr_in: Interval
    outliers_accepted: Interval
    digits_rejected: Interval

    def row(self) -> dict[str, float]:
        """Flatten into a row of a table: each metric, and the ends of its interval as NAME_low and NAME_high."""
        flat: dict[str, float] = {}
        for field in fields(self):
            interval: Interval = getattr(self, field.name)
            flat |= {
                field.name: interval.value,
                f"{field.name}_low": interval.low,
                f"{field.name}_high": interval.high,
            }
        return flat


def ood_metrics(
    digits: ArrayLike, outliers: ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> OODMetrics:
    """Compute the metrics of a score's values on digits [N] and on outliers [M].

    Intervals by bootstrap over images, digits and outliers drawn apart; with `resamples` 0 they are NaN.

    Raises:
        DataError: a side has no image, or a score is NaN.
    """
    inside, outside = np.asarray(digits, dtype=np.float64), np.asarray(outliers, dtype=np.float64)
    for name, scores in (("digits", inside), ("outliers", outside)):
        if not len(scores):
            raise DataError(f"no {name} to measure an outlier score on; give at least one image of each kind")
        if np.isnan(scores).any():
            raise DataError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores of {name} are NaN")
    values = _values(inside, outside)
    if not resamples:
        return OODMetrics(*(Interval(value, float("nan"), float("nan")) for value in values))
    draws = _bootstrap(inside, outside, resamples, seed)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return OODMetrics(
        *(Interval(value, float(a), float(b)) for value, a, b in zip(values, low, high, strict=True))
    )


def _values(digits: FloatArray, outliers: FloatArray) -> tuple[float, ...]:
    scores = np.concatenate([digits, outliers])
    is_outlier = np.repeat([0, 1], [len(digits), len(outliers)])
    return (
        float(roc_auc_score(is_outlier, scores)),
        _precision_recall_area(is_outlier, scores),
        _precision_recall_area(1 - is_outlier, -scores),
        _false_positive_rate(1 - is_outlier, -scores),
        _false_positive_rate(is_outlier, scores),
    )


def _precision_recall_area(positive: IntArray, scores: FloatArray) -> float:
    precision, recall, _ = precision_recall_curve(positive, scores)
    # Counts instead of shares: their differences are exact, and so is the area of a perfect score.
    counts = np.rint(recall * positive.sum())
    return float(auc(counts, precision) / positive.sum())


def _false_positive_rate(positive: IntArray, scores: FloatArray) -> float:
    """At the first threshold, from the top, whose true positive rate reaches TARGET_RECALL."""
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    return float(false[np.argmax(true >= TARGET_RECALL)])


def _bootstrap(digits: FloatArray, outliers: FloatArray, resamples: int, seed: int) -> FloatArray:
    """Compute the five metrics of each resample, [resamples, 5].

    The scores are sorted once into runs, strangest first; a resample is how many digits and how many outliers
    were drawn from each run, and every metric follows from the running sums of these counts.
    """
    generator = np.random.default_rng(seed)
    run_of_digits, run_of_outliers, merged = _runs(digits, outliers)
    draws = []
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        above_in = _running(generator, run_of_digits, rows, len(merged))
        above_out = _running(generator, run_of_outliers, rows, len(merged))
        draws.append(_weighted(above_in, above_out, merged))
    return np.concatenate(draws)


def _runs(digits: FloatArray, outliers: FloatArray) -> tuple[IntArray, IntArray, BoolArray]:
    """The run of each digit [N] and of each outlier [M], and whether a run [R] is of several values.

    Equal scores are one run, since no threshold can split them; neighboring runs of digits only, or of
    outliers only, are one as well, since a threshold between them changes no trade-off.
    """
    values, group = np.unique(-np.concatenate([digits, outliers]), return_inverse=True)
    of_digits, of_outliers = group[: len(digits)], group[len(digits) :]
    kind = np.zeros(len(values), dtype=np.int64)
    kind[of_digits] |= 1
    kind[of_outliers] |= 2
    begins = np.append(True, (kind[1:] != kind[:-1]) | (kind[1:] == 3))
    run = np.cumsum(begins) - 1
    return run[of_digits], run[of_outliers], np.bincount(run) > 1


def _running(generator: np.random.Generator, runs: IntArray, rows: int, count: int) -> FloatArray:
    """How many of the drawn images lie in each run or a stranger one, [rows, 1 + count], from 0 to all."""
    drawn = runs[generator.integers(len(runs), size=(rows, len(runs)))]
    drawn += (count + 1) * np.arange(rows)[:, None] + 1
    counts = np.bincount(drawn.ravel(), minlength=rows * (count + 1)).reshape(rows, count + 1)
    return np.cumsum(counts, axis=1, dtype=np.float64)


def _weighted(digits: FloatArray, outliers: FloatArray, merged: BoolArray) -> FloatArray:
    """Compute the five metrics [rows, 5] from running counts [rows, 1 + runs], strangest first."""
    digit_total, outlier_total = digits[:, -1:], outliers[:, -1:]
    auroc = (np.diff(digits, axis=1) * (outliers[:, 1:] + outliers[:, :-1])).sum(axis=1) / 2
    auroc /= (digit_total * outlier_total)[:, 0]
    rejecting = np.argmax(outliers >= TARGET_RECALL * outlier_total, axis=1)[:, None]
    digits_rejected = np.take_along_axis(digits, rejecting, axis=1) / digit_total
    kept_digits, kept_outliers = (digit_total - digits)[:, ::-1], (outlier_total - outliers)[:, ::-1]
    keeping = np.argmax(kept_digits >= TARGET_RECALL * digit_total, axis=1)[:, None]
    outliers_accepted = np.take_along_axis(kept_outliers, keeping, axis=1) / outlier_total
    return np.column_stack(
        [
            auroc,
            _precision_area(outliers, digits, merged),
            _precision_area(kept_digits, kept_outliers, merged[::-1]),
            outliers_accepted,
            digits_rejected,
        ]
    )


def _precision_area(true: FloatArray, false: FloatArray, merged: BoolArray) -> FloatArray:
    """Area under precision over recall, from the point (recall 0, precision 1), [rows].

    By trapezoids; within a run of several values, whose points are not at hand, by the integral of
    t / (t + false) over t, which the trapezoids of many images approach.
    """
    taken = true + false
    precision = np.divide(true, taken, out=np.ones_like(true), where=taken > 0)
    gained = np.diff(true, axis=1)
    area = gained * (precision[:, 1:] + precision[:, :-1]) / 2
    curved = false[:, 1:] > 0
    curved &= merged & (gained > 0)
    before, after, wrong = taken[:, :-1][curved], taken[:, 1:][curved], false[:, 1:][curved]
    area[curved] = gained[curved] - wrong * np.log(after / before)
    return np.asarray(area.sum(axis=1) / true[:, -1])

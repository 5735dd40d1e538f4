"""The outlier score that is registered with a model, and its threshold.

Four statistics measure how strange an image is (`hw2.outliers.statistics`). Each becomes a p-value, the share of
held-out digits at least as strange. Fisher's method adds up their -log p, and since the four are dependent,
the sum becomes a p-value by the held-out digits' own sums. The score is -log10 of that: 3.3 says that 1 digit
in 2,000 looks as strange. A larger score is more of an outlier.

Everything is fitted on training digits and held-out digits, never on outliers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hw2.common.constants import MIN_FIT_IMAGES, TARGET_RECALL
from hw2.common.errors import CheckpointError, DataError
from hw2.common.types import BoolArray, FloatArray
from hw2.outliers.statistics import STATISTICS, ClassGaussians, Outputs, Statistics, as_matrix

# Beyond this share of the held-out digits a fitted exponential takes over from counting.
TAIL_SHARE = 0.02
NUM_KNOTS = 256


@dataclass(frozen=True, eq=False)
class TailCalibration:
    """The negative log p-value, p the share of held-out digits at least as strange, as a function of a statistic.

    Counted up to the last of `values` [NUM_KNOTS], ascending, whose -log p are evenly spaced; beyond it a
    straight line of slope `rate`. So far outliers keep their order, where counting would call all of them equal.
    """

    values: FloatArray
    rate: float

    @classmethod
    def fit(cls, statistic: FloatArray) -> "TailCalibration":
        """Fit to the statistic's values [N] on held-out digits."""
        values = np.quantile(statistic, 1 - np.exp(-_KNOTS))
        excess = statistic[statistic > values[-1]] - values[-1]
        # A statistic without any spread in its tail needs some slope as well.
        min_excess = 1e-6 * (1 + abs(float(values[-1])))
        return cls(values, 1 / max(float(excess.mean()) if len(excess) else 0.0, min_excess))

    def __call__(self, statistic: FloatArray) -> FloatArray:
        counted = np.interp(statistic, self.values, _KNOTS)
        return np.asarray(counted + np.maximum(statistic - self.values[-1], 0) * self.rate)


_KNOTS = np.linspace(0, -math.log(TAIL_SHARE), NUM_KNOTS)


@dataclass(frozen=True, eq=False)
class OutlierDetector:
    """A model's outlier score with its threshold."""

    statistics: Statistics
    curves: tuple[TailCalibration, ...]  # of each of STATISTICS, then of their sum
    threshold: float  # what scores above it is rejected
    target_recall: float  # the share of held-out digits that the threshold keeps
    held_out: int  # how many these were
    threshold_from: str  # "validation" or "training"

    @classmethod
    def fit(
        cls,
        training: Outputs,
        held_out: Outputs,
        target_recall: float = TARGET_RECALL,
        threshold_from: str = "validation",
    ) -> "OutlierDetector":
        """Fit on training digits, and calibrate so that the share `target_recall` of held-out digits is accepted.

        Raises:
            DataError: fewer than 100 images on either side, or outputs that are not finite.
        """
        _check(training, "training")
        _check(held_out, "held-out")
        statistics = Statistics.fit(training)
        strange = statistics.compute(held_out)
        curves = [TailCalibration.fit(statistic) for statistic in strange]
        fisher = _fisher(strange, curves)
        combined = TailCalibration.fit(fisher)
        threshold = float(np.quantile(combined(fisher) / math.log(10), target_recall, method="higher"))
        return cls(statistics, (*curves, combined), threshold, target_recall, len(fisher), threshold_from)

    def score(self, outputs: Outputs) -> FloatArray:
        """Compute -log10 of the p-value, float64 [N]; larger is more of an outlier."""
        return self.curves[-1](_fisher(self.statistics.compute(outputs), self.curves[:-1])) / math.log(10)

    def component_scores(self, outputs: Outputs) -> dict[str, FloatArray]:
        """Compute -log10 of each statistic's own p-value [N], by name: what it is that is strange."""
        strange = zip(STATISTICS, self.curves[:-1], self.statistics.compute(outputs), strict=True)
        return {name: curve(values) / math.log(10) for name, curve, values in strange}

    def is_outlier(self, score: ArrayLike) -> BoolArray:
        """Mark scores above the threshold, bool [N], and those that are NaN."""
        return np.asarray(~(np.asarray(score, dtype=np.float64) <= self.threshold))

    def p_value(self, score: ArrayLike) -> FloatArray:
        """Compute the share of digits at least as strange, 0 to 1; below 1 / held_out an extrapolation."""
        return np.asarray(np.power(10.0, -np.asarray(score, dtype=np.float64)))

    def describe(self, score: float, noun: str = "digit") -> str:
        """Say a score in words: "1 digit in 2,000 looks as strange"; no number beyond the counted ones."""
        if score > math.log10(self.held_out):
            return f"fewer than 1 {noun} in {self.held_out:,} looks as strange"
        one_in = 10.0**score
        if one_in < 10:
            return f"{round(100 / one_in)} {noun}s in 100 look as strange"
        two_digits = round(one_in, 2 - len(str(int(one_in))))
        return f"1 {noun} in {two_digits:,.0f} looks as strange"

    def state_dict(self) -> dict[str, Tensor]:
        """Return the detector as tensors, for BaseCNN about 115 KB."""
        early, late = self.statistics.early, self.statistics.late
        return {
            "strokes_means": torch.from_numpy(early.means).float(),
            "strokes_whitening": torch.from_numpy(early.whitening).float(),
            "shapes_means": torch.from_numpy(late.means).float(),
            "shapes_whitening": torch.from_numpy(late.whitening).float(),
            "references": torch.from_numpy(self.statistics.references).half(),
            "curve_values": torch.from_numpy(np.stack([curve.values for curve in self.curves])),
            "curve_rates": torch.tensor([curve.rate for curve in self.curves], dtype=torch.float64),
            "threshold": torch.tensor(self.threshold, dtype=torch.float64),
            "keep": torch.tensor(self.target_recall, dtype=torch.float64),
            "held_out": torch.tensor(self.held_out),
            "threshold_from_training": torch.tensor(self.threshold_from == "training"),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "OutlierDetector":
        """Invert `state_dict`, with bit-equal scores; CheckpointError for what is none."""
        _check_shapes(state)
        array = {name: as_matrix(state[name]) for name in _SHAPES}
        curves = zip(array["curve_values"], array["curve_rates"], strict=True)
        return cls(
            Statistics(
                ClassGaussians(array["strokes_means"], array["strokes_whitening"]),
                ClassGaussians(array["shapes_means"], array["shapes_whitening"]),
                array["references"],
            ),
            tuple(TailCalibration(values, float(rate)) for values, rate in curves),
            float(array["threshold"]),
            float(array["keep"]),
            int(array["held_out"]),
            "training" if array["threshold_from_training"] else "validation",
        )


_SHAPES: dict[str, tuple[int | None, ...]] = {  # None: any number
    "strokes_means": (None, None),
    "strokes_whitening": (None, None),
    "shapes_means": (None, None),
    "shapes_whitening": (None, None),
    "references": (None, None),
    "curve_values": (len(STATISTICS) + 1, NUM_KNOTS),
    "curve_rates": (len(STATISTICS) + 1,),
    **dict.fromkeys(("threshold", "keep", "held_out", "threshold_from_training"), ()),
}


def _check_shapes(state: Mapping[str, Tensor]) -> None:
    expected = dict(_SHAPES)
    classes = state["strokes_means"].shape[:1] if "strokes_means" in state else (None,)
    expected |= {"shapes_means": (*classes, None), "references": (None, *classes)}
    for kind in ("strokes", "shapes"):  # as many channels as the means have
        channels = state[f"{kind}_means"].shape[-1:] if f"{kind}_means" in state else (None,)
        expected[f"{kind}_whitening"] = (*channels, *channels)
    for name, shape in expected.items():
        shape_there = tuple(state[name].shape) if name in state else None
        if shape_there is None or not _fits(shape_there, shape):
            raise CheckpointError(
                f"the outlier score's {name} has shape {shape_there}, expected {shape}; register the model again"
            )


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape, expected, strict=True))


def _check(outputs: Outputs, name: str) -> None:
    if len(outputs.logits) < MIN_FIT_IMAGES:
        raise DataError(
            f"{len(outputs.logits)} {name} images for the outlier score, expected at least "
            f"{MIN_FIT_IMAGES}; use a larger data set or validation_size"
        )
    arrays = (outputs.logits, outputs.early_features, outputs.late_features)
    if not all(np.isfinite(as_matrix(array)).all() for array in arrays):
        raise DataError(f"the model's outputs for {name} images are not finite; train it with a smaller lr")


def _fisher(statistics: Sequence[FloatArray], curves: Sequence[TailCalibration]) -> FloatArray:
    """Add up -log p over the statistics, [N] (Fisher, 1925; half of his)."""
    return np.asarray(sum(curve(values) for curve, values in zip(curves, statistics, strict=True)))

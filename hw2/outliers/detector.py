"""The one outlier score that is shipped with a model, and its threshold.

Four statistics say how strange an image is (`hw2.outliers.statistics`). Each becomes a p-value, the share of
held-out digits at least as strange. Fisher's method adds up their -log p, and since the four are dependent,
the sum becomes a p-value by the held-out digits' own sums. The score is -log10 of that: 3.3 says that 1 digit
in 2,000 looks as strange. A larger score is more of an outlier.

Everything is fitted on training digits and held-out digits, never on outliers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hw2.common.constants import MIN_FIT_IMAGES
from hw2.common.errors import CheckpointError, DataError
from hw2.common.types import BoolArray, FloatArray
from hw2.outliers.statistics import STATISTICS, ClassGaussians, Outputs, Statistics, as_matrix

TARGET_RECALL = 0.95
# Beyond this share of the held-out digits a fitted exponential takes over from counting.
TAIL_SHARE = 0.02
NUM_KNOTS = 256


@dataclass(frozen=True, eq=False)
class TailCalibration:
    """Surprise, -log of the share of held-out digits at least as strange, as a function of a statistic.

    Counted up to the last of `values` [KNOTS], ascending, whose surprises are evenly spaced; beyond it a
    straight line of slope `rate`. So far outliers keep their order, where counting would call all of them equal.
    """

    values: FloatArray
    rate: float

    @classmethod
    def fit(cls, statistic: FloatArray) -> "TailCalibration":
        """From the statistic's values [N] on held-out digits."""
        values = np.quantile(statistic, 1 - np.exp(-_SURPRISES))
        excess = statistic[statistic > values[-1]] - values[-1]
        # A statistic without any spread in its tail needs some slope as well.
        least = 1e-6 * (1 + abs(float(values[-1])))
        return cls(values, 1 / max(float(excess.mean()) if len(excess) else 0.0, least))

    def __call__(self, statistic: FloatArray) -> FloatArray:
        counted = np.interp(statistic, self.values, _SURPRISES)
        return np.asarray(counted + np.maximum(statistic - self.values[-1], 0) * self.rate)


_SURPRISES = np.linspace(0, -math.log(TAIL_SHARE), NUM_KNOTS)


@dataclass(frozen=True, eq=False)
class OutlierDetector:
    """A model's outlier score with its threshold."""

    statistics: Statistics
    curves: tuple[TailCalibration, ...]  # of each of STATISTICS, then of their sum
    threshold: float  # what scores above it is rejected
    keep: float  # the share of held-out digits that the threshold keeps
    held_out: int  # how many these were
    threshold_from: str  # "validation" or "training"

    @classmethod
    def fit(
        cls,
        training: Outputs,
        held_out: Outputs,
        keep: float = TARGET_RECALL,
        threshold_from: str = "validation",
    ) -> "OutlierDetector":
        """Fits on training digits, and calibrates so that the share `keep` of held-out digits is kept.

        Raises DataError for fewer than 100 images on either side, and for outputs that are not finite.
        """
        _check(training, "training")
        _check(held_out, "held-out")
        statistics = Statistics.fit(training)
        strange = statistics.of(held_out)
        curves = [TailCalibration.fit(statistic) for statistic in strange]
        fisher = _fisher(strange, curves)
        together = TailCalibration.fit(fisher)
        threshold = float(np.quantile(together(fisher) / math.log(10), keep, method="higher"))
        return cls(statistics, (*curves, together), threshold, keep, len(fisher), threshold_from)

    def score(self, outputs: Outputs) -> FloatArray:
        """-log10 of the p-value, float64 [N]; larger is more of an outlier."""
        return self.curves[-1](_fisher(self.statistics.of(outputs), self.curves[:-1])) / math.log(10)

    def parts(self, outputs: Outputs) -> dict[str, FloatArray]:
        """-log10 of each statistic's own p-value [N], by name: what it is that is strange."""
        strange = zip(STATISTICS, self.curves[:-1], self.statistics.of(outputs), strict=True)
        return {name: curve(values) / math.log(10) for name, curve, values in strange}

    def rejected(self, score: ArrayLike) -> BoolArray:
        """Whether each is not a digit as far as the threshold can tell; a score that is not a number is none."""
        return np.asarray(~(np.asarray(score, dtype=np.float64) <= self.threshold))

    def p_value(self, score: ArrayLike) -> FloatArray:
        """The share of digits that are at least as strange, 0 to 1; below 1 / held_out an extrapolation."""
        return np.asarray(np.power(10.0, -np.asarray(score, dtype=np.float64)))

    def describe(self, score: float) -> str:
        """A score in words: "1 digit in 2,000 looks as strange"; no number beyond what was counted."""
        if score > math.log10(self.held_out):
            return f"fewer than 1 digit in {self.held_out:,} looks as strange"
        one_in = 10.0**score
        if one_in < 10:
            return f"{round(100 / one_in)} digits in 100 look as strange"
        two_digits = round(one_in, 2 - len(str(int(one_in))))
        return f"1 digit in {two_digits:,.0f} looks as strange"

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors only, for BaseCNN about 115 KB."""
        known = self.statistics
        return {
            "strokes_means": torch.from_numpy(known.strokes.means).float(),
            "strokes_whitening": torch.from_numpy(known.strokes.whitening).float(),
            "shapes_means": torch.from_numpy(known.shapes.means).float(),
            "shapes_whitening": torch.from_numpy(known.shapes.whitening).float(),
            "references": torch.from_numpy(known.references).half(),
            "curve_values": torch.from_numpy(np.stack([curve.values for curve in self.curves])),
            "curve_rates": torch.tensor([curve.rate for curve in self.curves], dtype=torch.float64),
            "threshold": torch.tensor(self.threshold, dtype=torch.float64),
            "keep": torch.tensor(self.keep, dtype=torch.float64),
            "held_out": torch.tensor(self.held_out),
            "threshold_from_training": torch.tensor(self.threshold_from == "training"),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "OutlierDetector":
        """The inverse of `state_dict`; its scores are bit-equal. Raises CheckpointError for another state."""
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
    "strokes_means": (10, None),
    "strokes_whitening": (None, None),
    "shapes_means": (10, None),
    "shapes_whitening": (None, None),
    "references": (None, 10),
    "curve_values": (len(STATISTICS) + 1, NUM_KNOTS),
    "curve_rates": (len(STATISTICS) + 1,),
    **dict.fromkeys(("threshold", "keep", "held_out", "threshold_from_training"), ()),
}


def _check_shapes(state: Mapping[str, Tensor]) -> None:
    expected = dict(_SHAPES)
    for kind in ("strokes", "shapes"):  # as many channels as the means have
        channels = state[f"{kind}_means"].shape[-1:] if f"{kind}_means" in state else (None,)
        expected[f"{kind}_whitening"] = (*channels, *channels)
    for name, shape in expected.items():
        found = tuple(state[name].shape) if name in state else None
        if found is None or not _fits(found, shape):
            raise CheckpointError(
                f"the outlier score's {name} has shape {found}, expected {shape}; register the model again"
            )


def _fits(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(found) == len(expected) and all(b in (None, a) for a, b in zip(found, expected, strict=True))


def _check(outputs: Outputs, name: str) -> None:
    if len(outputs.logits) < MIN_FIT_IMAGES:
        raise DataError(
            f"{len(outputs.logits)} {name} images for the outlier score, expected at least "
            f"{MIN_FIT_IMAGES}; use a larger data set or validation_size"
        )
    if not all(
        np.isfinite(as_matrix(part)).all()
        for part in (outputs.logits, outputs.early_features, outputs.late_features)
    ):
        raise DataError(f"the model's outputs for {name} images are not finite; train it with a smaller lr")


def _fisher(
    statistics: list[FloatArray], curves: tuple[TailCalibration, ...] | list[TailCalibration]
) -> FloatArray:
    """Sum of -log p over the statistics, [N] (Fisher, 1925; half of his)."""
    return np.asarray(sum(curve(values) for curve, values in zip(curves, statistics, strict=True)))

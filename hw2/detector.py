"""The one outlier score that is shipped with a model, and its threshold.

Three statistics, each larger for a stranger picture, from one pass over the pictures (`ModelOutputs`):

    doubt      log((1 - p) / p), p the largest softmax probability (Hendrycks & Gimpel, ICLR 2017)
    strokes    Mahalanobis distance of the 32 channel means after the first ReLU, how much there is of each kind
               of stroke, from those of training digits (Lee et al., NeurIPS 2018, with one Gaussian)
    direction  distance of the logits, scaled to length 1, to the 4th nearest among those of training digits
               (Sun et al., ICML 2022)

Each becomes a p-value, the share of held-out digits at least as strange. Fisher's method adds up their -log p,
and since the three are dependent, the sum becomes a p-value by the held-out digits' own sums. The score is
-log10 of that: 3.3 says that 1 digit in 2,000 looks as strange. A larger score is more of an outlier.

Everything is fitted on training digits and held-out digits, never on outliers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hw2.data import ImageSet
from hw2.errors import CheckpointError, DataError

FloatArray = NDArray[np.float64]

# Training digits that are evaluated for a fit; 10,000 instead gain less than 0.001 of any AUROC.
FIT_PICTURES = 4000
# Held-out digits that are taken from the training set where there is no validation set.
HELD_OUT_PICTURES = 5000
MINIMUM_PICTURES = 100
KEEP = 0.95
NEIGHBOUR = 4
# Beyond this share of the held-out digits a fitted exponential takes over from counting.
TAIL = 0.02
KNOTS = 256


class Outputs(Protocol):
    """What is scored, tensors or arrays: `ModelOutputs`, or an `Evaluation`, of N pictures."""

    @property
    def logits(self) -> Any: ...  # [N, 10]
    @property
    def relu_means(self) -> Any: ...  # [N, 32]


@dataclass(frozen=True, eq=False)
class FitSets:
    """The pictures that a detector is fitted on. `threshold_from` is "validation" or "training"."""

    training: ImageSet
    held_out: ImageSet
    threshold_from: str


def fit_sets(train: ImageSet, validation: ImageSet | None) -> FitSets:
    """A fixed choice of training digits, and held-out ones: validation, or else other training digits."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    if validation is not None:
        return FitSets(train.take(order[:FIT_PICTURES]), validation, "validation")
    held_out = min(HELD_OUT_PICTURES, len(train) // 2)
    chosen = order[held_out : held_out + FIT_PICTURES]
    return FitSets(train.take(chosen), train.take(order[:held_out]), "training")


@dataclass(frozen=True, eq=False)
class Curve:
    """Surprise, -log of the share of held-out digits at least as strange, as a function of a statistic.

    Counted up to the last of `values` [KNOTS], ascending, whose surprises are evenly spaced; beyond it a
    straight line of slope `rate`. So far outliers keep their order, where counting would call all of them equal.
    """

    values: FloatArray
    rate: float

    @classmethod
    def fit(cls, statistic: FloatArray) -> "Curve":
        """From the statistic's values [N] on held-out digits."""
        values = np.quantile(statistic, 1 - np.exp(-_SURPRISES))
        excess = statistic[statistic > values[-1]] - values[-1]
        # A statistic without any spread in its tail needs some slope as well.
        least = 1e-6 * (1 + abs(float(values[-1])))
        return cls(values, 1 / max(float(excess.mean()) if len(excess) else 0.0, least))

    def __call__(self, statistic: FloatArray) -> FloatArray:
        counted = np.interp(statistic, self.values, _SURPRISES)
        return np.asarray(counted + np.maximum(statistic - self.values[-1], 0) * self.rate)


_SURPRISES = np.linspace(0, -math.log(TAIL), KNOTS)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal distribution. mean [C]; whitening [C, C], whitening^T whitening is the inverse covariance."""

    mean: FloatArray
    whitening: FloatArray

    @classmethod
    def fit(cls, features: FloatArray) -> "Gaussian":
        """From features [N, C]."""
        covariance = np.cov(features, rowvar=False)
        channels = len(covariance)
        # A channel that never fires has no variance; the ridge keeps the inverse finite.
        ridge = 1e-6 * float(np.trace(covariance)) / channels + 1e-12
        lower = np.linalg.cholesky(covariance + ridge * np.eye(channels))
        return cls(features.mean(axis=0), np.linalg.inv(lower))

    def distance(self, features: FloatArray) -> FloatArray:
        """Mahalanobis distance [N], not squared."""
        return np.asarray(np.linalg.norm((features - self.mean) @ self.whitening.T, axis=1))


def doubt(logits: FloatArray) -> FloatArray:
    """log((1 - p) / p) [N] of logits [N, classes], p the largest softmax probability, exact also near 1."""
    ordered = np.sort(logits, axis=1)
    second = ordered[:, -2] - ordered[:, -1]
    others = np.exp(ordered[:, :-1] - ordered[:, -2:-1]).sum(axis=1)
    return np.asarray(second + np.log(others))


def neighbour_distance(directions: FloatArray, references: FloatArray) -> FloatArray:
    """Euclidean distance [N] to the NEIGHBOUR-th nearest of references [K, 10]; all of length 1."""
    neighbour = min(NEIGHBOUR, len(references))
    columns = torch.from_numpy(references).T
    cosines = [
        (part @ columns).topk(neighbour, dim=1).values[:, -1]
        for part in torch.from_numpy(directions).split(250)  # 8 MB a part stay in the cache
    ]
    return np.asarray((2 - 2 * torch.cat(cosines)).clamp(min=0).sqrt().numpy())


@dataclass(frozen=True, eq=False)
class Detector:
    """A model's outlier score with its threshold."""

    strokes: Gaussian
    references: FloatArray  # logits of training digits scaled to length 1, [K, 10]
    curves: tuple[Curve, ...]  # of doubt, strokes, direction and their sum
    threshold: float  # what scores above it is rejected
    keep: float  # the share of held-out digits that the threshold keeps
    held_out: int  # how many these were
    threshold_from: str  # "validation" or "training"

    @classmethod
    def fit(
        cls, training: Outputs, held_out: Outputs, keep: float = KEEP, threshold_from: str = "validation"
    ) -> "Detector":
        """Fits on training digits, and calibrates so that the share `keep` of held-out digits is kept.

        Raises DataError for fewer than 100 pictures on either side, and for outputs that are not finite.
        """
        _check(training, "training")
        _check(held_out, "held-out")
        strokes = Gaussian.fit(_matrix(training.relu_means))
        # As stored, so that a loaded detector gives the same scores to the last bit.
        references = _matrix(torch.from_numpy(_directions(training.logits)).half())
        strange = _statistics(held_out, strokes, references)
        curves = [Curve.fit(statistic) for statistic in strange]
        fisher = _fisher(strange, curves)
        together = Curve.fit(fisher)
        threshold = float(np.quantile(together(fisher) / math.log(10), keep, method="higher"))
        return cls(strokes, references, (*curves, together), threshold, keep, len(fisher), threshold_from)

    def score(self, outputs: Outputs) -> FloatArray:
        """-log10 of the p-value, float64 [N]; larger is more of an outlier."""
        strange = _statistics(outputs, self.strokes, self.references)
        return self.curves[-1](_fisher(strange, self.curves[:-1])) / math.log(10)

    def parts(self, outputs: Outputs) -> dict[str, FloatArray]:
        """-log10 of each statistic's own p-value [N], by name: what it is that is strange."""
        strange = _statistics(outputs, self.strokes, self.references)
        names = ("doubt", "strokes", "direction")
        return {
            name: curve(statistic) / math.log(10)
            for name, curve, statistic in zip(names, self.curves[:-1], strange, strict=True)
        }

    def rejected(self, score: ArrayLike) -> NDArray[np.bool_]:
        """Whether each is no digit as far as the threshold can tell; a score that is no number is none."""
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
        """Tensors only, 97 KB with 4,000 references."""
        return {
            "strokes_mean": torch.from_numpy(self.strokes.mean),
            "strokes_whitening": torch.from_numpy(self.strokes.whitening),
            "references": torch.from_numpy(self.references).half(),
            "curve_values": torch.from_numpy(np.stack([curve.values for curve in self.curves])),
            "curve_rates": torch.tensor([curve.rate for curve in self.curves], dtype=torch.float64),
            "threshold": torch.tensor(self.threshold, dtype=torch.float64),
            "keep": torch.tensor(self.keep, dtype=torch.float64),
            "held_out": torch.tensor(self.held_out),
            "threshold_from_training": torch.tensor(self.threshold_from == "training"),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "Detector":
        """The inverse of `state_dict`; its scores are bit-equal. Raises CheckpointError for another state."""
        expected = {
            "strokes_mean": (32,),
            "strokes_whitening": (32, 32),
            "references": (-1, 10),
            "curve_values": (4, KNOTS),
            "curve_rates": (4,),
            **dict.fromkeys(("threshold", "keep", "held_out", "threshold_from_training"), ()),
        }
        for name, shape in expected.items():
            found = tuple(state[name].shape) if name in state else "nothing"
            if found != shape and not (-1 in shape and found[1:] == shape[1:]):
                raise CheckpointError(
                    f"the outlier score's {name} is {found}, expected {shape}: register the model again"
                )
        array = {name: _matrix(state[name]) for name in expected}
        return cls(
            Gaussian(array["strokes_mean"], array["strokes_whitening"]),
            array["references"],
            tuple(
                Curve(values, float(rate))
                for values, rate in zip(array["curve_values"], array["curve_rates"], strict=True)
            ),
            float(array["threshold"]),
            float(array["keep"]),
            int(array["held_out"]),
            "training" if array["threshold_from_training"] else "validation",
        )


def _check(outputs: Outputs, name: str) -> None:
    if len(outputs.logits) < MINIMUM_PICTURES:
        raise DataError(
            f"{len(outputs.logits)} {name} pictures for the outlier score, expected at least "
            f"{MINIMUM_PICTURES}; use a larger data set or validation_size"
        )
    if not all(np.isfinite(_matrix(part)).all() for part in (outputs.logits, outputs.relu_means)):
        raise DataError(f"the model's outputs for {name} pictures are not finite; train it with a smaller lr")


def _matrix(values: Any) -> FloatArray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(array, dtype=np.float64)


def _directions(logits: Any) -> FloatArray:
    rows = _matrix(logits)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _statistics(outputs: Outputs, strokes: Gaussian, references: FloatArray) -> list[FloatArray]:
    """doubt, strokes and direction, each [N]."""
    return [
        doubt(_matrix(outputs.logits)),
        strokes.distance(_matrix(outputs.relu_means)),
        neighbour_distance(_directions(outputs.logits), references),
    ]


def _fisher(statistics: list[FloatArray], curves: tuple[Curve, ...] | list[Curve]) -> FloatArray:
    """Sum of -log p over the statistics, [N] (Fisher, 1925; half of his)."""
    return np.asarray(sum(curve(values) for curve, values in zip(curves, statistics, strict=True)))

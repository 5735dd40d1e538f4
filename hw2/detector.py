"""The one outlier score that is shipped with a model, and its threshold.

Four statistics, each larger for a stranger picture, all from one pass over the pictures (`ModelOutputs`):

    doubt       log((1 - p) / p) with p the largest softmax probability (Hendrycks & Gimpel 2017)
    relu        Mahalanobis distance of the 32 channel means after the first ReLU (Lee et al. 2018, one Gaussian)
    pool        the same of the 64 channel means after pooling
    neighbours  distance to the k-th nearest training picture in logits (Sun et al. 2022)

Each becomes a p-value, the share of held-out digits at least as strange; Fisher's method adds up their -log p;
and because the four are dependent, the sum becomes a p-value by the held-out digits' own sums. The score is
-log10 of that: 3.3 says that 1 digit in 2,000 looks as strange. A larger score is more of an outlier.

Fitted on training and held-out digits only, never on outliers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw2.data import ImageSet
from hw2.errors import CheckpointError, DataError

FloatArray = NDArray[np.float64]

# How many training pictures the caller should evaluate for `fit`; more cost time and gain nothing measurable.
FIT_PICTURES = 5000
# How many held-out pictures are taken from the training set where there is no validation set.
HELD_OUT_PICTURES = 5000
KEEP = 0.95
NEIGHBOUR = 4
REFERENCES = 4000
MINIMUM_PICTURES = 100
STATISTICS = ("doubt", "relu", "pool", "neighbours")
# Beyond this share of the held-out digits a fitted exponential takes over from counting.
TAIL = 0.02
KNOTS = 256


class Outputs(Protocol):
    """What is scored: `ModelOutputs`, or an `Evaluation` of N pictures."""

    @property
    def logits(self) -> Any: ...  # [N, 10]
    @property
    def relu_means(self) -> Any: ...  # [N, 32]
    @property
    def pool_means(self) -> Any: ...  # [N, 64]


@dataclass(frozen=True, eq=False)
class FitSets:
    """The pictures a detector is fitted on. `threshold_from` is "validation" or "training"."""

    training: ImageSet
    held_out: ImageSet
    threshold_from: str


def fit_sets(train: ImageSet, validation: ImageSet | None) -> FitSets:
    """A fixed choice of training pictures, and held-out ones: the validation set, or else other training pictures."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    if validation is not None:
        return FitSets(train.take(order[:FIT_PICTURES]), validation, "validation")
    held_out = min(HELD_OUT_PICTURES, len(train) // 2)
    chosen = order[held_out : held_out + FIT_PICTURES]
    return FitSets(train.take(chosen), train.take(order[:held_out]), "training")


def _matrix(values: Any) -> FloatArray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(array, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Curve:
    """-log of the share of held-out digits at least as strange, as a function of a statistic.

    values and surprises, [knots], both ascending: counted in the body, a straight line beyond (an exponential
    tail of slope `rate`), so that the order among pictures far outside is kept.
    """

    values: FloatArray
    surprises: FloatArray
    rate: float

    @classmethod
    def fit(cls, statistic: FloatArray) -> "Curve":
        ordered = np.sort(statistic)
        count = len(ordered)
        start = ordered[math.ceil(count * (1 - TAIL)) - 1]
        excess = ordered[ordered > start] - start
        mean_excess = float(excess.mean()) if len(excess) else 0.0
        # A statistic that is constant in the tail still needs a slope.
        rate = 1 / max(mean_excess, 1e-6 * (1 + abs(float(start))))
        surprises = np.linspace(0, -math.log(TAIL), KNOTS)
        values = np.quantile(ordered, 1 - np.exp(-surprises))
        values[-1] = max(start, values[-2])
        return cls(np.maximum.accumulate(values), surprises, rate)

    def __call__(self, statistic: FloatArray) -> FloatArray:
        body = np.interp(statistic, self.values, self.surprises)
        return body + np.maximum(statistic - self.values[-1], 0) * self.rate


@dataclass(frozen=True, eq=False)
class Gaussian:
    """One normal distribution: mean [C] and whitening [C, C] with whitening^T whitening = the inverse covariance."""

    mean: FloatArray
    whitening: FloatArray

    @classmethod
    def fit(cls, features: FloatArray) -> "Gaussian":
        covariance = np.cov(features, rowvar=False)
        channels = covariance.shape[0]
        # A channel that never fires has no variance; the ridge keeps the inverse finite.
        ridge = 1e-6 * float(np.trace(covariance)) / channels + 1e-12
        lower = np.linalg.cholesky(covariance + ridge * np.eye(channels))
        return cls(features.mean(axis=0), np.linalg.inv(lower))

    def distance(self, features: FloatArray) -> FloatArray:
        """Mahalanobis distance [N], not squared."""
        white: FloatArray = (features - self.mean) @ self.whitening.T
        return np.sqrt(np.square(white).sum(axis=1))


def doubt(logits: FloatArray) -> FloatArray:
    """log((1 - p) / p) [N] of logits [N, classes], p the largest softmax probability; exact where p rounds to 1."""
    ordered = np.sort(logits, axis=1)
    others = ordered[:, :-1] - ordered[:, -1:]
    largest = others[:, -1]
    return np.asarray(largest + np.log(np.exp(others - largest[:, None]).sum(axis=1)))


def neighbour_distance(logits: FloatArray, references: FloatArray, neighbour: int) -> FloatArray:
    """Euclidean distance [N] of logits [N, 10] to the neighbour-th nearest of references [K, 10]."""
    reference = torch.from_numpy(references)
    parts = [
        torch.cdist(part, reference).kthvalue(min(neighbour, len(reference)), dim=1).values
        for part in torch.from_numpy(logits).split(1000)
    ]
    return np.asarray(torch.cat(parts).numpy()) if parts else np.zeros(0)


@dataclass(frozen=True, eq=False)
class Detector:
    """A model's outlier score with its threshold, fitted on digits only."""

    relu: Gaussian
    pool: Gaussian
    references: FloatArray  # logits of training pictures, [K, 10]
    curves: tuple[Curve, ...]  # one for each of STATISTICS, then the combination's
    threshold: float  # a picture is rejected above it
    keep: float  # share of held-out digits that the threshold keeps
    held_out: int  # number of held-out digits
    threshold_from: str  # "validation" or "training"

    @classmethod
    def fit(
        cls, training: Outputs, held_out: Outputs, keep: float = KEEP, threshold_from: str = "validation"
    ) -> "Detector":
        """Fit on training digits, calibrate on held-out digits so that the share `keep` of these is not rejected.

        Raises DataError for fewer than 100 pictures on either side, or outputs that are not finite.
        """
        for name, outputs in (("training", training), ("held-out", held_out)):
            if len(outputs.logits) < MINIMUM_PICTURES:
                raise DataError(
                    f"{len(outputs.logits)} {name} pictures for the outlier score; "
                    f"it needs at least {MINIMUM_PICTURES}: use a larger data set or validation_size"
                )
            if not all(np.isfinite(_matrix(part)).all() for part in _parts(outputs)):
                raise DataError(
                    f"the model's outputs on {name} pictures are not finite: train it with a smaller lr"
                )
        references = _matrix(training.logits)[:REFERENCES].astype(np.float16).astype(np.float64)
        relu, pool = Gaussian.fit(_matrix(training.relu_means)), Gaussian.fit(_matrix(training.pool_means))
        strange = _statistics(held_out, relu, pool, references)
        curves = tuple(Curve.fit(column) for column in strange.T)
        combined = _combine(strange, curves)
        final = Curve.fit(combined)
        scores = final(combined) / math.log(10)
        return cls(
            relu,
            pool,
            references,
            (*curves, final),
            float(np.quantile(scores, keep, method="higher")),
            keep,
            len(scores),
            threshold_from,
        )

    def score(self, outputs: Outputs) -> FloatArray:
        """-log10 of the p-value, float64 [N]; larger is more of an outlier."""
        strange = _statistics(outputs, self.relu, self.pool, self.references)
        return self.curves[-1](_combine(strange, self.curves[:-1])) / math.log(10)

    def rejected(self, score: FloatArray) -> NDArray[np.bool_]:
        """Whether each picture is no digit, as far as the threshold can say."""
        return np.asarray(score > self.threshold)

    def p_value(self, score: FloatArray) -> FloatArray:
        """Share of digits at least as strange, 0 to 1; extrapolated below 1 / held_out."""
        return np.power(10.0, -np.asarray(score, dtype=np.float64))

    def describe(self, score: float) -> str:
        """The score in words: "1 digit in 2,000 looks as strange as this"."""
        if score > math.log10(self.held_out):
            return f"stranger than each of {self.held_out:,} digits"
        one_in = 10**score
        if one_in < 2:
            return f"{100 / one_in:.0f} digits in 100 look as strange as this"
        digits = max(len(str(round(one_in))) - 2, 0)
        return f"1 digit in {round(one_in, -digits):,.0f} looks as strange as this"

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors only, about 115 KB."""
        return {
            "relu_mean": torch.from_numpy(self.relu.mean),
            "relu_whitening": torch.from_numpy(self.relu.whitening),
            "pool_mean": torch.from_numpy(self.pool.mean),
            "pool_whitening": torch.from_numpy(self.pool.whitening),
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
        """The inverse of `state_dict`; scores are bit-equal. Raises CheckpointError where a part is missing."""
        try:
            array = {name: _matrix(value) for name, value in state.items()}
            surprises = np.linspace(0, -math.log(TAIL), KNOTS)
            return cls(
                Gaussian(array["relu_mean"], array["relu_whitening"]),
                Gaussian(array["pool_mean"], array["pool_whitening"]),
                array["references"],
                tuple(
                    Curve(values, surprises, float(rate))
                    for values, rate in zip(array["curve_values"], array["curve_rates"], strict=True)
                ),
                float(array["threshold"]),
                float(array["keep"]),
                int(array["held_out"]),
                "training" if bool(state["threshold_from_training"]) else "validation",
            )
        except (KeyError, ValueError) as problem:
            raise CheckpointError(
                f"the outlier score's state is not complete ({problem}): register the model again"
            ) from problem


def _parts(outputs: Outputs) -> tuple[Any, Any, Any]:
    return outputs.logits, outputs.relu_means, outputs.pool_means


def _statistics(outputs: Outputs, relu: Gaussian, pool: Gaussian, references: FloatArray) -> FloatArray:
    """[N, 4] in the order of STATISTICS."""
    logits, relu_means, pool_means = (_matrix(part) for part in _parts(outputs))
    return np.stack(
        [
            doubt(logits),
            relu.distance(relu_means),
            pool.distance(pool_means),
            neighbour_distance(logits, references, NEIGHBOUR),
        ],
        axis=1,
    )


def _combine(strange: FloatArray, curves: tuple[Curve, ...]) -> FloatArray:
    """Fisher's sum of -log p, [N]."""
    return np.asarray(sum(curve(column) for curve, column in zip(curves, strange.T, strict=True)))

"""A model's logits on an image set, and the metrics that follow from them, without PyTorch."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hw2.common.constants import DIGITS
from hw2.common.types import BoolArray, FloatArray, IntArray
from hw2.evaluation.metrics import (
    balanced_accuracy,
    calibration_error,
    cross_entropy,
    softmax,
    top_accuracy,
    wilson_interval,
)


class LabeledPredictions:
    """What follows from labels and predictions, both int64 [N]."""

    labels: IntArray
    predicted: IntArray

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.labels)

    @cached_property
    def correct(self) -> BoolArray:
        """Whether each prediction is the label, bool [N]."""
        return np.asarray(self.predicted == self.labels, dtype=np.bool_)

    @property
    def accuracy(self) -> float:
        """Share of all images that are predicted correctly."""
        return float(self.correct.mean())


@dataclass(frozen=True, eq=False)
class Evaluation(LabeledPredictions):
    """One model's outputs for every image of one image set, in arrays that can't be written to.

    labels: int64 [N]; logits: float32 [N, classes]; early_features and late_features: float32, of BaseCNN [N, 32] and
    [N, 64], the channel means that outlier scores are computed from; seconds: the pass without suspensions;
    classes: what the model's predictions mean.
    """

    name: str
    sha256: str
    labels: IntArray
    logits: NDArray[np.float32]
    early_features: NDArray[np.float32]
    late_features: NDArray[np.float32]
    seconds: float
    classes: tuple[str, ...] = DIGITS

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                frozen = value.view()
                frozen.setflags(write=False)
                object.__setattr__(self, field.name, frozen)

    @cached_property
    def predicted(self) -> IntArray:  # type: ignore[override]  # nor is it set elsewhere
        """The class with the largest logit, int64 [N]."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @cached_property
    def probabilities(self) -> FloatArray:
        """Softmax of the logits, float64 [N, classes]."""
        return softmax(self.logits)

    @cached_property
    def confidence(self) -> FloatArray:
        """The largest probability, float64 [N]."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The accuracy's 95 % Wilson interval."""
        return wilson_interval(int(self.correct.sum()), self.n)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the classes' accuracies, of those that have images."""
        return balanced_accuracy(self.labels, self.predicted)

    @property
    def top5_accuracy(self) -> float:
        """Share of the images whose label is among the five classes with the largest logits."""
        return top_accuracy(self.labels, self.logits, 5)

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return cross_entropy(self.labels, self.logits)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error over 15 bins."""
        return calibration_error(self.confidence, self.correct)

"""The detector's four statistics of an image, each larger for a stranger one.

All from one pass over the images (`ModelOutputs`):

    doubt      log((1 - p) / p), p the largest softmax probability (Hendrycks & Gimpel, ICLR 2017)
    strokes    Mahalanobis distance of the 32 channel means after the first ReLU, how much there is of each kind
               of stroke, from those of the digit that the image is taken for (Lee et al., NeurIPS 2018)
    shapes     the same of the 64 channel means after pooling; of a custom net, see `hw2.models.custom_net`
    direction  distance of the logits, scaled to length 1, to the 4th nearest among those of training digits
               (Sun et al., ICML 2022)
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hw2.common.types import FloatArray, IntArray

STATISTICS = ("doubt", "strokes", "shapes", "direction")
NUM_NEIGHBORS = 4
RIDGE = 0.01


class Outputs(Protocol):
    """What is scored, as tensors or arrays: `ModelOutputs`, or an `Evaluation`, of N images."""

    @property
    def logits(self) -> Any: ...  # [N, 10]
    @property
    def early_features(self) -> Any: ...  # [N, C], BaseCNN's 32
    @property
    def late_features(self) -> Any: ...  # [N, C], BaseCNN's 64


@dataclass(frozen=True, eq=False)
class ClassGaussians:
    """A normal distribution for each class, of one covariance.

    means [classes, C]; whitening [C, C], whitening^T whitening is the inverse covariance.
    """

    means: FloatArray
    whitening: FloatArray

    @classmethod
    def fit(
        cls, features: FloatArray, classes: IntArray, count: int, ridge: float = 1e-9
    ) -> "ClassGaussians":
        """Fit to features [N, C] and classes [N] below `count`; a class without any gets the mean of all.

        ridge: what is added to each channel's variance, as a share of the channels' mean variance. It keeps the
        inverse finite where a channel never fires; more of it makes less of directions that hardly vary.
        """
        means = np.tile(features.mean(axis=0), (count, 1))
        for label in np.unique(classes):
            means[label] = features[classes == label].mean(axis=0)
        centered = features - means[classes]
        covariance = centered.T @ centered / len(features)
        added = ridge * float(np.diagonal(covariance).mean()) + 1e-12
        lower = np.linalg.cholesky(covariance + added * np.eye(len(covariance)))
        return cls(means, np.linalg.inv(lower))

    def rounded(self) -> "ClassGaussians":
        """Round to float32."""
        return ClassGaussians(
            *(a.astype(np.float32).astype(np.float64) for a in (self.means, self.whitening))
        )

    def distance(self, features: FloatArray, classes: IntArray) -> FloatArray:
        """Compute the Mahalanobis distance [N] of each row from its class, not squared."""
        return np.asarray(np.linalg.norm((features - self.means[classes]) @ self.whitening.T, axis=1))


@dataclass(frozen=True, eq=False)
class Statistics:
    """The four statistics, fitted on training digits."""

    early: ClassGaussians
    late: ClassGaussians
    references: FloatArray  # logits scaled to length 1, [K, 10]

    @classmethod
    def fit(cls, training: Outputs) -> "Statistics":
        logits = as_matrix(training.logits)
        predicted = logits.argmax(axis=1)
        early, late = (
            ClassGaussians.fit(as_matrix(means), predicted, logits.shape[1], RIDGE).rounded()
            for means in (training.early_features, training.late_features)
        )
        # In the precisions of a saved state, so that a loaded one gives the same to the last bit.
        return cls(early, late, unit(logits).astype(np.float16).astype(np.float64))

    def compute(self, outputs: Outputs) -> list[FloatArray]:
        """Compute the statistics in the order of STATISTICS, each [N]."""
        logits = as_matrix(outputs.logits)
        predicted = logits.argmax(axis=1)
        return [
            log_odds(logits),
            self.early.distance(as_matrix(outputs.early_features), predicted),
            self.late.distance(as_matrix(outputs.late_features), predicted),
            knn_distance(unit(logits), self.references, NUM_NEIGHBORS),
        ]


def log_odds(logits: FloatArray) -> FloatArray:
    """Compute log((1 - p) / p) [N] of logits [N, classes], p the largest softmax probability, exact also near 1."""
    ordered = np.sort(logits, axis=1)
    second = ordered[:, -2] - ordered[:, -1]
    others = np.exp(ordered[:, :-1] - ordered[:, -2:-1]).sum(axis=1)
    return np.asarray(second + np.log(others))


def knn_distance(directions: FloatArray, references: FloatArray, neighbor: int) -> FloatArray:
    """Compute the distance [N] to the `neighbor`-th nearest of references [K, C], or the last; all of length 1."""
    neighbor = min(neighbor, len(references))
    columns = torch.from_numpy(references).T
    cosines = [
        (chunk @ columns).topk(neighbor, dim=1).values[:, -1]
        for chunk in torch.from_numpy(directions).split(250)  # 8 MB a chunk stay in the cache
    ]
    return np.asarray((2 - 2 * torch.cat(cosines)).clamp(min=0).sqrt().numpy())


def as_matrix(values: Any) -> FloatArray:
    """Convert a tensor or an array to a float64 array."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(array, dtype=np.float64)


def unit(values: Any) -> FloatArray:
    """Scale each row [C] of a matrix to length 1."""
    rows = as_matrix(values)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))

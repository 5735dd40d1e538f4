"""Outlier scores, as published.

One direction everywhere: a larger score is more of an outlier, and outliers are the positive class.

Scores of one model take its logits [N, classes] or features [N, C]; those of several models take logits
[models, N, classes]. All are float64 [N].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, logsumexp, softmax

from hw2.common.errors import DataError
from hw2.common.types import FloatArray
from hw2.outliers.statistics import ClassGaussians, Outputs, knn_distance, unit

# Sun et al.'s choice for ten classes.
NUM_NEIGHBORS = 50


def _probabilities(logits: ArrayLike) -> FloatArray:
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64), axis=-1))


def _entropy(probabilities: FloatArray) -> FloatArray:
    """-sum p log p over the last axis, in nats; 0 log 0 is 0."""
    return np.asarray(entr(probabilities).sum(axis=-1))


def max_softmax(logits: ArrayLike) -> FloatArray:
    """-max_c p_c, p = softmax(logits): Hendrycks & Gimpel, ICLR 2017."""
    return np.asarray(-_probabilities(logits).max(axis=-1))


def max_logit(logits: ArrayLike) -> FloatArray:
    """-max_c logit_c: Hendrycks et al., ICML 2022."""
    return np.asarray(-np.asarray(logits, dtype=np.float64).max(axis=-1))


def energy(logits: ArrayLike) -> FloatArray:
    """-log sum_c exp(logit_c): Liu et al., NeurIPS 2020, at temperature 1."""
    return np.asarray(-logsumexp(np.asarray(logits, dtype=np.float64), axis=-1))


def entropy(logits: ArrayLike) -> FloatArray:
    """-sum_c p_c log p_c, in nats: Chan et al., ICCV 2021."""
    return _entropy(_probabilities(logits))


def vote_disagreement(logits: ArrayLike) -> FloatArray:
    """1 - the share of the models that vote for the most voted class: Freeman, 1965 (the variation ratio)."""
    values = np.asarray(logits)
    votes = values.argmax(axis=-1)  # [models, N]
    counts = (votes[..., None] == np.arange(values.shape[-1])).sum(axis=0)
    return np.asarray(1 - counts.max(axis=-1) / len(votes))


def entropy_of_mean(logits: ArrayLike) -> FloatArray:
    """Entropy of the models' mean softmax, in nats: Lakshminarayanan et al., NeurIPS 2017."""
    return _entropy(_probabilities(logits).mean(axis=0))


def mutual_information(logits: ArrayLike) -> FloatArray:
    """Entropy of the mean softmax minus the mean entropy, in nats: Houlsby et al., 2011."""
    probabilities = _probabilities(logits)
    return np.asarray(_entropy(probabilities.mean(axis=0)) - _entropy(probabilities).mean(axis=0))


@dataclass(frozen=True, eq=False)
class Mahalanobis:
    """min_c (f - mu_c)^T Sigma^-1 (f - mu_c) / 2, Sigma shared by the classes: Lee et al., NeurIPS 2018."""

    gaussians: ClassGaussians

    @classmethod
    def fit(cls, features: ArrayLike, labels: ArrayLike) -> "Mahalanobis":
        """Fit to training features [N, C] and their labels [N]."""
        labels_there, classes = np.unique(np.asarray(labels), return_inverse=True)
        return cls(ClassGaussians.fit(np.asarray(features, dtype=np.float64), classes, len(labels_there)))

    def score(self, features: ArrayLike) -> FloatArray:
        rows = np.asarray(features, dtype=np.float64)
        distances = [
            self.gaussians.distance(rows, np.full(len(rows), label))
            for label in range(len(self.gaussians.means))
        ]
        return np.asarray(np.square(np.min(distances, axis=0)) / 2)


@dataclass(frozen=True, eq=False)
class KNearestNeighbors:
    """||z - z_(k)||, z = f / ||f||, z_(k) the k-th nearest training image: Sun et al., ICML 2022."""

    references: FloatArray  # [K, C], of length 1
    neighbor: int

    @classmethod
    def fit(cls, features: ArrayLike, neighbor: int = NUM_NEIGHBORS) -> "KNearestNeighbors":
        """Fit to training features [N, C]; no more than N neighbors."""
        references = unit(features)
        return cls(references, min(neighbor, len(references)))

    def score(self, features: ArrayLike) -> FloatArray:
        return knn_distance(unit(features), self.references, self.neighbor)


LOGIT_SCORES: Mapping[str, Callable[[ArrayLike], FloatArray]] = {
    "max_softmax": max_softmax,
    "max_logit": max_logit,
    "energy": energy,
    "entropy": entropy,
}
ENSEMBLE_SCORES: Mapping[str, Callable[[ArrayLike], FloatArray]] = {
    "vote_disagreement": vote_disagreement,
    "entropy_of_mean": entropy_of_mean,
    "mutual_information": mutual_information,
}


@dataclass(frozen=True, eq=False)
class Scorer:
    """Every score of one model; the two feature distances are fitted on training images."""

    mahalanobis: Mahalanobis
    neighbors: KNearestNeighbors

    @classmethod
    def fit(cls, training: Outputs, labels: ArrayLike) -> "Scorer":
        """Fit to an evaluation of training images and their labels [N]."""
        features = training.late_features
        return cls(Mahalanobis.fit(features, labels), KNearestNeighbors.fit(features))

    def scores(self, evaluation: Outputs) -> dict[str, FloatArray]:
        """Compute by name the scores of logits, then the two distances between channel means after pooling."""
        return {
            **{name: score(evaluation.logits) for name, score in LOGIT_SCORES.items()},
            "mahalanobis": self.mahalanobis.score(evaluation.late_features),
            "nearest_neighbors": self.neighbors.score(evaluation.late_features),
        }


def score_ensemble(evaluations: Sequence[Outputs]) -> dict[str, FloatArray]:
    """Compute by name the scores of two or more models on the same images."""
    if len(evaluations) < 2:
        raise DataError(f"{len(evaluations)} model for a score of several models; name two or more")
    logits = np.stack([np.asarray(evaluation.logits) for evaluation in evaluations])
    return {name: score(logits) for name, score in ENSEMBLE_SCORES.items()}

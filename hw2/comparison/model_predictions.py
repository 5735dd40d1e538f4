"""The predictions of one model, and trainings that ended without one, as a comparison takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hw2.common.constants import DIGITS
from hw2.common.formatting import parse_number
from hw2.common.types import IntArray
from hw2.evaluation.metrics import calibration_error, cross_entropy, softmax
from hw2.evaluation.predictions import Predictions
from hw2.evaluation.result import LabeledPredictions

SEED = "seed"
# What doesn't make another configuration: repetitions may differ in these.
REPEATED = (SEED, "threads")

_CHANCE_ERRORS = 3.0  # standard errors

Setting = str | int | float
Configuration = tuple[tuple[str, Setting], ...]


@dataclass(frozen=True, eq=False)
class _Training:
    """A training, with a model or without one.

    configuration: as requested, values as they are or as text, with the seed under "seed".
    """

    name: str
    configuration: Mapping[str, object]

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """The configuration with numbers as numbers, however they were written: "0.10" is 0.1."""
        return {key: parse_number(value) for key, value in self.configuration.items()}

    @property
    def seed(self) -> Setting | None:
        return self.settings.get(SEED)

    @cached_property
    def without_seed(self) -> Configuration:
        """The configuration apart from seed and threads: equal for models that are repetitions of each other."""
        return tuple(sorted((key, value) for key, value in self.settings.items() if key not in REPEATED))


class FailedTraining(_Training):
    """A training whose loss became NaN or infinite, so that there is no model."""


@dataclass(frozen=True, eq=False)
class ModelPredictions(LabeledPredictions, _Training):
    """One model's answers to the images that `images_sha256` names.

    labels and predicted: int64 [N]; train_seconds and model_size_bytes: None where unknown; labels_only:
    `images_sha256` is that of the labels; logits: float32 [N, K], None where they weren't stored.
    """

    labels: IntArray
    predicted: IntArray
    images_sha256: str
    train_seconds: float | None = None
    model_size_bytes: int | None = None
    labels_only: bool = False
    logits: NDArray[np.float32] | None = None
    classes: tuple[str, ...] = DIGITS

    @classmethod
    def of(
        cls,
        name: str,
        configuration: Mapping[str, object],
        stored: Predictions,
        train_seconds: float | None = None,
        model_size_bytes: int | None = None,
    ) -> Self:
        """Create from stored predictions."""
        return cls(
            name,
            configuration,
            stored.labels,
            stored.predicted,
            stored.sha256,
            train_seconds,
            model_size_bytes,
            stored.labels_only,
            stored.logits,
            stored.classes,
        )

    @property
    def is_trained(self) -> bool:
        """Whether the accuracy is above chance, that of always predicting the most frequent class."""
        chance = float(np.bincount(self.labels).max()) / self.n
        return self.accuracy > chance + _CHANCE_ERRORS * float(np.sqrt(chance * (1 - chance) / self.n))

    @property
    def logit_metrics(self) -> dict[str, float]:
        """The metrics that need probabilities, by their names in MLflow; none without logits."""
        if self.logits is None:
            return {}
        confidence = softmax(self.logits).max(axis=1)
        return {
            "test_loss": cross_entropy(self.labels, self.logits),
            "test_calibration_error": calibration_error(confidence, self.correct),
        }


def configuration_labels(configurations: Sequence[Configuration]) -> list[str]:
    """Label each configuration: lr and epochs, and whatever else differs among them."""
    differing = {
        key
        for configuration in configurations
        for key, value in configuration
        if any(dict(other).get(key) != value for other in configurations)
    }
    labels = []
    for configuration in configurations:
        chosen = dict(configuration)
        keys: list[str] = [key for key in ("lr", "epochs") if key in chosen]
        keys += sorted(key for key in chosen if key in differing and key not in keys)
        labels.append(" ".join(f"{key}={chosen[key]}" for key in keys) or "(no settings)")
    return labels

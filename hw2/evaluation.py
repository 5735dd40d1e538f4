"""One pass of a model over an image set, and what follows from its answers."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from hw2.data import ImageSet
from hw2.errors import DataError, ExperimentError
from hw2.forward import outputs
from hw2.measures import (
    calibration_error,
    confusion_matrix,
    confusion_table,
    coverage_table,
    cross_entropy,
    reliability_table,
    softmax,
    wilson_interval,
)
from hw2.net import Net
from hw2.predictions import predictions_frame, read_predictions, write_predictions
from hw2.types import BoolArray, FloatArray, IntArray

__all__ = [
    "Evaluation",
    "calibration_error",
    "confusion_matrix",
    "confusion_table",
    "coverage_table",
    "evaluate",
    "predictions_frame",
    "read_predictions",
    "reliability_table",
    "wilson_interval",
    "write_predictions",
]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one model says about every picture of one image set; its arrays can't be written to.

    labels: int64 [N]; logits: float32 [N, 10]; relu_means and pool_means: float32 [N, 32] and [N, 64] of BaseCNN,
    the channel means that outlier scores are computed from; seconds: wall time of the one pass.
    """

    name: str
    sha256: str
    labels: IntArray
    logits: NDArray[np.float32]
    relu_means: NDArray[np.float32]
    pool_means: NDArray[np.float32]
    seconds: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                frozen = value.view()
                frozen.setflags(write=False)
                object.__setattr__(self, field.name, frozen)

    @property
    def n(self) -> int:
        """How many pictures."""
        return len(self.labels)

    @cached_property
    def predicted(self) -> IntArray:
        """The digit with the largest logit, int64 [N]."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @cached_property
    def probabilities(self) -> FloatArray:
        """Softmax of the logits, float64 [N, 10]."""
        return softmax(self.logits)

    @cached_property
    def confidence(self) -> FloatArray:
        """The largest probability, float64 [N]."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @cached_property
    def correct(self) -> BoolArray:
        """Whether the prediction is the label, bool [N]."""
        return np.asarray(self.predicted == self.labels, dtype=np.bool_)

    @property
    def accuracy(self) -> float:
        """Share of all pictures that are predicted correctly."""
        return float(self.correct.mean())

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The accuracy's 95 % Wilson interval."""
        return wilson_interval(int(self.correct.sum()), self.n)

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return cross_entropy(self.labels, self.logits)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error over 15 bins."""
        return calibration_error(self.confidence, self.correct)


def evaluate(
    model: Net,
    image_set: ImageSet,
    batch_size: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Show the model every picture once, in float32 and without gradients, on the device where the model is.

    The model itself is left as it was. batch_size: pictures at a time, None for what is fastest; `on_progress` is
    called after each batch with the number of pictures done so far.
    Raises DataError for a set without pictures and ExperimentError for a model whose logits are no numbers.
    """
    if not len(image_set):
        raise DataError(f"{image_set.name} {image_set.split}: no pictures to evaluate; expected at least one")
    batches, done = [], 0
    started = time.perf_counter()
    for batch in outputs(model, image_set.images, batch_size):
        batches.append(batch)
        done += len(batch.logits)
        if on_progress is not None:
            on_progress(done)
    seconds = time.perf_counter() - started
    logits, relu_means, pool_means = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise ExperimentError(
            f"the model's answer to {broken} of {len(image_set)} pictures of {image_set.name} is not a "
            "number; its weights are unusable: train it again, with a smaller learning rate"
        )
    return Evaluation(
        name=image_set.name,
        sha256=image_set.sha256,
        labels=image_set.labels.numpy().astype(np.int64),
        logits=logits,
        relu_means=relu_means,
        pool_means=pool_means,
        seconds=seconds,
    )

"""Predictions on an image set, and what follows from them: accuracy, interval, confusion, calibration."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from hw2.data import ImageSet
from hw2.errors import DataError, ExperimentError
from hw2.model import CLASSES, BaseCNN

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

CALIBRATION_BINS = 15
LOGIT_COLUMNS = [f"logit_{digit}" for digit in range(CLASSES)]
PREDICTION_COLUMNS = ["index", "label", "predicted", *LOGIT_COLUMNS, "outlier_score", "rejected"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one model says about every picture of one image set; its arrays can't be written to.

    labels: int64 [N]; logits: float32 [N, 10]; relu_means: float32 [N, 32] and pool_means: float32
    [N, 64], the channel means that outlier scores are computed from; seconds: wall time of the one pass.
    """

    name: str
    sha256: str
    labels: Integers
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
    def predicted(self) -> Integers:
        """The digit with the largest logit, int64 [N]."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @cached_property
    def probabilities(self) -> Floats:
        """Softmax of the logits, float64 [N, 10]."""
        return softmax(self.logits)

    @cached_property
    def confidence(self) -> Floats:
        """The largest probability, float64 [N]."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @cached_property
    def correct(self) -> Booleans:
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
    model: BaseCNN,
    image_set: ImageSet,
    batch_size: int = 1000,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Show the model every picture once, in float32 and without gradients, on the device where the model is.

    The model itself is left as it was. `on_progress` is called with the number of pictures done so far.
    Raises DataError for a set without pictures and ExperimentError for a model whose logits are no numbers.
    """
    if not len(image_set):
        raise DataError(f"{image_set.name} {image_set.split}: no pictures to evaluate; expected at least one")
    # channels-last is up to twice as fast on the processor; the copy (566 KiB) leaves the caller's alone.
    network = copy.deepcopy(model).eval().float().to(memory_format=torch.channels_last)
    device = next(network.parameters()).device
    outputs = []
    started = time.perf_counter()
    # A GPU would by default round a convolution's float32 inputs to 10 bits.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for first in range(0, len(image_set), batch_size):
            images = image_set.images[first : first + batch_size].to(device)
            outputs.append([part.cpu() for part in network.outputs(images)])
            if on_progress is not None:
                on_progress(min(first + batch_size, len(image_set)))
    seconds = time.perf_counter() - started
    logits, relu_means, pool_means = (torch.cat(parts).numpy() for parts in zip(*outputs, strict=True))
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


def softmax(logits: ArrayLike) -> Floats:
    """Probabilities, float64 [N, C], of logits [N, C]."""
    exponentials = np.exp(_shifted(logits))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)


def cross_entropy(labels: Integers, logits: ArrayLike) -> float:
    """Mean of -log softmax(logits)[label] in nats, computed in float64."""
    shifted = _shifted(logits)
    of_label = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - of_label).mean())


def _shifted(logits: ArrayLike) -> Floats:
    """Logits less each row's largest, so that no exponential overflows."""
    values = np.asarray(logits, dtype=np.float64)
    return np.asarray(values - values.max(axis=1, keepdims=True), dtype=np.float64)


def wilson_interval(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion: E. B. Wilson, JASA 22 (1927), 209-212.

    By its closed formula: statsmodels has it too, but its import would cost each training run a second.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"expected 0 <= correct <= n and n > 0, found {correct} of {n}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = correct / n
    centre = share + z * z / (2 * n)
    margin = z * float(np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2))
    scale = 1 + z * z / n
    # Rounding would otherwise leave a bound of 1e-17 where it is exactly 0 or 1.
    low = 0.0 if correct == 0 else (centre - margin) / scale
    high = 1.0 if correct == n else (centre + margin) / scale
    return low, high


def confusion_matrix(labels: Integers, predicted: Integers, classes: int = CLASSES) -> Integers:
    """Counts, int64 [classes, classes]: row = label, column = predicted."""
    cells = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def confusion_table(matrix: Integers, row_names: tuple[str, ...] | None = None) -> pd.DataFrame:
    """A confusion matrix as a table: the label's name, then a column of counts for each predicted class."""
    names = row_names or tuple(str(row) for row in range(len(matrix)))
    table = pd.DataFrame(matrix, columns=[f"predicted_{column}" for column in range(matrix.shape[1])])
    table.insert(0, "label", list(names[: len(matrix)]))
    return table


def reliability_table(confidence: Floats, correct: Booleans, bins: int = CALIBRATION_BINS) -> pd.DataFrame:
    """Confidence against accuracy in `bins` bins of equal width, (low, high]; the last one includes 1.

    Columns: low, high, count, confidence (mean), accuracy, accuracy_low and accuracy_high (95 % Wilson
    interval); the last four are NaN in an empty bin.
    After Guo et al., On calibration of modern neural networks (ICML 2017).
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(place, minlength=bins)
    right = np.bincount(place, weights=correct, minlength=bins).astype(np.int64)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(place, weights=confidence, minlength=bins) / count
        accuracy = right / count
    intervals = [
        wilson_interval(int(hits), int(n)) if n else (np.nan, np.nan)
        for hits, n in zip(right, count, strict=True)
    ]
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "count": count,
            "confidence": mean_confidence,
            "accuracy": accuracy,
            "accuracy_low": [low for low, _ in intervals],
            "accuracy_high": [high for _, high in intervals],
        }
    )


def calibration_error(confidence: Floats, correct: Booleans, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error, 0 to 1: |accuracy - confidence| of each bin, weighted by its pictures."""
    table = reliability_table(confidence, correct, bins)
    gap = (table["accuracy"] - table["confidence"]).abs()
    return float((gap * table["count"]).sum() / table["count"].sum())


def coverage_table(sureness: Floats, correct: Booleans, points: int = 100) -> pd.DataFrame:
    """Accuracy on the share of pictures that the model is surest of, in `points` steps up to all of them.

    sureness: [N], larger = surer (a confidence, or an outlier score negated). Pictures of equal sureness
    count with their mean, so that the table doesn't depend on their order. Columns: coverage, count,
    least_sureness, accuracy, accuracy_low and accuracy_high (95 % Wilson interval).
    """
    n = len(correct)
    order = np.argsort(-sureness, kind="stable")
    _, group, size = np.unique(-sureness[order], return_inverse=True, return_counts=True)
    mean_of_group = np.bincount(group, weights=correct[order]) / size
    expected = np.cumsum(mean_of_group[group])
    count = np.unique(np.ceil(np.linspace(0, n, points + 1)[1:]).astype(np.int64))
    right = expected[count - 1]
    intervals = [wilson_interval(round(float(hits)), int(k)) for hits, k in zip(right, count, strict=True)]
    return pd.DataFrame(
        {
            "coverage": count / n,
            "count": count,
            "least_sureness": sureness[order][count - 1],
            "accuracy": right / count,
            "accuracy_low": [low for low, _ in intervals],
            "accuracy_high": [high for _, high in intervals],
        }
    )


def predictions_frame(
    evaluation: Evaluation, outlier_score: Floats | None = None, rejected: Booleans | None = None
) -> pd.DataFrame:
    """One row a picture, in PREDICTION_COLUMNS; outlier_score and rejected are missing values where None.

    The image set's name and SHA-256 are in the frame's `attrs`, which parquet keeps.
    """
    frame = pd.DataFrame(evaluation.logits, columns=LOGIT_COLUMNS)
    frame.insert(0, "index", np.arange(evaluation.n))
    frame.insert(1, "label", evaluation.labels)
    frame.insert(2, "predicted", evaluation.predicted)
    frame["outlier_score"] = np.full(evaluation.n, np.nan) if outlier_score is None else outlier_score
    frame["rejected"] = pd.array([pd.NA] * evaluation.n if rejected is None else rejected, dtype="boolean")
    frame.attrs = {"name": evaluation.name, "sha256": evaluation.sha256}
    return frame


@dataclass(frozen=True, eq=False)
class Predictions:
    """Stored predictions as arrays: labels and predicted are int64 [N], logits float32 [N, 10]."""

    name: str
    sha256: str
    labels: Integers
    predicted: Integers
    logits: NDArray[np.float32]
    outlier_score: Floats | None
    rejected: Booleans | None

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Self:
        """The inverse of `predictions_frame`. Raises DataError where a column is missing."""
        missing = [column for column in PREDICTION_COLUMNS if column not in frame.columns]
        if missing:
            raise DataError(
                f"predictions without {', '.join(missing)}; "
                f"expected the columns {', '.join(PREDICTION_COLUMNS)}"
            )
        score, rejected = frame["outlier_score"], frame["rejected"]
        attrs: dict[Any, Any] = frame.attrs
        return cls(
            name=str(attrs.get("name", "")),
            sha256=str(attrs.get("sha256", "")),
            labels=frame["label"].to_numpy(dtype=np.int64),
            predicted=frame["predicted"].to_numpy(dtype=np.int64),
            logits=frame[LOGIT_COLUMNS].to_numpy(dtype=np.float32),
            outlier_score=None if score.isna().all() else score.to_numpy(dtype=np.float64),
            rejected=None if rejected.isna().all() else rejected.to_numpy(dtype=np.bool_),
        )


def write_predictions(path: Path, frame: pd.DataFrame) -> None:
    """Write a `predictions_frame` as parquet."""
    frame.to_parquet(path, engine="pyarrow", index=False)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote. Raises DataError, with the file's name, where it can't be read."""
    try:
        return Predictions.from_frame(pd.read_parquet(path, engine="pyarrow"))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these two
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path}: not a readable file of predictions ({reason}); evaluate the model again"
        ) from error

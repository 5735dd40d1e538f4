"""Predictions as they are stored: a frame with a row for each image, in parquet, and back to arrays."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw2.common.constants import DIGITS
from hw2.common.errors import DataError
from hw2.common.formatting import first_line
from hw2.common.types import BoolArray, FloatArray, IntArray
from hw2.evaluation.result import Evaluation

_LOGIT = re.compile(r"logit_(\d+)")


def prediction_columns(classes: int = len(DIGITS)) -> list[str]:
    """Name the columns of stored predictions into so many classes."""
    return ["index", "label", "predicted", *logit_columns(classes), "outlier_score", "rejected"]


def logit_columns(classes: int) -> list[str]:
    """Name the columns of the logits."""
    return [f"logit_{label}" for label in range(classes)]


LOGIT_COLUMNS = logit_columns(len(DIGITS))
PREDICTION_COLUMNS = prediction_columns()
"""Of digits."""


def predictions_frame(
    evaluation: Evaluation, outlier_score: FloatArray | None = None, rejected: BoolArray | None = None
) -> pd.DataFrame:
    """Tabulate one row an image, in `prediction_columns`; outlier_score and rejected are missing where None.

    The image set's name and SHA-256 are in the frame's `attrs`, which parquet keeps, and the classes where they aren't
    digits.
    """
    frame = pd.DataFrame(evaluation.logits, columns=logit_columns(evaluation.logits.shape[1]))
    frame.insert(0, "index", np.arange(evaluation.n))
    frame.insert(1, "label", evaluation.labels)
    frame.insert(2, "predicted", evaluation.predicted)
    frame["outlier_score"] = np.full(evaluation.n, np.nan) if outlier_score is None else outlier_score
    frame["rejected"] = pd.array([pd.NA] * evaluation.n if rejected is None else rejected, dtype="boolean")
    frame.attrs = {"name": evaluation.name, "sha256": evaluation.sha256}
    if evaluation.classes != DIGITS:
        frame.attrs["classes"] = list(evaluation.classes)
    return frame


@dataclass(frozen=True, eq=False)
class Predictions:
    """Stored predictions as arrays, whoever stored them.

    labels and predicted: int64 [N]; logits: float32 [N, K] or None; sha256: of the test set, of its images and labels
    or, where `labels_only`, of its labels alone; classes: their K names, numbers where the file has none.
    """

    name: str
    sha256: str
    labels: IntArray
    predicted: IntArray
    logits: NDArray[np.float32] | None
    outlier_score: FloatArray | None
    rejected: BoolArray | None
    labels_only: bool = False
    classes: tuple[str, ...] = DIGITS

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Self:
        """Read a `predictions_frame`, or one of another program; see docs/predictions.md.

        Raises:
            DataError: a column is missing, or isn't what it should be.
        """
        columns = _present_logits(frame)
        missing = [column for column in ("label", "predicted", *columns) if column not in frame.columns]
        if missing:
            raise DataError(
                f"predictions without {', '.join(missing)}; expected the columns label and predicted, and where "
                "there are logits logit_0, logit_1 and so on for all classes"
            )
        labels, predicted = (_classes(frame, name, len(columns)) for name in ("label", "predicted"))
        attrs: dict[Any, Any] = frame.attrs
        sha256 = str(attrs.get("sha256") or "")
        return cls(
            name=str(attrs.get("name", "")),
            sha256=sha256 or labels_sha256(labels),
            labels=labels,
            predicted=predicted,
            logits=frame[columns].to_numpy(dtype=np.float32) if columns else None,
            outlier_score=_optional(frame, "outlier_score", np.float64),
            rejected=_optional(frame, "rejected", np.bool_),
            labels_only=not sha256 or attrs.get("sha256_of") == "labels",
            classes=tuple(
                map(str, attrs.get("classes") or range(_count_classes(columns, labels, predicted)))
            ),
        )


def labels_sha256(labels: IntArray) -> str:
    """Hash labels alone (SHA-256): the identity of a test set whose images nobody has hashed."""
    return hashlib.sha256(repr(labels.shape).encode() + labels.tobytes()).hexdigest()


def _present_logits(frame: pd.DataFrame) -> list[str]:
    """Return the names of all logits up to the last one that the frame has."""
    numbers = [int(match[1]) for name in frame.columns if (match := _LOGIT.fullmatch(str(name)))]
    # One more than there are columns names one that is missing.
    return logit_columns(min(max(numbers, default=-1), len(frame.columns)) + 1)


def _count_classes(logits: Sequence[str], *labels: IntArray) -> int:
    return len(logits) or max((int(values.max()) for values in labels if len(values)), default=-1) + 1


def _classes(frame: pd.DataFrame, name: str, num_classes: int) -> IntArray:
    """Return a column of classes; with logits they are below `num_classes`."""
    values = frame[name].to_numpy()
    whole = values.dtype.kind in "iu"
    if not whole or (len(values) and (values.min() < 0 or (num_classes and values.max() >= num_classes))):
        actual = f"from {values.min()} to {values.max()}" if whole else f"{values.dtype}"
        expected = f"0 to {num_classes - 1}" if num_classes else "0 or more"
        raise DataError(f"the column {name} is {actual}; expected whole numbers, {expected}")
    return values.astype(np.int64)


def _optional(frame: pd.DataFrame, name: str, dtype: type[np.generic]) -> NDArray[Any] | None:
    if name not in frame or frame[name].isna().all():
        return None
    return frame[name].to_numpy(dtype=dtype)


def write_predictions(path: Path, frame: pd.DataFrame) -> None:
    """Write a `predictions_frame` as parquet."""
    frame.to_parquet(path, engine="pyarrow", index=False)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` or another program wrote.

    Raises:
        DataError: the file can't be read, or lacks columns.
    """
    try:
        return Predictions.from_frame(pd.read_parquet(path, engine="pyarrow"))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these two
        raise DataError(
            f"{path}: not a readable file of predictions ({first_line(error)}); evaluate the model again"
        ) from error

"""Predictions as they are stored: a frame with a row for each image, in parquet, and back to arrays."""

import re
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
    """Stored predictions as arrays: labels and predicted are int64 [N], logits float32 [N, classes]."""

    name: str
    sha256: str
    labels: IntArray
    predicted: IntArray
    logits: NDArray[np.float32]
    outlier_score: FloatArray | None
    rejected: BoolArray | None
    classes: tuple[str, ...] = DIGITS

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Self:
        """Invert `predictions_frame`; DataError where a column is missing."""
        count = _count_classes(frame)
        columns = prediction_columns(count)
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            raise DataError(
                f"predictions without {', '.join(missing)}; expected the columns {', '.join(columns)}"
            )
        score, rejected = frame["outlier_score"], frame["rejected"]
        attrs: dict[Any, Any] = frame.attrs
        return cls(
            name=str(attrs.get("name", "")),
            sha256=str(attrs.get("sha256", "")),
            labels=frame["label"].to_numpy(dtype=np.int64),
            predicted=frame["predicted"].to_numpy(dtype=np.int64),
            logits=frame[logit_columns(count)].to_numpy(dtype=np.float32),
            outlier_score=None if score.isna().all() else score.to_numpy(dtype=np.float64),
            rejected=None if rejected.isna().all() else rejected.to_numpy(dtype=np.bool_),
            classes=tuple(attrs.get("classes", DIGITS if count == len(DIGITS) else map(str, range(count)))),
        )


def _count_classes(frame: pd.DataFrame) -> int:
    """Count the classes: by the logits that are there and by the labels, of which each must have one."""
    numbers = [int(match[1]) for column in frame.columns if (match := _LOGIT.fullmatch(str(column)))]
    present = [column for column in ("label", "predicted") if column in frame.columns and len(frame)]
    numbers += [int(frame[column].max()) for column in present]
    return max(numbers, default=len(DIGITS) - 1) + 1


def write_predictions(path: Path, frame: pd.DataFrame) -> None:
    """Write a `predictions_frame` as parquet."""
    frame.to_parquet(path, engine="pyarrow", index=False)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

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

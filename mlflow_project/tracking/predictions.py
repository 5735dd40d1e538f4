"""A model's predictions for its test set, logged to any MLflow run, so that `compare` and `report` take it.

docs/predictions.md has the file's columns. They are read again by `hw2.evaluation.predictions`, which knows nothing of
this module: other programs may write such a file as well.
"""

import hashlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import RunError, UsageError
from mlflow_project.common.names import PREDICTIONS, TEST_TAG

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Labels = NDArray[np.int64]


def log(
    labels: Any,
    logits: Any | None,
    predicted: Any | None,
    classes: Sequence[str] | None,
    images: Any | None,
) -> None:
    """Log to the active MLflow run; see `mlflow_project.tracking.log_predictions`."""
    frame = tabulate(labels, logits, predicted, classes, images)
    mlflow = _with_active_run()
    with tempfile.TemporaryDirectory(prefix="predictions-") as scratch:
        path = Path(scratch) / Path(PREDICTIONS).name
        frame.to_parquet(path, engine="pyarrow", index=False)
        mlflow.log_artifact(str(path), str(Path(PREDICTIONS).parent))
    mlflow.set_tag(TEST_TAG, frame.attrs["sha256"])  # after the file: `compare` looks for runs by it


def _with_active_run() -> ModuleType:
    """Return the MLflow that the program has imported: whoever has an active run has."""
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or mlflow.active_run() is None:
        raise RunError(
            "no MLflow run is active to log predictions to; call log_predictions within mlflow.start_run(), of an "
            "ended run mlflow.start_run(run_id=...)"
        )
    return mlflow


def tabulate(
    labels: Any,
    logits: Any | None,
    predicted: Any | None,
    classes: Sequence[str] | None,
    images: Any | None,
) -> "pd.DataFrame":
    """Return the table that is stored, with the test set's SHA-256 and the classes' names in its `attrs`.

    Raises:
        UsageError: The arrays don't fit together.
    """
    import numpy as np
    import pandas as pd

    truth = _integers("labels", labels)
    if not len(truth):
        raise UsageError("labels are empty; expected the class of each test image")
    scores = None if logits is None else _logits(logits, len(truth))
    if predicted is not None:
        answers = _integers("predicted", predicted, len(truth))
    elif scores is not None:
        answers = scores.argmax(axis=1)
    else:
        raise UsageError("neither logits nor predicted is given; log_predictions needs one of them")
    names = None if classes is None else [str(name) for name in classes]
    num_classes = scores.shape[1] if scores is not None else None if names is None else len(names)
    if names is not None and len(names) != num_classes:
        raise UsageError(f"classes names {len(names)} classes; expected {num_classes}, as logits has columns")
    for name, values in (("labels", truth), ("predicted", answers)):
        _require_classes(name, values, num_classes)
    columns: dict[str, Any] = {"index": np.arange(len(truth)), "label": truth, "predicted": answers}
    if scores is not None:
        columns |= {f"logit_{number}": column for number, column in enumerate(scores.T)}
    frame = pd.DataFrame(columns)
    frame.attrs = {
        "name": "",
        "sha256": hash_test_set(truth, images),
        "sha256_of": "labels" if images is None else "images and labels",
        **({} if names is None else {"classes": names}),
    }
    return frame


def hash_test_set(labels: "Labels", images: Any | None = None) -> str:
    """Hash a test set (SHA-256), from uint8 images and their labels or from labels alone.

    With images it is what `train` has for the same images, so that its models can be compared with any other.
    """
    content = labels if images is None else _images(images, len(labels))
    digest = hashlib.sha256(repr(content.shape).encode())
    for part in (content,) if images is None else (content, labels):
        digest.update(part.data)
    return digest.hexdigest()


def _array(values: Any) -> "Array":
    """Return values as an array; of a tensor that has a gradient, or is on a GPU, or in bfloat16, too."""
    import numpy as np

    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):
            values = values.float()
    return np.asarray(values)


def _integers(name: str, values: Any, expected: int | None = None) -> "Labels":
    import numpy as np

    array = _array(values)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise UsageError(
            f"{name} are {array.dtype} of shape {array.shape}; expected one whole number an image, its class from 0"
        )
    if expected is not None and len(array) != expected:
        raise UsageError(f"found {expected:,} labels and {len(array):,} {name}; expected as many of both")
    return np.ascontiguousarray(array, dtype=np.int64)


def _logits(values: Any, expected: int) -> "Array":
    import numpy as np

    array = _array(values)
    if array.ndim != 2 or len(array) != expected or array.shape[1] < 2 or array.dtype.kind not in "fiu":
        raise UsageError(
            f"logits are {array.dtype} of shape {array.shape}; expected ({expected}, K): a row for each label, a "
            "column for each of K classes"
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused below
        logits = array.astype(np.float32)
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise UsageError(
            f"logits of {int((~finite).sum()):,} of {len(logits):,} images are NaN or infinite (the first is "
            f"{int((~finite).argmax())}); expected finite numbers"
        )
    return logits


def _require_classes(name: str, values: "Labels", num_classes: int | None) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        allowed = "0 or more" if num_classes is None else f"0 to {num_classes - 1}"
        raise UsageError(f"{name} go from {low} to {high}; expected classes {allowed}")


def _images(values: Any, expected: int) -> "Array":
    """Return images as the one layout that is hashed: [N, H, W] of gray ones, [N, H, W, C] of others."""
    import numpy as np

    array = _array(values)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or len(array) != expected:
        raise UsageError(
            f"images are {array.dtype} of shape {array.shape}; expected uint8 ({expected}, height, width), with or "
            "without channels, as they are before they are scaled (or none: the labels alone are hashed)"
        )
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        array = np.moveaxis(array, 1, 3)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    return np.ascontiguousarray(array)

"""Durable logging for any program: what a run logs is on disk first, and is uploaded to MLflow from there.

    from mlflow_project.tracking import start_run

    with start_run("lr=0.1", "mnist") as run:
        run.log_params({"lr": 0.1})
        run.log_metrics({"loss": 0.5}, step=1)

A server that is unreachable or a process that is killed loses nothing; `mlflow-project sync` uploads the rest.
Nothing is imported before one of the functions is called.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from mlflow_project.tracking.active_run import ActiveRun

__all__ = ["log_predictions", "start_run"]


def log_predictions(
    labels: "Any",
    logits: "Any | None" = None,
    predicted: "Any | None" = None,
    classes: "Sequence[str] | None" = None,
    images: "Any | None" = None,
) -> None:
    """Log a model's predictions for its test set to the active MLflow run; `compare` and `report` then take that run.

    Arrays of numpy, tensors and lists alike. Runs are compared where their test sets are the same: by the SHA-256 of
    images and labels, or where no images are given by that of the labels in their order.

    Args:
        labels: The class of each test image, whole numbers from 0, [N].
        logits: A score for each of K classes before softmax, [N, K]; logarithms of probabilities will do.
        predicted: The predicted class of each image, [N]; by default that of the largest logit.
        classes: The names of the classes, K.
        images: uint8 as they are stored, [N, H, W], [N, H, W, C] or [N, C, H, W]; only hashed, not stored.

    Raises:
        UsageError: The arrays don't fit together; nothing is logged.
        RunError: No MLflow run is active.
    """
    from mlflow_project.tracking.predictions import log

    log(labels, logits, predicted, classes, images)


def start_run(
    name: str,
    experiment: str,
    on_problem: "Callable[[str], None] | None" = None,
    *,
    run_id: str | None = None,
) -> "ActiveRun":
    """Start a run at MLFLOW_TRACKING_URI; as a context it ends the run, too.

    Args:
        name: The run's name.
        experiment: The experiment's name; it is created if need be.
        on_problem: Called with one line when the disk or the server fails; a `UserWarning` by default.
        run_id: A run that exists in MLflow; None for a new one.

    Raises:
        UsageError: MLFLOW_TRACKING_URI names no store that MLflow knows.
        RunError: The existing run has ended, or belongs to another process.
        JournalError: The disk doesn't take it.
    """
    import warnings

    from mlflow_project.tracking.active_run import ActiveRun

    return ActiveRun.create(name, on_problem or warnings.warn, run_id, experiment=experiment)

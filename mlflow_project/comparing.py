"""Runs and registered models compared by the predictions that MLflow keeps of them. No model is run."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_project.errors import RunError
from mlflow_project.names import PREDICTIONS
from mlflow_project.selection import Selected, Selection, StoredRun, fetch, select

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.comparison import Comparison, ModelPredictions


def compare_stored(client: "MlflowClient", selection: Selection) -> "tuple[Comparison, Selected]":
    """The verdicts on what is selected, two models at least.

    RunError for a run without predictions or a single model; ComparisonError, with both SHA-256, for models
    that were tested on different pictures.
    """
    from hw2.comparison import compare

    selected = select(client, selection)
    if len(selected.runs) < 2:
        only = selected.runs[0]
        raise RunError(
            f"only one model, {only.name} (run {only.run_id}); a comparison takes two at least: name another"
        )
    return compare(stored_predictions(client, selected.runs)), selected


def stored_predictions(client: "MlflowClient", runs: Sequence[StoredRun]) -> "list[ModelPredictions]":
    """What each run has predicted for its test pictures, in the order of the runs."""
    from hw2.comparison import ModelPredictions
    from hw2.predictions import read_predictions

    models = []
    with tempfile.TemporaryDirectory(prefix="compare-") as scratch:
        files = fetch(client, ((run, PREDICTIONS) for run in runs), Path(scratch))
        for run in runs:
            file = files[run.run_id, PREDICTIONS]
            if file is None:
                raise RunError(
                    f"run {run.run_id} ({run.name}) has no {PREDICTIONS}; if it is not delivered yet: "
                    "mlflow-project sync, else train it again"
                )
            size = run.metrics.get("model_size_bytes")
            models.append(
                ModelPredictions.of(
                    run.name,
                    run.parameters,
                    read_predictions(file),
                    run.metrics.get("train_seconds"),
                    None if size is None else int(size),
                )
            )
    return models

"""Runs and registered models compared by the predictions that MLflow keeps of them. No model is run."""

from typing import TYPE_CHECKING

from mlflow_project.connection import client as open_store
from mlflow_project.errors import RunError
from mlflow_project.selection import Selected, Selection, select
from mlflow_project.stored_runs import stored_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.comparison import Comparison


def compare_runs(selection: Selection, client: "MlflowClient | None" = None) -> "tuple[Comparison, Selected]":
    """The verdicts on what is selected, two models at least.

    RunError for a run without predictions or a single model; ComparisonError, with both SHA-256, for models
    that were tested on different pictures.
    """
    from hw2.comparison import compare

    client = client or open_store()
    selected = select(client, selection)
    if len(selected.runs) < 2:
        only = selected.runs[0]
        raise RunError(
            f"only one model, {only.name} (run {only.run_id}); a comparison takes two at least: name another"
        )
    return compare(stored_predictions(client, selected.runs)), selected

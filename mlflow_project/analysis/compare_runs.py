"""Runs and registered models compared by the predictions that MLflow keeps of them. No model is run."""

from typing import TYPE_CHECKING

from mlflow_project.analysis.run_selection import SelectedRuns, Selection, select
from mlflow_project.common.errors import RunError
from mlflow_project.registry.stored_runs import stored_predictions
from mlflow_project.tracking.delivery.client import connect as open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.comparison.compare import Comparison


def compare_runs(
    selection: Selection, client: "MlflowClient | None" = None
) -> "tuple[Comparison, SelectedRuns]":
    """The verdicts on what is selected, two models at least.

    RunError for a run without predictions or a single model; ComparisonError, with both SHA-256, for models
    that were tested on different images.
    """
    from hw2.comparison.compare import compare

    client = client or open_store()
    selected = select(client, selection)
    if len(selected.runs) < 2:
        only = selected.runs[0]
        raise RunError(
            f"only one model, {only.name} (run {only.run_id}); a comparison takes two at least: name another"
        )
    return compare(stored_predictions(client, selected.runs)), selected

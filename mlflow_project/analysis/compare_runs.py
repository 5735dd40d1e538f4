"""Compare runs and registered models by their stored predictions. No model is run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlflow_project.analysis.run_selection import SelectedRuns, Selection, select_predictions
from mlflow_project.common.errors import RunError
from mlflow_project.tracking.delivery.client import connect as open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.comparison.compare import Comparison
    from hw2.comparison.model_predictions import ModelPredictions


def compare_runs(
    selection: Selection, client: "MlflowClient | None" = None
) -> "tuple[Comparison, SelectedRuns]":
    """Compare what is selected, two models at least.

    Raises:
        RunError: A run has no predictions, or there is a single model.
        ComparisonError: The models were tested on different images; it names both SHA-256.
    """
    selected, predictions = select_predictions(client or open_store(), selection)
    if len(selected.runs) < 2:
        only, notes = selected.runs[0], "".join(f" ({note})" for note in selected.notes)
        raise RunError(
            f"only one model, {only.name} (run {only.run_id}){notes}; a comparison takes two at least: name another"
        )
    return compare_predictions(predictions, selected), selected


def compare_predictions(predictions: "Sequence[ModelPredictions]", selected: SelectedRuns) -> "Comparison":
    """Compare the models of selected runs; of those that diverged, the seeds count as failed."""
    from hw2.comparison.compare import compare
    from hw2.comparison.model_predictions import FailedTraining

    return compare(predictions, [FailedTraining(run.name, run.parameters) for run in selected.failed])

"""Which earlier runs a sweep may reuse."""

from mlflow_project.sweeps.existing_runs import ExperimentIndex
from tests.support.stored import StoredRuns


def test_only_a_run_with_its_results_and_its_files_is_reused(store: str) -> None:
    stored = StoredRuns(store)
    complete = stored.training([1], identity="complete")
    without_files = stored.training(None, identity="without files")
    stored.training([1], identity="without results")
    for run_id in (complete, without_files):
        stored.client.log_metric(run_id, "test_accuracy", 0.9)
    runs = ExperimentIndex(stored.client).find(["complete", "without files", "without results"])
    assert {sha256: run.run_id for sha256, run in runs.items()} == {"complete": complete}

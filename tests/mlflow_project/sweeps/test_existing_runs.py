"""Which earlier runs a sweep may reuse."""

from mlflow_project.sweeps.existing_runs import ExperimentIndex
from tests.support.stored import Kept


def test_only_a_run_with_its_results_and_its_files_is_reused(store: str) -> None:
    kept = Kept(store)
    complete = kept.training([1], identity="complete")
    without_files = kept.training(None, identity="without files")
    kept.training([1], identity="without results")
    for run_id in (complete, without_files):
        kept.client.log_metric(run_id, "test_accuracy", 0.9)
    runs = ExperimentIndex(kept.client).find(["complete", "without files", "without results"])
    assert {sha256: run.run_id for sha256, run in runs.items()} == {"complete": complete}

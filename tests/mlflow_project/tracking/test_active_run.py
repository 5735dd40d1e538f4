"""A program of one's own logs with MLflow's verbs, and everything is in MLflow after it."""

from pathlib import Path

import pytest

from mlflow_project.tracking import start_run
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.entities import Metric


def test_what_is_logged_with_mlflows_verbs_is_in_mlflow(store: str, file: Path) -> None:
    with start_run("n", "experiment") as run:
        run.log_params({"lr": 0.1, "epochs": 2})
        for step, loss in enumerate((1.0, 0.5)):
            run.log_metrics({"loss": loss, "accuracy": 1 - loss}, step)
        run.set_tags({"purpose": "test"})
        run.log_artifact(file, "tables")
        run.log_artifact(str(file))
        run.log(Metric("other", 3.0))
        file.unlink()
    client = open_client(store)
    stored = client.get_run(run.name)
    assert (stored.info.run_name, stored.info.status) == ("n", "FINISHED")
    assert stored.data.params == {"lr": "0.1", "epochs": "2"}
    assert stored.data.metrics == {"loss": 0.5, "accuracy": 0.5, "other": 3.0}
    assert [point.value for point in client.get_metric_history(run.name, "loss")] == [1.0, 0.5]
    assert stored.data.tags["purpose"] == "test"
    root = Path(stored.info.artifact_uri)
    assert [path.read_text(encoding="utf-8") for path in (root / "tables" / file.name, root / file.name)] == [
        "a,b\n1,2\n"
    ] * 2


def test_work_that_fails_is_failed_in_mlflow_and_its_error_passes(store: str) -> None:
    with pytest.raises(ZeroDivisionError), start_run("n", "experiment") as run:
        run.log_metrics({"loss": 1 / 0})
    stored = open_client(store).get_run(run.name)
    assert (stored.info.status, stored.data.tags["reason"]) == ("FAILED", "division by zero")


def test_a_server_that_refuses_is_a_warning_and_everything_waits_for_sync(
    monkeypatch: pytest.MonkeyPatch, denying: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", denying)
    warnings: list[str] = []
    with start_run("n", "experiment", warnings.append) as run:
        run.log_metrics({"loss": 1.0})
        run._uploader.wait(60, lambda: bool(warnings))
    assert warnings == [f"nothing is uploaded: {denying}: " + warnings[0].split(": ", 2)[2]]
    assert "MLFLOW_TRACKING_PASSWORD" in warnings[0]
    (left,) = local_runs.undelivered()
    assert left.pending

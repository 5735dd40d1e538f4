"""What began without a server is found by the IDs that the program was given, before and after it is delivered."""

import mlflow
import pytest

from mlflow_project.common.errors import RunError
from mlflow_project.tracking.delivery.program_session import real_run_id
from mlflow_project.tracking.hub import lifecycle
from mlflow_project.tracking.journal import local_runs
from tests.mlflow_project.tracking.plugin.programs import log_model
from tests.support.durable import deliver_all, end_program, sync_to


def test_the_provisional_ids_lead_to_the_real_run_and_model(
    away: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_param("lr", 1)
        info = log_model()
    assert local_runs.find(run.info.run_id).header.provisional_id == run.info.run_id
    with pytest.raises(RunError):
        local_runs.find("0" * 32)
    end_program()
    sync_to(store)
    client = mlflow.MlflowClient(store, store)
    (found,) = client.search_runs(["0"])
    assert found.data.tags["durable.provisional_run_id"] == run.info.run_id
    assert real_run_id(client, run.info.run_id) == found.info.run_id
    # Another machine has the server's tags alone.
    monkeypatch.setenv("MLFLOW_PROJECT_STATE", "elsewhere")
    assert real_run_id(client, run.info.run_id) == found.info.run_id
    mlflow.set_tracking_uri(f"durable+{store}")
    assert mlflow.get_run(run.info.run_id).data.params == {"lr": "1"}
    assert mlflow.get_logged_model(info.model_id).source_run_id == found.info.run_id
    mlflow.MlflowClient().log_metric(run.info.run_id, "late", 1)
    deliver_all()
    assert client.get_run(found.info.run_id).data.metrics == {"late": 1}


def test_a_run_of_another_process_is_read_from_its_journal(away: str) -> None:
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_param("lr", 1)
        mlflow.log_metric("loss", 2)
    lifecycle.finish(0)
    # As the child of `mlflow run` does, whose parent has created the run.
    with mlflow.start_run(run_id=run.info.run_id):
        assert mlflow.get_run(run.info.run_id).data.params == {"lr": "1"}
        with pytest.raises(mlflow.MlflowException, match="Changing param values is not allowed"):
            mlflow.log_param("lr", 2)
        mlflow.log_metric("loss", 1, step=1)
    end_program()
    first, added = local_runs.local_runs()
    assert (first.state, added.state, added.header.adds_to) == ("finished", "finished", run.info.run_id)

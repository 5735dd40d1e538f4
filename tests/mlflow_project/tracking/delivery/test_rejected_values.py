"""What MLflow rejects is named, and the rest arrives."""

from typing import Any

import pytest

from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.delivery.uploader import JournalUploader
from mlflow_project.tracking.journal.entities import (
    DatasetInput,
    Metric,
    Param,
    RunEnded,
    Tag,
)
from mlflow_project.tracking.journal.writer import Journal


@pytest.mark.parametrize("text", ["0.1", "0.10", "1e-1", ".1"])
def test_a_parameter_that_mlflow_run_wrote_as_other_text_is_left_alone(store: str, text: str) -> None:
    client = open_client(store)
    run = client.create_run("0", tags={"mlflow.source.type": "PROJECT"})
    client.log_param(run.info.run_id, "lr", text)
    journal = Journal.create(store, "Default", "n", run.info.run_id, {"purpose": "test"})
    journal.append(Param("lr", "0.1"), Param("epochs", "8"), RunEnded())
    journal.close()
    delivery = deliver(journal.folder)
    assert (delivery.complete, delivery.refused) == (True, ())
    assert delivery.run_id == run.info.run_id
    data = client.get_run(run.info.run_id).data
    assert data.params == {"lr": text, "epochs": "8"}
    assert (data.tags["mlflow.source.type"], data.tags["purpose"]) == ("PROJECT", "test")


def test_a_parameter_of_another_value_is_named_and_the_rest_arrives(store: str) -> None:
    client = open_client(store)
    run = client.create_run("0")
    journal = Journal.create(store, "Default", "n", run.info.run_id)
    journal.append(Param("seed", "0"))
    assert deliver(journal.folder).complete
    client.log_param(run.info.run_id, "lr", "0.2")
    journal.append(Param("lr", "0.1"), Param("epochs", "8"), Metric("m", 1.0), RunEnded())
    journal.close()
    delivery = deliver(journal.folder)
    assert delivery.complete
    assert delivery.refused == ("parameter 'lr' is '0.2' in MLflow and can't become '0.1'",)
    assert client.get_run(run.info.run_id).data.params == {"seed": "0", "lr": "0.2", "epochs": "8"}
    assert client.get_run(run.info.run_id).data.metrics == {"m": 1.0}


def test_a_value_that_mlflow_refuses_is_found_in_its_batch_and_named(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    good = [Metric("m", i, i) for i in range(200)]
    journal.append(*good[:77], Metric("bad\nname", 1.0), *good[77:], Tag("t", "x"), RunEnded())
    journal.close()
    delivery = deliver(journal.folder)
    assert delivery.complete
    (refused,) = delivery.refused
    assert refused.startswith(r"Metric 'bad\nname' was rejected: ")
    assert "\n" not in refused
    client = open_client(store)
    steps = [m.step for m in client.get_metric_history(str(delivery.run_id), "m")]
    assert steps == list(range(200))


@pytest.mark.parametrize(("failures", "refused"), [(2, 0), (99, 1)])
def test_an_answer_that_may_be_a_race_is_tried_again_before_it_counts(
    store: str, failures: int, refused: int
) -> None:
    from mlflow.exceptions import MlflowException

    client = open_client(store)
    left = iter(range(failures))

    class Racing:
        def __getattr__(self, name: str) -> Any:
            if name == "log_inputs" and next(left, None) is not None:
                raise MlflowException("UNIQUE constraint failed: datasets", error_code=4)  # BAD_REQUEST
            return getattr(client, name)

    assert MlflowException("", error_code=4).error_code == "BAD_REQUEST"
    journal = Journal.create(store, "experiment", "n")
    journal.append(DatasetInput("mnist", "abc", "/data"), Metric("m", 1.0))
    deliverer = JournalUploader(journal.folder, lambda _: Racing())  # type: ignore[arg-type,return-value]
    for _ in range(20):
        try:
            while deliverer.step():
                pass
        except MlflowException:
            continue
    assert len(deliverer.session.cursor.refused) == refused
    run = client.get_run(str(deliverer.session.run_id))
    assert len(run.inputs.dataset_inputs) == 1 - refused
    assert run.data.metrics == {"m": 1.0}

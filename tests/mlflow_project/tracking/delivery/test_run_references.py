"""Runs that name each other by their journals name each other by their IDs in MLflow."""

import pytest


@pytest.mark.parametrize("text", ["{}", "lr=0.1 ({}), lr=0.2 (1f00)"])
def test_a_run_that_is_named_by_its_journal_is_named_by_its_id_in_mlflow(text: str, store: str) -> None:
    from mlflow import MlflowClient

    from mlflow_project.common.names import JOURNAL_REFERENCE
    from mlflow_project.tracking.delivery.background import deliver
    from mlflow_project.tracking.journal.entities import RunEnded, Tag
    from mlflow_project.tracking.journal.locks import FileLock
    from mlflow_project.tracking.journal.writer import Journal

    # Each names the other, as runs do that share a training.
    one, other = Journal.create(store, "grid", "one"), Journal.create(store, "grid", "other")
    for journal, named in ((one, other), (other, one)):
        journal.append(Tag("named", text.format(JOURNAL_REFERENCE + named.header.key)), RunEnded())
        journal.close()
    with FileLock(other.folder / "sending.lock"):
        early = deliver(one.folder)
    assert "isn't in MLflow yet" in (early.problem or "")
    deliveries = deliver(one.folder), deliver(other.folder)
    assert all(delivery.complete for delivery in deliveries)
    client = MlflowClient(store, registry_uri=store)
    ids = [str(delivery.run_id) for delivery in deliveries]
    for run_id, named_id in (ids, ids[::-1]):
        run = client.get_run(run_id)
        assert run.data.tags["named"] == text.format(named_id)
        assert run.info.status == "FINISHED"


def test_a_reference_to_no_journal_stays_as_it_is(store: str) -> None:
    from mlflow import MlflowClient

    from mlflow_project.tracking.delivery.background import deliver
    from mlflow_project.tracking.journal.entities import Tag
    from mlflow_project.tracking.journal.writer import Journal

    text = "journal:x and journal:20240101T000000-000-0123456789ab"
    journal = Journal.create(store, "grid", "one")
    journal.append(Tag("named", text))
    journal.close()
    run_id = str(deliver(journal.folder).run_id)
    assert MlflowClient(store, registry_uri=store).get_run(run_id).data.tags["named"] == text

"""A journal whose end is lost with the power is uploaded to the same run, each entity once."""

import os
from pathlib import Path

import pytest

from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.delivery.uploader import JournalUploader
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import (
    Metric,
    RunEnded,
    Tag,
)
from mlflow_project.tracking.journal.writer import Journal
from tests.support.synced import watch_syncs


def cut(folder: Path, size: int) -> None:
    """What a power loss leaves of a journal of which so many bytes were on the disk."""
    os.truncate(folder / format.JOURNAL, size)


def test_what_was_sent_survives_a_power_loss_and_is_not_said_again_with_another_time(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = watch_syncs(monkeypatch)
    journal = Journal.create(store, "experiment", "n")
    journal.append(*(Metric("m", step, step, timestamp_ms=step) for step in (1, 2)))
    deliverer = JournalUploader(journal.folder)
    while deliverer.step():
        pass
    durable = max(size for path, size in synced if path.name == format.JOURNAL)
    journal.close()
    cut(journal.folder, durable)
    again = Journal.open(journal.folder)
    again.append(*(Metric("m", step, step, timestamp_ms=10 + step) for step in (1, 2, 3)), RunEnded())
    again.close()
    delivery = deliver(journal.folder)
    assert delivery.complete
    history = open_client(store).get_metric_history(str(delivery.run_id), "m")
    assert [point.step for point in history] == [1, 2, 3]


def test_nothing_is_skipped_where_the_end_of_a_delivered_journal_is_lost(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    journal.append(Tag("first", "1"))
    size = journal.size
    journal.append(*(Tag(f"lost {n}", "x" * 500) for n in range(3)))
    journal.close()
    assert deliver(journal.folder).complete
    cut(journal.folder, size)
    again = Journal.open(journal.folder)
    again.append(*(Tag(f"new {n}", "y") for n in range(20)))
    again.close()
    delivery = deliver(journal.folder)
    assert (delivery.complete, delivery.refused) == (True, ())
    tags = open_client(store).get_run(str(delivery.run_id)).data.tags
    assert {f"new {n}" for n in range(20)} <= tags.keys()

"""Journals to write to, and what they say."""

from pathlib import Path
from typing import Any

from mlflow_project.tracking.delivery.background import BackgroundUploader
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import Entity, RunEnded
from mlflow_project.tracking.journal.format import CorruptSpan, Entry, Header
from mlflow_project.tracking.journal.writer import Journal


def create(**more: Any) -> Journal:
    return Journal.create("sqlite:///mlflow.db", "experiment", "lr=0.1 epochs=8", **more)


def values_of(folder: Path) -> list[Entity | Header]:
    items = list(format.read_entries(folder))
    assert not [item for item in items if isinstance(item, CorruptSpan)]
    return [item.value for item in items if isinstance(item, Entry)][1:]


def journal_end(journal: Journal) -> int:
    """When the run ended, by its journal."""
    (end,) = [value for value in values_of(journal.folder) if isinstance(value, RunEnded)]
    return end.timestamp_ms


def wait_for_run(uploader: BackgroundUploader, seconds: float) -> str | None:
    """The run's id in MLflow, or None if it has none after so long."""
    uploader.wait(seconds, lambda: uploader.journal.run_id is not None)
    return uploader.journal.run_id

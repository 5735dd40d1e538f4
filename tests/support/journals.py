"""Journals to write to, and what they say."""

from pathlib import Path
from typing import Any

from mlflow_project import journal_file
from mlflow_project.journal import Journal
from mlflow_project.journal_file import Damage, Entry, Header
from mlflow_project.values import RunEnd, Value


def create(**more: Any) -> Journal:
    return Journal.create("sqlite:///mlflow.db", "experiment", "lr=0.1 epochs=8", **more)


def values_of(folder: Path) -> list[Value | Header]:
    items = list(journal_file.read(folder))
    assert not [item for item in items if isinstance(item, Damage)]
    return [item.value for item in items if isinstance(item, Entry)][1:]


def journal_end(journal: Journal) -> int:
    """When the run ended, by its journal."""
    (end,) = [value for value in values_of(journal.folder) if isinstance(value, RunEnd)]
    return end.timestamp_ms

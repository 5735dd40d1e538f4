"""In a training's journal each step of a metric stands once."""

from typing import Any

import pytest

from mlflow_project.tracking.journal import writer
from mlflow_project.tracking.journal.entities import Metric
from mlflow_project.training.training_journal import TrainingJournal
from tests.support.disk import Disk
from tests.support.journals import values_of


def create(**more: Any) -> TrainingJournal:
    return TrainingJournal.create("sqlite:///mlflow.db", "experiment", "lr=0.1 epochs=8", **more)


def test_a_resumed_run_says_no_step_twice() -> None:
    journal = create()
    journal.append(*(Metric("batch_loss", i, i) for i in (50, 100, 150)), Metric("loss", 1.0, 1))
    journal.close()
    again = TrainingJournal.open(journal.folder)
    again.append(*(Metric("batch_loss", -i, i) for i in (100, 150, 200)), Metric("loss", 2.0, 2))
    points = [(v.key, v.step, v.value) for v in values_of(journal.folder) if isinstance(v, Metric)]
    assert points == [
        ("batch_loss", 50, 50), ("batch_loss", 100, 100), ("batch_loss", 150, 150), ("loss", 1, 1),
        ("batch_loss", 200, -200), ("loss", 2, 2),
    ]  # fmt: skip


def test_a_loss_is_said_when_it_happens_and_after_it_the_run_says_all_when_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problems: list[str] = []
    disk = Disk(monkeypatch)
    monkeypatch.setattr(writer, "MAX_BACKLOG", 10)
    journal = create(on_problem=problems.append)
    disk.room = 0
    journal.append(*(Metric("m", i, i) for i in range(12)))
    assert "2 values of the run are lost" in problems[-1]
    disk.room = 1 << 30
    journal.append(Metric("m", 12, 12), Metric("other", 0, 12))
    journal.close()
    assert "3 values of the run are lost" in problems[-1]
    again = TrainingJournal.open(journal.folder)
    again.append(*(Metric("m", i, i) for i in range(13)))
    assert [v.step for v in values_of(again.folder) if isinstance(v, Metric)] == [*range(10), 12, 10, 11, 12]

"""A disk that is full is said, loses nothing that memory can hold, and leaves no part that looks whole."""

import errno
import os
from pathlib import Path

import pytest

from mlflow_project.common.errors import JournalError
from mlflow_project.tracking.journal import format, writer
from mlflow_project.tracking.journal.entities import Artifact, Metric, RunEnded
from mlflow_project.tracking.journal.fsio import preallocate
from tests.support.disk import Disk
from tests.support.journals import create, journal_end, values_of
from tests.support.tiny import full


def test_a_full_disk_is_said_once_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    disk = Disk(monkeypatch)
    journal = create(on_problem=said.append)
    journal.append(Metric("m", 0, 0))
    disk.room = 100
    for i in range(1, 50):
        journal.append(Metric("m", i, i))
        assert not journal.sync()
        assert len(values_of(journal.folder)) == 1
    assert len(said) == 1
    assert "No space left" in said[0]
    assert "training goes on" in said[0]
    disk.room = 1 << 30
    journal.append(Metric("m", 50, 50))
    assert "again" in said[1]
    assert journal.sync()
    assert [v.step for v in values_of(journal.folder) if isinstance(v, Metric)] == list(range(51))


def test_values_appended_together_are_on_disk_together_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    journal = create()
    disk.room = 500
    journal.append(*(Metric("m", i, i) for i in range(5)))
    assert len((journal.folder / format.JOURNAL).read_bytes().splitlines()) == 1
    disk.room = 1 << 30
    journal.append(Metric("m", 5, 5))
    assert [v.step for v in values_of(journal.folder) if isinstance(v, Metric)] == list(range(6))


def test_what_neither_disk_nor_memory_take_is_counted_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    disk = Disk(monkeypatch)
    monkeypatch.setattr(writer, "MAX_BACKLOG", 10)
    journal = create(on_problem=said.append)
    disk.room = 0
    journal.append(*(Metric("m", i, i) for i in range(15)))
    disk.room = 1 << 30
    assert not journal.sync()
    assert journal.lost == 5
    assert "5 values were lost" in said[-1]
    assert len(values_of(journal.folder)) == 10


def test_a_healthy_disk_takes_more_at_once_than_the_memory_would(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(writer, "MAX_BACKLOG", 10)
    journal = create(on_problem=said.append)
    journal.append(*(Metric("m", i, i) for i in range(25)))
    assert (journal.sync(), journal.lost, said) == (True, 0, [])
    assert [v.step for v in values_of(journal.folder) if isinstance(v, Metric)] == list(range(25))


def test_the_end_of_a_run_does_not_wait_for_files_that_find_no_room(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    said: list[str] = []
    journal = create(on_problem=said.append)
    monkeypatch.setattr(writer.shutil, "copyfile", full)
    journal.append(Artifact("x.csv", file), Metric("m", 1.0), RunEnded("FAILED"))
    assert values_of(journal.folder)[1:] == [RunEnded("FAILED", journal_end(journal))]
    assert "1 values wait" in said[0]
    journal.close()
    assert "1 values of the run are lost" in said[1]


def test_room_for_the_last_words_is_the_journals_before_the_disk_is_full() -> None:
    journal = create()
    path = journal.folder / format.JOURNAL
    with path.open("ab") as stream:
        if not preallocate(stream.fileno(), 0, 1):
            return  # a file system that reserves nothing
    for step in range(2000):
        journal.append(Metric("m", step, step))
        assert path.stat().st_blocks * 512 >= path.stat().st_size + writer.PREALLOCATED // 2
    size = path.stat().st_size
    journal.close()
    assert path.stat().st_size == size
    assert path.stat().st_blocks * 512 < size + writer.PREALLOCATED // 2


def test_a_full_disk_while_a_file_is_copied_leaves_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said: list[str] = []
    journal = create(on_problem=said.append)
    with monkeypatch.context() as patch:
        patch.setattr(writer.shutil, "copyfile", full)
        journal.append(Artifact("x.csv", file), Metric("m", 1.0, timestamp_ms=1))
        assert values_of(journal.folder) == [Metric("m", 1.0, timestamp_ms=1)]
    assert len(said) == 1
    assert journal.sync()
    _, artifact = values_of(journal.folder)
    assert isinstance(artifact, Artifact)
    assert artifact.file.read_bytes() == file.read_bytes()
    assert not list(journal.folder.glob(".copy*"))


def test_a_journal_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "runs").write_text("no folder", encoding="utf-8")
    with pytest.raises(JournalError, match="MLFLOW_PROJECT_STATE"):
        create()

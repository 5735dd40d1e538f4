"""What is appended can be read back, whatever happens to the disk; nothing else is ever read."""

import json
import math
import os
from pathlib import Path

import pytest

from mlflow_project.common.errors import JournalError, RunBusyError
from mlflow_project.common.store_uri import absolute_uri
from mlflow_project.tracking.journal import format, local_runs, locks
from mlflow_project.tracking.journal import writer as journal_module
from mlflow_project.tracking.journal.entities import (
    Artifact,
    DatasetInput,
    Entity,
    LoggedImage,
    Metric,
    ModelArtifact,
    Param,
    RunEnded,
    RunResumed,
    Tag,
)
from mlflow_project.tracking.journal.format import CorruptSpan, Cursor, Entry
from mlflow_project.tracking.journal.locks import FileLock, is_locked
from mlflow_project.tracking.journal.writer import Journal
from tests.support.journals import create, values_of
from tests.support.synced import watch_syncs


def test_every_kind_of_value_is_read_back_as_it_was_appended(file: Path, model: Path) -> None:
    journal = create()
    said: list[Entity] = [
        Param("lr", "0.1"),
        Metric("train_loss", 0.25, 1),
        Tag("status", "started"),
        DatasetInput("mnist", "abc", "a folder", profile='{"n": 60000}', tags={"split": "train"}),
        RunEnded("KILLED"),
        RunResumed(),
        RunEnded(),
    ]
    journal.append(*said)
    journal.append(
        Artifact("tables/x.csv", file),
        ModelArtifact("model", model, "reg", version_tags={"lr": "0.1"}, aliases=("m1",)),
    )
    image = LoggedImage("confusion_matrix", 8, file)
    journal.append(image)
    *plain, artifact, kept_model, kept_image, tag = values_of(journal.folder)
    assert plain == said
    assert isinstance(artifact, Artifact)
    assert artifact.path == "tables/x.csv"
    assert artifact.file.read_bytes() == file.read_bytes()
    assert isinstance(kept_model, ModelArtifact)
    assert (kept_model.aliases, kept_model.version_tags) == (("m1",), {"lr": "0.1"})
    assert (kept_model.directory / "data" / "model.pt2").read_bytes() == b"weights"
    assert isinstance(kept_image, LoggedImage)
    assert kept_image.path == image.path
    assert tag == Tag("mlflow.loggedImages", "True")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e-320, 0.1, 1 / 3])
def test_a_number_comes_back_to_the_last_bit(value: float) -> None:
    journal = create()
    journal.append(Metric("m", value))
    (read,) = values_of(journal.folder)
    assert isinstance(read, Metric)
    assert read.value.hex() == value.hex()


def test_files_are_kept_as_they_were_when_they_were_appended(file: Path) -> None:
    journal = create()
    journal.append(Artifact("x.csv", file))
    before = file.read_bytes()
    file.write_text("changed", encoding="utf-8")
    journal.append(Artifact("x.csv", file))
    file.unlink()
    first, second = values_of(journal.folder)
    assert isinstance(first, Artifact)
    assert isinstance(second, Artifact)
    assert (first.file.read_bytes(), second.file.read_bytes()) == (before, b"changed")


def test_equal_files_of_a_program_are_copied_each_since_each_is_removed_when_it_is_uploaded(
    file: Path,
) -> None:
    for origin, copies in (("run", 1), ("program", 2)):
        journal = Journal.create("http://127.0.0.1:9", "e", "r", origin=origin)
        journal.append(Artifact("a/x.csv", file), Artifact("x.csv", file))
        journal.sync()
        kept = {value.file for value in values_of(journal.folder) if isinstance(value, Artifact)}
        assert len(kept) == copies
        assert {path.read_bytes() for path in kept} == {file.read_bytes()}
        journal.close()


def test_a_torn_last_line_is_dropped_and_cut_off_when_the_run_goes_on() -> None:
    journal = create()
    journal.append(Metric("m", 1.0, 1), Metric("m", 2.0, 2))
    journal.close()
    path = journal.folder / format.JOURNAL
    whole = path.read_bytes()
    last = len(whole) - whole[:-1].rfind(b"\n") - 1
    for cut in range(1, last + 1):
        path.write_bytes(whole[:-cut])
        assert [value.value for value in values_of(journal.folder)] == [1.0]  # type: ignore[union-attr]
    path.write_bytes(whole[:-7])
    again = Journal.open(journal.folder)
    assert not again.corrupt_spans
    again.append(Metric("m", 2.5, 2))
    assert [value.value for value in values_of(journal.folder)] == [1.0, 2.5]  # type: ignore[union-attr]


def test_damage_is_reported_with_its_position_and_the_rest_is_read() -> None:
    journal = create()
    journal.append(*(Metric("m", i, i) for i in range(5)))
    journal.close()
    path = journal.folder / format.JOURNAL
    content = bytearray(path.read_bytes())
    line = [item for item in format.read_entries(journal.folder) if isinstance(item, Entry)][3]
    content[line.position + 100] ^= 1
    path.write_bytes(content)
    items = list(format.read_entries(journal.folder))
    (damage,) = [item for item in items if isinstance(item, CorruptSpan)]
    assert (damage.position, damage.end) == (line.position, line.end)
    assert "SHA-256" in str(damage)
    assert f"{line.position:,}" in str(damage)
    read = [item.value.step for item in items if isinstance(item, Entry) and isinstance(item.value, Metric)]
    assert read == [0, 1, 3, 4]
    again = Journal.open(journal.folder)
    assert again.corrupt_spans == [damage]
    again.append(Metric("m", 5.0, 5))
    steps = [item.value.step for item in format.read_entries(journal.folder) if isinstance(item, Entry)
             and isinstance(item.value, Metric)]  # fmt: skip
    assert steps == [0, 1, 3, 4, 5]


def test_a_missing_line_is_noticed() -> None:
    journal = create()
    journal.append(*(Metric("m", i, i) for i in range(4)))
    path = journal.folder / format.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[4:]))
    (damage,) = [item for item in format.read_entries(journal.folder) if isinstance(item, CorruptSpan)]
    assert "values 2 to 3 are missing" in str(damage)


def test_the_header_has_a_copy_and_without_both_the_journal_is_refused() -> None:
    journal = create(tags={"a": "b"})
    path = journal.folder / format.JOURNAL
    content = path.read_bytes()
    path.write_bytes(b"?" + content[1:])
    assert format.read_header(journal.folder) == journal.header
    (journal.folder / format.HEADER).write_bytes(b"")
    with pytest.raises(JournalError, match="says which run this is"):
        format.read_header(journal.folder)


def test_only_one_process_owns_a_run() -> None:
    journal = create()
    with pytest.raises(RunBusyError, match="another process"):
        Journal.open(journal.folder)
    assert local_runs.local_run(journal.folder).state == "alive"
    journal.close()
    assert local_runs.local_run(journal.folder).state == "interrupted"
    Journal.open(journal.folder).close()


def test_who_only_looks_whether_a_run_is_alive_keeps_nobody_from_going_on_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = create()
    journal.close()
    looking = FileLock(journal.folder / format.LOCK)
    assert looking.acquire(shared=True)
    assert not is_locked(looking.path)
    monkeypatch.setattr(locks.time, "sleep", lambda _: looking.release())
    Journal.open(journal.folder).close()


def test_a_step_comes_in_any_order_and_more_than_once() -> None:
    journal = create()
    journal.append(Metric("loss", 1.0, 5), Metric("loss", 2.0, 3), Metric("loss", 3.0, 5))
    assert [(v.step, v.value) for v in values_of(journal.folder) if isinstance(v, Metric)] == [
        (5, 1),
        (3, 2),
        (5, 3),
    ]


def test_a_file_that_is_not_there_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"is missing"):
        create().append(Artifact("x.csv", tmp_path / "none"))


def test_a_value_too_long_for_a_line_is_refused() -> None:
    journal = create()
    with pytest.raises(JournalError, match="too long"):
        journal.append(Tag("t", "x" * format.MAX_LINE))
    journal.append(Tag("t", "short"))
    assert values_of(journal.folder) == [Tag("t", "short")]


def test_an_image_said_again_after_a_resume_replaces_the_first(file: Path) -> None:
    journal = create()
    first = LoggedImage("confusion_matrix", 8, file)
    journal.append(first)
    journal.close()
    again = Journal.open(journal.folder)
    again.append(LoggedImage("confusion_matrix", 8, file), LoggedImage("confusion_matrix", 9, file))
    images = [value.path for value in values_of(journal.folder) if isinstance(value, LoggedImage)]
    assert images[:2] == [first.path] * 2
    assert images[2] != first.path


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x"])
def test_an_artifacts_path_stays_below_the_run(path: str) -> None:
    with pytest.raises(ValueError, match="below the run"):
        Artifact(path, Path("x"))


def test_an_interrupt_between_writing_and_knowing_it_repeats_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = create()
    write = os.write

    def interrupted(descriptor: int, content: bytes) -> int:
        write(descriptor, content)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append(Metric("m", 1.0, 1))
    journal.append(Metric("m", 2.0, 2))
    assert [v.step for v in values_of(journal.folder) if isinstance(v, Metric)] == [1, 2]
    assert len((journal.folder / format.JOURNAL).read_bytes().splitlines()) == 3


def test_a_kept_file_that_a_power_loss_has_torn_is_kept_again(file: Path, model: Path) -> None:
    journal = create()
    said: list[Entity] = [Artifact("x.csv", file), ModelArtifact("model", model)]
    journal.append(*said)
    artifact, kept = values_of(journal.folder)
    assert isinstance(artifact, Artifact)
    assert isinstance(kept, ModelArtifact)
    artifact.file.write_bytes(b"")
    (kept.directory / "data" / "model.pt2").write_bytes(b"")
    journal.append(*said)
    assert artifact.file.read_bytes() == file.read_bytes()
    assert (kept.directory / "data" / "model.pt2").read_bytes() == b"weights"


def test_a_run_that_has_begun_is_found_after_a_power_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    synced = watch_syncs(monkeypatch)
    journal = create()
    contents = {path: size for path, size in synced if path.is_relative_to(journal.folder)}
    names = {path.name.removeprefix(".").removesuffix(f".{os.getpid()}") for path in contents}
    assert names == {journal.folder.name, format.JOURNAL, format.HEADER}
    assert 0 not in contents.values()
    assert (journal.folder.parent, 0) in [(path, 0) for path, _ in synced]


def test_store_addresses_do_not_depend_on_the_current_folder(tmp_path: Path) -> None:
    assert absolute_uri("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    assert absolute_uri(f"sqlite:///{tmp_path}/a.db") == f"sqlite:///{tmp_path}/a.db"
    assert absolute_uri("http://localhost:5000") == "http://localhost:5000"
    assert absolute_uri("./mlruns") == f"{tmp_path}/mlruns"


def test_a_run_is_found_by_its_key_and_by_its_id() -> None:
    journal = create(run_id="0123")
    assert local_runs.find("0123").folder == journal.folder
    assert local_runs.find(journal.header.key).run_id == "0123"
    assert [run.key for run in local_runs.local_runs()] == [journal.header.key]
    assert local_runs.undelivered() == []  # it is alive and delivers itself
    journal.append(Metric("m", 1.0))
    journal.close()
    (run,) = local_runs.undelivered()
    assert (run.pending, run.state) == (1, "interrupted")
    local_runs.delete_run(run.folder)
    assert list(local_runs.local_runs()) == []


def test_a_cursor_that_makes_no_sense_starts_again() -> None:
    journal = create()
    Cursor(position=journal.size, delivered=3, run_id="a").save(journal.folder)
    assert Cursor.load(journal.folder).run_id == "a"
    for content in (
        b"",
        b"{",
        b"[]",
        b'{"position": 1e9}',
        b'{"position": 99999999}',
        b'{"position": 10}',
        b'{"what": 1}',
        b"\xff",
    ):
        (journal.folder / format.CURSOR).write_bytes(content)
        assert Cursor.load(journal.folder) == Cursor()


def test_lines_are_plain_json_that_anybody_can_read() -> None:
    journal = create()
    journal.append(Tag("who", "Zoë"))
    line = (journal.folder / format.JOURNAL).read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(line)["entry"] == {"n": 1, "kind": "tag", "data": {"key": "who", "value": "Zoë"}}

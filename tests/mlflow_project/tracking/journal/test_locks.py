"""Where the file system has no `flock`, one process at a time owns a run all the same, and its death frees it."""

import errno
import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlflow_project.common.errors import RunBusyError
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.journal import format, local_runs, owner_file
from mlflow_project.tracking.journal.entities import Metric, RunEnded
from mlflow_project.tracking.journal.locks import FileLock, is_locked
from mlflow_project.tracking.journal.writer import Journal
from tests.support.journals import create

HOLDER = """
import fcntl, os, sys, time
def flock(*_):
    raise OSError({number}, os.strerror({number}))
fcntl.flock = flock
from mlflow_project.tracking.journal.entities import Metric
from mlflow_project.tracking.journal.writer import Journal
journal = Journal.create(sys.argv[1], "experiment", "n")
journal.append(Metric("m", 1.0))
journal.sync()
print(journal.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def number(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The error of `flock` from now on."""
    number: int = getattr(errno, request.param)

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(FileLock, "_has_warned", False)
    return number


def test_a_run_of_another_process_is_busy_until_that_dies(
    number: int, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    command = [sys.executable, "-c", HOLDER.format(number=number), store]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as holder:
        assert holder.stdout is not None
        folder = Path(holder.stdout.readline().strip())
        assert local_runs.local_run(folder).state == "alive"
        with pytest.raises(RunBusyError):
            Journal.open(folder)
        holder.kill()
        holder.wait(60)
        assert holder.stderr is not None
        assert holder.stderr.read().count("has no flock") == 1
    assert local_runs.local_run(folder).state == "interrupted"
    journal = Journal.open(folder)
    journal.append(RunEnded())
    assert is_locked(folder / format.LOCK)
    journal.close()
    assert not is_locked(folder / format.LOCK)
    assert deliver(folder).complete
    assert not list(folder.glob("*.owner*"))
    (record,) = caplog.records
    assert (record.levelno, str(folder) in record.getMessage()) == (logging.WARNING, True)


@pytest.mark.usefixtures("number")
def test_one_lock_excludes_another_of_the_same_process(tmp_path: Path) -> None:
    for path in (tmp_path / "lock", tmp_path):
        first, second = FileLock(path), FileLock(path)
        assert first.acquire()
        assert not second.acquire()
        assert is_locked(path)
        assert not second.acquire()
        first.release()
        with second:
            assert not first.acquire()


@pytest.mark.usefixtures("number")
def test_an_owner_on_another_host_is_known_by_its_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock.owner"
    path.write_text(json.dumps({"host": "elsewhere", "pid": os.getpid(), "started": "1"}), encoding="utf-8")
    lock = FileLock(tmp_path / "lock")
    assert not lock.acquire()
    old = time.time() - owner_file.STALE_AFTER_SECONDS - 1
    os.utime(path, (old, old))
    monkeypatch.setattr(owner_file, "HEARTBEAT_SECONDS", 0.01)
    assert lock.acquire()
    os.utime(path, (old, old))
    while path.stat().st_mtime == old:
        time.sleep(0.01)
    lock.release()
    assert not path.exists()


@pytest.mark.usefixtures("number")
def test_another_process_of_the_same_number_owns_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock.owner"
    path.write_text(
        json.dumps({"host": os.uname().nodename, "pid": os.getpid(), "started": "long ago"}), encoding="utf-8"
    )
    assert FileLock(tmp_path / "lock").acquire()


@pytest.mark.usefixtures("number")
def test_a_journal_is_written_as_anywhere_else() -> None:
    journal = create()
    journal.append(Metric("m", 1.0))
    assert journal.sync()
    journal.close()

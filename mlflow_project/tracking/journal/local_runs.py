"""The runs whose journals lie on this machine, and the state of each.

One folder a run: `runs/<key>/` in the state folder. The key is not a run ID, because a run may start while no server
can give it one.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow_project.common.errors import JournalError, RunBusyError, RunError
from mlflow_project.common.names import CHECKPOINT
from mlflow_project.tracking.journal import format, fsio
from mlflow_project.tracking.journal.format import CorruptSpan, Cursor, Header
from mlflow_project.tracking.journal.locks import FileLock, is_locked
from mlflow_project.tracking.journal.state_dir import runs_folder
from mlflow_project.tracking.journal.store_record import StoreRecord

RUN_SPEC_FILE = "plan.json"
_STOPPED = "stopped"
"""A file: the run has FINISHED before its last epoch or its test, and can go on."""
_DISK_FULL = "disk_full"
"""An empty file, for which a full disk has room: the run failed because not all of it could be saved."""


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """One run's folder. `state`: `alive`, `interrupted`, or how it ended: `finished`, `stopped`, `failed`, `killed`."""

    folder: Path
    header: Header
    run_id: str | None
    state: str
    pending: int
    """Entities that MLflow hasn't got yet."""
    problems: tuple[str, ...]
    """Rejected entities and corrupt spans, a line each."""
    disk_full: bool = False
    """Whether it failed because the disk was full, and waits to be resumed."""
    blocked: str = ""
    """Why nothing more can be uploaded before a person decides where to; it names the commands."""

    @property
    def key(self) -> str:
        return self.header.key

    @property
    def is_resumable(self) -> bool:
        """Return whether it has stored what it trains, by which a training is resumed."""
        return (self.folder / RUN_SPEC_FILE).exists()

    @property
    def is_stopped(self) -> bool:
        """Whether a training was stopped by a signal, and can go on from its checkpoint."""
        return self.state == "killed" and self.is_resumable and (self.folder / CHECKPOINT).exists()

    @property
    def never_started(self) -> bool:
        """Return whether a training died before it started: it isn't in MLflow and can't be resumed."""
        return self.state == "interrupted" and "fingerprint" in self.header.tags and not self.is_resumable


def local_run(folder: Path) -> LocalRun:
    """Read the state of one run's folder.

    Raises:
        JournalError: The folder doesn't tell which run it is.
    """
    header = format.read_header(folder)
    cursor = Cursor.load(folder)
    ended, pending, corrupt = cursor.ended, 0, []
    if (folder / format.JOURNAL).stat().st_size > cursor.position:
        for item in format.read_entries(folder, cursor.position):
            if isinstance(item, CorruptSpan):
                corrupt.append(str(item))
                continue
            pending += not isinstance(item.value, Header)
            ended = format.status_after(item.value, ended)
    state = "alive" if is_locked(folder / format.LOCK) else (ended or "interrupted").lower()
    if state == "finished" and is_marked_stopped(folder):
        state = "stopped"
    run_id = cursor.run_id or header.run_id
    return LocalRun(
        folder=folder,
        header=header,
        run_id=run_id,
        state=state,
        pending=pending,
        problems=(*cursor.refused, *corrupt),
        disk_full=state == "failed" and (folder / _DISK_FULL).exists(),
        blocked=StoreRecord.load(folder).problem,
    )


def folders(base: Path | None = None) -> list[Path]:
    """List the folders of all local runs, or of those in `base`, oldest first."""
    return sorted(path.parent for path in (base or runs_folder()).glob(f"*/{format.JOURNAL}"))


def local_runs(base: Path | None = None, *, all_: bool = True) -> Iterator[LocalRun]:
    """Yield local runs, oldest first, but for unreadable folders.

    Args:
        base: The folder of all runs.
        all_: Whether runs are included that ended and were uploaded without a problem.
                A training that was stopped and can be resumed hasn't ended in this sense.
    """
    for folder in folders(base):
        try:
            if all_ or not _is_done(folder):
                yield local_run(folder)
        except (JournalError, OSError):
            continue


def undelivered(base: Path | None = None) -> list[LocalRun]:
    """List the runs that MLflow hasn't got all of and whose process has ended; not those that never started."""
    runs = local_runs(base, all_=False)
    return [run for run in runs if run.state != "alive" and run.pending and not run.never_started]


def unreadable(base: Path | None = None) -> Iterator[tuple[Path, str]]:
    """Yield folders that don't tell which run they are, with the reason."""
    for folder in folders(base):
        try:
            format.read_header(folder)
        except JournalError as error:
            yield folder, str(error)


def find(name: str) -> LocalRun:
    """Find the local run with this run ID or key.

    Raises:
        RunError: There is none.
    """
    for folder in folders():
        try:
            # The cursor is the quicker to read, and there may be thousands.
            if name in (folder.name, Cursor.load(folder).run_id or format.read_header(folder).run_id):
                return local_run(folder)
        except JournalError:
            continue
    raise RunError(f"there is no run {name} in {runs_folder()}; `status` lists those that are there")


def prune_spool(folder: Path) -> None:
    """Remove the spooled files of a run that has ended and is uploaded; the caller must hold the run's lock."""
    files = folder / format.FILES
    if _is_delivered(folder, Cursor.load(folder)):
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir(exist_ok=True)


def _is_done(folder: Path) -> bool:
    cursor = Cursor.load(folder)
    stopped = (
        cursor.ended == "KILLED" and (folder / CHECKPOINT).exists() and (folder / RUN_SPEC_FILE).exists()
    )
    waits = stopped or (cursor.ended == "FAILED" and (folder / _DISK_FULL).exists())
    return _is_delivered(folder, cursor) and not cursor.refused and not waits


def _is_delivered(folder: Path, cursor: Cursor) -> bool:
    return bool(cursor.ended) and cursor.position == (folder / format.JOURNAL).stat().st_size


def mark_disk_full(folder: Path) -> None:
    """Note that the run fails because the disk doesn't take all of it. Best effort."""
    with suppress(OSError):
        (folder / _DISK_FULL).touch()


def mark_stopped(folder: Path) -> None:
    """Note that the run ends now and can go on later.

    Raises:
        OSError: The disk doesn't take it.
    """
    fsio.replace(folder / _STOPPED, b"", durable=True)


def unmark_stopped(folder: Path) -> None:
    """Note that the run goes on."""
    (folder / _STOPPED).unlink(missing_ok=True)


def is_marked_stopped(folder: Path) -> bool:
    """Return whether a run that has FINISHED can go on."""
    return (folder / _STOPPED).exists()


def delete_run(folder: Path) -> None:
    """Remove a run's folder, with its checkpoint.

    Raises:
        RunBusyError: The run's process is alive.
    """
    lock = FileLock(folder / format.LOCK)
    if not lock.acquire():
        raise RunBusyError(f"the run in {folder} is running; end it first")
    try:
        shutil.rmtree(folder)
    finally:
        lock.release()


def count_resume(folder: Path) -> int:
    """Count one more resumption of the run in `folder` and return how many there were.

    Raises:
        OSError: The disk doesn't take it.
    """
    path = folder / "resumed"
    try:
        times = 1 + int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        times = 1
    fsio.replace(path, str(times).encode(), durable=True)
    return times


def last_time_ms(folder: Path) -> int:
    """Return when the run last wrote into its journal, which is the best guess of when a killed run ended."""
    return int((folder / format.JOURNAL).stat().st_mtime * 1000)

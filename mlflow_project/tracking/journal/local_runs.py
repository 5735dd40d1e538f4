"""The runs that this person's programs keep on this machine, and how each of them is.

One folder a run: `runs/<key>/` in the state folder. The key is not a run id, because a run may begin while no server
can give it one.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow_project.common.errors import JournalError, RunBusyError, RunError
from mlflow_project.tracking.journal import format, fsio
from mlflow_project.tracking.journal.entities import RunEnded, RunResumed
from mlflow_project.tracking.journal.format import CorruptSpan, Cursor, Header
from mlflow_project.tracking.journal.locks import FileLock, is_locked
from mlflow_project.tracking.journal.state_dir import runs_folder
from mlflow_project.tracking.journal.store_record import StoreRecord

RUN_SPEC_FILE = "plan.json"
_UNKEPT = "unkept"
"""An empty file, for which a full disk has room: the run failed because not all of it could be kept."""


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """One run's folder. `state` is `alive`, `interrupted`, or how the run ended: `finished failed killed`."""

    folder: Path
    header: Header
    run_id: str | None
    state: str
    pending: int
    """Values that MLflow hasn't got yet."""
    problems: tuple[str, ...]
    """Refused values and damages, a line each."""
    unkept: bool = False
    """Whether it failed because the disk was full, and waits to be resumed."""
    blocked: str = ""
    """Why nothing more can be delivered before a person decides where to; it says by which commands."""

    @property
    def key(self) -> str:
        return self.header.key

    @property
    def is_resumable(self) -> bool:
        """Whether it has said what it trains; only a training does, and goes on by that."""
        return (self.folder / RUN_SPEC_FILE).exists()

    @property
    def is_stillborn(self) -> bool:
        """Whether a training died before it had begun: nobody has heard of it, and nothing can go on with it."""
        return self.state == "interrupted" and "fingerprint" in self.header.tags and not self.is_resumable


def local_run(folder: Path) -> LocalRun:
    """What is known about one run's folder; JournalError if it can't be told which run that is."""
    header = format.read_header(folder)
    cursor = Cursor.load(folder)
    ended, pending, damages = cursor.ended, 0, []
    if (folder / format.JOURNAL).stat().st_size > cursor.position:
        for item in format.read_spec(folder, cursor.position):
            if isinstance(item, CorruptSpan):
                damages.append(str(item))
                continue
            pending += not isinstance(item.value, Header)
            if isinstance(item.value, RunEnded):
                ended = item.value.status
            elif isinstance(item.value, RunResumed):
                ended = None
    state = "alive" if is_locked(folder / format.LOCK) else (ended or "interrupted").lower()
    run_id = cursor.run_id or header.run_id
    return LocalRun(
        folder=folder,
        header=header,
        run_id=run_id,
        state=state,
        pending=pending,
        problems=(*cursor.refused, *damages),
        unkept=state == "failed" and (folder / _UNKEPT).exists(),
        blocked=StoreRecord.load(folder).problem,
    )


def folders(base: Path | None = None) -> list[Path]:
    """The folders of all local runs, or of those in `base`, oldest first."""
    return sorted(path.parent for path in (base or runs_folder()).glob(f"*/{format.JOURNAL}"))


def local_runs(base: Path | None = None, *, all_: bool = True) -> Iterator[LocalRun]:
    """Local runs, oldest first; without `all_` not those that ended and are delivered without any problem.

    A folder that nobody can read any more is left out.
    """
    for folder in folders(base):
        try:
            if all_ or not _is_done(folder):
                yield local_run(folder)
        except (JournalError, OSError):
            continue


def undelivered(base: Path | None = None) -> list[LocalRun]:
    """Runs with values that MLflow hasn't got, and whose process is no more; but for those that never began."""
    runs = local_runs(base, all_=False)
    return [run for run in runs if run.state != "alive" and run.pending and not run.is_stillborn]


def damaged(base: Path | None = None) -> Iterator[tuple[Path, str]]:
    """Folders of which nobody can tell any more which run they are, with the reason."""
    for folder in folders(base):
        try:
            format.read_header(folder)
        except JournalError as error:
            yield folder, str(error)


def find(name: str) -> LocalRun:
    """The local run with this run id or key; RunError if there is none."""
    for folder in folders():
        try:
            # The cursor is the quicker to read, and there may be thousands.
            if name in (folder.name, Cursor.load(folder).run_id or format.read_header(folder).run_id):
                return local_run(folder)
        except JournalError:
            continue
    raise RunError(f"no run {name} is kept in {runs_folder()}; `status` lists those that are")


def prune_spool(folder: Path) -> None:
    """Remove what was kept for a run that has ended and is delivered. Only for who holds the run's lock."""
    kept = folder / format.FILES
    if _is_delivered(folder, Cursor.load(folder)):
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(exist_ok=True)


def _is_done(folder: Path) -> bool:
    cursor = Cursor.load(folder)
    unkept = cursor.ended == "FAILED" and (folder / _UNKEPT).exists()
    return _is_delivered(folder, cursor) and not cursor.refused and not unkept


def _is_delivered(folder: Path, cursor: Cursor) -> bool:
    return bool(cursor.ended) and cursor.position == (folder / format.JOURNAL).stat().st_size


def mark_unkept(folder: Path) -> None:
    """Note that the run fails because the disk doesn't take all of it. Best effort."""
    with suppress(OSError):
        (folder / _UNKEPT).touch()


def delete_run(folder: Path) -> None:
    """Remove a run's folder, checkpoint and all; RunBusyError while its process lives."""
    lock = FileLock(folder / format.LOCK)
    if not lock.acquire():
        raise RunBusyError(f"the run in {folder} is alive; end it first")
    try:
        shutil.rmtree(folder)
    finally:
        lock.release()


def count_resume(folder: Path) -> int:
    """Count one more resumption of the run in `folder`, and return how many there were. OSError for a full disk."""
    path = folder / "resumed"
    try:
        times = 1 + int(path.read_text())
    except (OSError, ValueError):
        times = 1
    fsio.replace(path, str(times).encode(), durable=True)
    return times


def last_time_ms(folder: Path) -> int:
    """When the run last wrote into its journal: the best that is known of when a killed run ended."""
    return int((folder / format.JOURNAL).stat().st_mtime * 1000)

"""The journal of a run: every entity is on disk before anything is sent, and appending never waits for the network.

A disk that fails or is full doesn't stop the training. It is reported once, through `on_problem`; the entities wait
in memory, bounded, and are written as soon as the disk takes them.
"""

import getpass
import os
import shutil
import socket
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from mlflow_project.common.errors import JournalError, RunBusyError
from mlflow_project.common.names import IMAGES_TAG
from mlflow_project.common.store_uri import absolute_uri
from mlflow_project.tracking.journal import format, fsio
from mlflow_project.tracking.journal.entities import (
    Entity,
    LoggedImage,
    Metric,
    Tag,
    now_ms,
)
from mlflow_project.tracking.journal.format import CorruptSpan, Header
from mlflow_project.tracking.journal.local_runs import prune_spool
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.spool import FileSpool, is_missing, source_of
from mlflow_project.tracking.journal.state_dir import runs_folder

PREALLOCATED = 1 << 16
"""Bytes of disk that a journal holds in reserve: some 300 entities."""

MAX_BACKLOG = 20_000
"""Entities that wait in memory while the disk refuses them; the newest beyond that are lost, counted and reported."""


class Journal:
    """The journal of one run, owned by this process while it is open."""

    def __init__(
        self, folder: Path, header: Header, lock: FileLock, on_problem: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.header = header
        self.run_id = header.run_id
        """None while the run is provisional; the uploader fills it in."""
        self.problem: str | None = None
        """Why the last append isn't on disk, or None."""
        self.lost = 0
        """Entities that neither the disk nor the memory could take."""
        self.corrupt_spans: list[CorruptSpan] = []
        self.ended: str | None = None
        self.changed = threading.Event()
        """Set by every append; the uploader waits for it."""
        self._on_problem = on_problem
        self._lock = lock
        self._guard = threading.RLock()
        self._backlog: deque[Entity | Header] = deque()
        self._images: dict[tuple[str, int], LoggedImage] = {}
        self._cause = ""
        self._lost_reported = 0
        self._files = FileSpool(folder, shares_copies=not header.is_program)
        self._next = 0
        self._end = 0
        self._reserved = 0
        self._descriptor = os.open(
            folder / format.JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )

    @classmethod
    def create(
        cls,
        tracking_uri: str,
        experiment: str,
        run_name: str,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        experiment_tags: Mapping[str, str] | None = None,
        start_time_ms: int | None = None,
        key: str | None = None,
        experiment_id: str | None = None,
        origin: str = "run",
        provisional_id: str | None = None,
        adds_to: str | None = None,
        experiment_location: str | None = None,
        on_problem: Callable[[str], None] | None = None,
    ) -> Self:
        """Create a journal that this process owns.

        Args:
            tracking_uri: The store; a relative path is resolved against the current folder, also for later uploads.
            experiment: The experiment's name.
            run_name: The run's name.
            run_id: An existing run; without it the uploader creates one as soon as the server answers.
            tags: Tags of a run that is created.
            experiment_tags: Written on the experiment where it has none of that key.
            start_time_ms: When the run started, now by default.
            key: From `new_key`, which makes one by default.
            experiment_id: Of an experiment that was named by its ID.
            origin, provisional_id, adds_to, experiment_location: See `Header`.
            on_problem: Called with one line when the disk fails, and when it recovers.

        Raises:
            JournalError: The disk doesn't take it.
        """
        start = now_ms() if start_time_ms is None else start_time_ms
        key = key or new_key(start)
        folder = runs_folder() / key
        header = Header(
            key=key,
            tracking_uri=absolute_uri(tracking_uri),
            experiment=experiment,
            run_name=run_name,
            run_id=run_id,
            start_time_ms=start,
            tags={**(_origin() if origin == "run" else {}), **(tags or {})},
            artifact_root=str(Path.cwd() / "mlruns"),
            host=socket.gethostname(),
            experiment_tags=dict(experiment_tags or {}),
            experiment_id=experiment_id,
            origin=origin,
            provisional_id=provisional_id,
            adds_to=adds_to,
            experiment_location=experiment_location,
        )
        try:
            (folder / format.FILES).mkdir(parents=True, mode=0o700)
            lock = FileLock(folder / format.LOCK)
            lock.acquire()
            journal = cls(folder, header, lock, on_problem or _ignore)
            journal._write([header])
            journal.sync()
            fsio.replace(folder / format.HEADER, format.encode_line(0, header), durable=True)
            fsio.sync_path(folder.parent)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise JournalError(
                f"the journal can't be written in {folder}: {error.strerror}; "
                "free disk space, or set MLFLOW_PROJECT_STATE to a folder that can be written"
            ) from error
        return journal

    @classmethod
    def open(cls, folder: Path, *, on_problem: Callable[[str], None] | None = None) -> Self:
        """Open the journal of a run that is resumed; what a dying process left of a last line is cut off.

        Raises:
            RunBusyError: Another process owns the run.
            JournalError: The journal can't be read.
        """
        header = format.read_header(folder)
        lock = FileLock(folder / format.LOCK)
        if not lock.acquire_patiently():
            raise RunBusyError(
                f"run {header.run_id or header.key} is owned by another process; wait for it or end it first"
            )
        try:
            journal = cls(folder, header, lock, on_problem or _ignore)
            journal._recover()
        except OSError as error:
            lock.release()
            raise JournalError(f"the journal in {folder} can't be opened: {error.strerror}") from error
        return journal

    @property
    def count(self) -> int:
        """Return the number of entities on disk, without the header."""
        return self._next - 1

    @property
    def size(self) -> int:
        """Return the bytes of complete lines."""
        return self._end

    def append(self, *entities: Entity) -> None:
        """Write entities in this order, in one piece; their files are copied before this returns.

        An error of the disk is never raised: it becomes the `problem`.

        Raises:
            JournalError: A file is missing, or an entity is too long for a line.
        """
        for entity in entities:
            if is_missing(entity):
                raise JournalError(f"a file of {entity} is missing, so it can't be logged")
            if not isinstance(entity, Metric):
                format.encode_line(self._next, entity)  # too long? then raise before anything is written
        with self._guard:
            full = False
            for entity in entities:
                if len(self._backlog) >= MAX_BACKLOG and not full:
                    self._flush()
                    full = len(self._backlog) >= MAX_BACKLOG
                if not self._admit(entity, full):
                    continue
                if isinstance(entity, LoggedImage):
                    # Logged again after a resume, it must replace the first and not stand beside it.
                    first = self._images.setdefault((entity.key, entity.step), entity)
                    entity = replace(entity, timestamp_ms=first.timestamp_ms, uuid=first.uuid)
                self._backlog.append(entity)
                if isinstance(entity, LoggedImage):
                    self._backlog.append(Tag(IMAGES_TAG, "True"))
            self._flush()
            if self.lost and not self._lost_reported:
                self._report_lost(f"{MAX_BACKLOG:,} values wait in memory, which takes no more")
        self.changed.set()

    def _admit(self, entity: Entity, full: bool) -> bool:
        """Return whether an entity is written; count it as lost where there is no room for it."""
        if full:
            self.lost += 1
        return not full

    def _recall(self, entity: Entity | Header) -> None:
        """Take note of an entity that was written before the journal was opened again."""
        self.ended = format.status_after(entity, self.ended)
        if isinstance(entity, LoggedImage):
            self._images[entity.key, entity.step] = entity

    def sync(self) -> bool:
        """Force what was appended onto the disk; return whether all of it is there now."""
        with self._guard:
            self._flush()
            try:
                self._files.sync()
                os.fsync(self._descriptor)
            except OSError as error:
                self._cause = f"the journal in {self.folder} can't be synced ({error.strerror})"
                self._report(self._cause)
                return False
            return not self._backlog and not self.lost

    def flush_or_raise(self) -> None:
        """Force what was appended onto the disk.

        Raises:
            JournalError: Not all of it is there; what waits in memory is dropped.
        """
        if self.sync():
            return
        with self._guard:
            count = len(self._backlog) + self.lost
            cause, self.problem = self._cause, None
            self._backlog.clear()
        values = "1 value of the run isn't" if count == 1 else f"{count:,} values of the run aren't"
        raise JournalError(f"{values} saved, because {cause}: free disk space there")

    def warn(self, message: str) -> None:
        """Pass a line to `on_problem`."""
        self._on_problem(message)

    def close(self) -> None:
        """Sync and release the run; spooled files are removed if MLflow has them all."""
        self.sync()
        with self._guard:
            if self._descriptor >= 0:
                self.lost += len(self._backlog)
                if self.lost > self._lost_reported:
                    self._report_lost("free disk space there before the next run")
                os.ftruncate(self._descriptor, self._end)
                os.close(self._descriptor)
                self._descriptor = -1
                prune_spool(self.folder)
        self._lock.release()

    def abandon(self) -> None:
        """Close the files without writing, in a forked process: the journal is its parent's."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock.release()

    def _flush(self) -> None:
        if not self._backlog or self._descriptor < 0:
            return
        waiting = [entity for entity in self._backlog if not is_missing(entity)]
        self.lost += len(self._backlog) - len(waiting)
        error = self._try(waiting)
        if error is None:
            waiting = []
        else:
            # What needs no file must not wait for files, which need more space: the run's end above all.
            plain = [entity for entity in waiting if source_of(entity) is None]
            if 0 < len(plain) < len(waiting) and self._try(plain) is None:
                waiting = [entity for entity in waiting if source_of(entity) is not None]
        self._backlog = deque(waiting)
        if error is not None:
            self._cause = f"the journal in {self.folder} can't be written ({error.strerror})"
            self._report(
                f"{self._cause}; training goes on, {len(waiting):,} values wait in memory: free disk space there"
            )
        elif self.problem is not None:
            self.problem = None
            losses = f"; {self.lost:,} values were lost" if self.lost else ""
            self._lost_reported = self.lost
            self._on_problem(f"the journal in {self.folder} can be written again{losses}")

    def _try(self, entities: list[Entity | Header]) -> OSError | None:
        try:
            self._write(entities)
        except OSError as error:
            return error
        return None

    def _write(self, entities: list[Entity | Header]) -> None:
        """Write all entities or, if a write fails, none of them: a line is never left in part."""
        lines = []
        for n, entity in enumerate(entities, self._next):
            place = None if isinstance(entity, Header) else self._files.add(entity, n)
            lines.append(format.encode_line(n, entity, place))
        content = b"".join(lines)
        # An interrupt between a write and the lines after it leaves more on disk than is known here.
        if os.fstat(self._descriptor).st_size != self._end:
            os.ftruncate(self._descriptor, self._end)
            self._reserved = self._end
        self._reserve(len(content))
        try:
            written = 0
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            self._reserved = self._end
            self._reserve(0)
            raise
        self._end += len(content)
        self._next += len(entities)
        for entity in entities:
            self.ended = format.status_after(entity, self.ended)

    def _reserve(self, needed: int) -> None:
        """Preallocate what is needed and some more, for what is to be written on a full disk."""
        goal = self._end + needed + PREALLOCATED
        if self._reserved < goal - PREALLOCATED // 2 and fsio.preallocate(
            self._descriptor, self._end, goal - self._end
        ):
            self._reserved = goal

    def _recover(self) -> None:
        end = 0
        last = -1
        for item in format.read_entries(self.folder):
            end = item.end
            if isinstance(item, CorruptSpan):
                self.corrupt_spans.append(item)
                continue
            last = item.n
            self._recall(item.value)
        if os.fstat(self._descriptor).st_size != end:
            os.ftruncate(self._descriptor, end)
        self._end = self._reserved = end
        self._next = max(last + 1, 1)
        cursor = format.Cursor.load(self.folder)
        self.run_id = cursor.run_id or self.header.run_id
        if cursor == format.Cursor():
            # One that doesn't fit this journal might seem to fit it when it has grown.
            (self.folder / format.CURSOR).unlink(missing_ok=True)

    def _report_lost(self, further: str) -> None:
        self._lost_reported = self.lost
        self._on_problem(
            f"{self.lost:,} values of the run are lost, because the journal in {self.folder} can't be written: "
            f"{further}"
        )

    def _report(self, problem: str) -> None:
        first = self.problem is None
        self.problem = problem
        if first:
            self._on_problem(problem)


def new_key(start_time_ms: int | None = None) -> str:
    """Return the key of a journal that begins; keys sort by time."""
    start = now_ms() if start_time_ms is None else start_time_ms
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(start / 1000))
    return f"{moment}-{start % 1000:03}-{uuid.uuid4().hex[:12]}"


def _origin() -> dict[str, str]:
    """Return the tags by which MLflow shows who started what."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return {"mlflow.user": user, "mlflow.source.name": sys.argv[0] or "python", "mlflow.source.type": "LOCAL"}


def _ignore(problem: str) -> None:
    """Do nothing: a caller that doesn't listen reads `Journal.problem`."""

"""Every value of a run on disk, before anything is sent. Appending never waits for the network.

A disk that fails or is full doesn't stop the training: it is said at once, once, through `on_problem`; the
values wait in memory, bounded, and are written as soon as the disk takes them.
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

from mlflow_project.common.errors import JournalError, RunBusyError
from mlflow_project.common.names import IMAGES_TAG
from mlflow_project.common.store_uri import absolute_uri
from mlflow_project.tracking.journal import format, fsio
from mlflow_project.tracking.journal.entities import (
    Entity,
    LoggedImage,
    Metric,
    RunEnded,
    RunResumed,
    Tag,
    now_ms,
)
from mlflow_project.tracking.journal.format import CorruptSpan, Header
from mlflow_project.tracking.journal.fsio import reserve
from mlflow_project.tracking.journal.local_runs import prune_spool
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.spool import FileSpool, is_missing, source_of
from mlflow_project.tracking.journal.state_dir import runs_folder

PREALLOCATED = 1 << 16
"""Bytes of the disk that are the journal's before it needs them: some 300 values."""

MAX_BACKLOG = 20_000
"""Values kept in memory while the disk refuses; the newest beyond that are lost, counted and said."""


class Journal:
    """The journal of one run, owned by this process while it is open (`RunBusyError` if another owns it)."""

    def __init__(
        self, folder: Path, header: Header, lock: FileLock, on_problem: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.header = header
        self.run_id = header.run_id
        """None while the run is provisional; the sender fills it in."""
        self.problem: str | None = None
        """Why the last append isn't on disk, or None."""
        self.lost = 0
        """Values that neither the disk nor the memory could take."""
        self.damages: list[CorruptSpan] = []
        self.ended: str | None = None
        self.changed = threading.Event()
        """Set by every append; the sender waits for it."""
        self._on_problem = on_problem
        self._lock = lock
        self._guard = threading.RLock()
        self._backlog: deque[Entity | Header] = deque()
        self._last_step: dict[str, int] = {}
        self._images: dict[tuple[str, int], LoggedImage] = {}
        self._gaps: set[str] = set()
        self._cause = ""
        self._lost_said = 0
        self._files = FileSpool(folder)
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
        experiment_description: str = "",
        start_time_ms: int | None = None,
        key: str | None = None,
        experiment_id: str | None = None,
        on_problem: Callable[[str], None] | None = None,
    ) -> "Journal":
        """A new journal, owned by this process. JournalError if the disk doesn't take it.

        Without `run_id` the sender makes the run, with `tags`, as soon as the server answers. A relative
        `sqlite:///` or file address is taken from the current folder, now and for later deliveries.
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
            tags={**_origin(), **(tags or {})},
            artifact_root=str(Path.cwd() / "mlruns"),
            host=socket.gethostname(),
            experiment_description=experiment_description,
            experiment_id=experiment_id,
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
    def open(cls, folder: Path, *, on_problem: Callable[[str], None] | None = None) -> "Journal":
        """The journal of a run that goes on. What a dying process left of a last line is cut off."""
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
        """Values on disk, the header not counted."""
        return self._next - 1

    @property
    def size(self) -> int:
        """Bytes of complete lines."""
        return self._end

    def last_step(self, key: str) -> int | None:
        """The last step that was said of a metric, before or after a resume."""
        return self._last_step.get(key)

    def append(self, *values: Entity) -> None:
        """Write the values in this order, in one piece. Files are copied before this returns.

        JournalError for a file that isn't there or a value too long for a line; never an error of the disk,
        for which there is `problem`.
        """
        for value in values:
            if is_missing(value):
                raise JournalError(f"a file of {value} isn't there, so it can't be kept")
            if not isinstance(value, Metric):
                format.encode_line(self._next, value)  # too long? then say so before anything is written
        with self._guard:
            refused = False
            for value in values:
                if len(self._backlog) >= MAX_BACKLOG and not refused:
                    self._flush()
                    refused = len(self._backlog) >= MAX_BACKLOG
                if isinstance(value, Metric):
                    last = self._last_step.get(value.key)
                    if last is not None and value.step <= last:
                        continue
                    # After a lost point no later one: a resumed run then says all of them, in order.
                    if refused or value.key in self._gaps:
                        self._gaps.add(value.key)
                        self.lost += 1
                        continue
                    self._last_step[value.key] = value.step
                elif refused:
                    self.lost += 1
                    continue
                if isinstance(value, LoggedImage):
                    # Said again after a resume, it must replace the first and not stand beside it.
                    first = self._images.setdefault((value.key, value.step), value)
                    value = replace(value, timestamp_ms=first.timestamp_ms, uuid=first.uuid)
                self._backlog.append(value)
                if isinstance(value, LoggedImage):
                    self._backlog.append(Tag(IMAGES_TAG, "True"))
            self._flush()
            if self.lost and not self._lost_said:
                self._say_lost(f"{MAX_BACKLOG:,} values wait in memory, which takes no more")
        self.changed.set()

    def sync(self) -> bool:
        """Force what was appended onto the disk. Whether all of it is there now."""
        with self._guard:
            self._flush()
            try:
                self._files.sync()
                os.fsync(self._descriptor)
            except OSError as error:
                self._cause = f"the journal in {self.folder} can't be synced ({error.strerror})"
                self._say(self._cause)
                return False
            return not self._backlog and not self.lost

    def settle(self) -> None:
        """`sync`, and JournalError if not all of it is on disk; what waits is then given up, for nobody keeps it."""
        if self.sync():
            return
        with self._guard:
            count = len(self._backlog) + self.lost
            cause, self.problem = self._cause, None
            self._backlog.clear()
        raise JournalError(f"{count:,} values of the run aren't kept, because {cause}: free disk space there")

    def close(self) -> None:
        """Sync, and give the run to whoever wants it next. Kept files go if MLflow has them all."""
        self.sync()
        with self._guard:
            if self._descriptor >= 0:
                self.lost += len(self._backlog)
                if self.lost > self._lost_said:
                    self._say_lost("free disk space there before the next run")
                os.ftruncate(self._descriptor, self._end)
                os.close(self._descriptor)
                self._descriptor = -1
                prune_spool(self.folder)
        self._lock.release()

    def _flush(self) -> None:
        if not self._backlog or self._descriptor < 0:
            return
        waiting = [value for value in self._backlog if not is_missing(value)]
        self.lost += len(self._backlog) - len(waiting)
        error = self._try(waiting)
        if error is None:
            waiting = []
        else:
            # What the run says must not wait for its files, which need more room: its end above all.
            plain = [value for value in waiting if source_of(value) is None]
            if 0 < len(plain) < len(waiting) and self._try(plain) is None:
                waiting = [value for value in waiting if source_of(value) is not None]
        self._backlog = deque(waiting)
        if error is not None:
            self._cause = f"the journal in {self.folder} can't be written ({error.strerror})"
            self._say(
                f"{self._cause}; training goes on, {len(waiting):,} values wait in memory: free disk space there"
            )
        elif self.problem is not None:
            self.problem = None
            told = f"; {self.lost:,} values were lost" if self.lost else ""
            self._lost_said = self.lost
            self._on_problem(f"the journal in {self.folder} can be written again{told}")

    def _try(self, values: list[Entity | Header]) -> OSError | None:
        try:
            self._write(values)
        except OSError as error:
            return error
        return None

    def _write(self, values: list[Entity | Header]) -> None:
        """All values or, if a write fails, none of them: a line is never left in part."""
        lines = []
        for n, value in enumerate(values, self._next):
            kept = None if isinstance(value, Header) else self._files.keep(value)
            lines.append(format.encode_line(n, value, kept))
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
        self._next += len(values)
        for value in values:
            if isinstance(value, RunEnded):
                self.ended = value.status
            elif isinstance(value, RunResumed):
                self.ended = None

    def _reserve(self, needed: int) -> None:
        """So much room and some more that nobody else can take, for what is to be said on a full disk."""
        wanted = self._end + needed + PREALLOCATED
        if self._reserved < wanted - PREALLOCATED // 2 and reserve(
            self._descriptor, self._end, wanted - self._end
        ):
            self._reserved = wanted

    def _recover(self) -> None:
        end = 0
        last = -1
        for item in format.read_spec(self.folder):
            end = item.end
            if isinstance(item, CorruptSpan):
                self.damages.append(item)
                continue
            last = item.n
            if isinstance(item.value, Metric):
                key = item.value.key
                self._last_step[key] = max(item.value.step, self._last_step.get(key, item.value.step))
            elif isinstance(item.value, LoggedImage):
                self._images[item.value.key, item.value.step] = item.value
            elif isinstance(item.value, RunEnded):
                self.ended = item.value.status
            elif isinstance(item.value, RunResumed):
                self.ended = None
        if os.fstat(self._descriptor).st_size != end:
            os.ftruncate(self._descriptor, end)
        self._end = self._reserved = end
        self._next = max(last + 1, 1)
        cursor = format.Cursor.load(self.folder)
        self.run_id = cursor.run_id or self.header.run_id
        if cursor == format.Cursor():
            # One that doesn't fit this journal might seem to fit it when it has grown.
            (self.folder / format.CURSOR).unlink(missing_ok=True)

    def _say_lost(self, further: str) -> None:
        self._lost_said = self.lost
        self._on_problem(
            f"{self.lost:,} values of the run are lost, because the journal in {self.folder} can't be written: "
            f"{further}"
        )

    def _say(self, problem: str) -> None:
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
    """The tags by which MLflow shows who started what."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return {"mlflow.user": user, "mlflow.source.name": sys.argv[0] or "python", "mlflow.source.type": "LOCAL"}


def _ignore(problem: str) -> None:
    """A caller that doesn't listen finds it in `Journal.problem`."""

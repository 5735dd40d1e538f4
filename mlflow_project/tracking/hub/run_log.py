"""One journal of this process: that of a run, of an addition to one, or of what belongs to no run."""

import json
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.tracking.delivery.program_uploader import ProgramUploader
from mlflow_project.tracking.hub.uploaded_copies import UploadedCopies
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import Call, Entity, RunResumed
from mlflow_project.tracking.journal.format import Cursor
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.programs.record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

LONG_ARGUMENTS = 200_000
"""Characters; longer arguments of a call become a file beside the journal."""


class RunLog:
    """A journal, what it says so far, and its uploader."""

    def __init__(
        self,
        folder: Path,
        journal: Journal | None,
        record: RunRecord,
        connect: "Callable[[str], MlflowClient]",
    ) -> None:
        self.folder = folder
        self.header = format.read_header(folder)
        self.record = record
        self.guard = threading.RLock()
        self.problem: Exception | None = None
        """Why the last attempt to upload this journal failed, where that isn't the server's matter."""
        self.failures = 0
        """How often in a row it failed."""
        self.retry_at = 0.0
        self.next_heartbeat = 0.0
        self.synced = -1
        self.copies = UploadedCopies()
        self._owns_state = self.header.origin == "program"
        self._connect = connect
        self._journal: Journal | None = journal
        self._size = (folder / format.JOURNAL).stat().st_size if journal is None else journal.size
        self._uploader: ProgramUploader | None = None
        self._released_at = 0
        self._sending = FileLock(self.folder / format.SENDING_LOCK)

    @classmethod
    def reopen(cls, folder: Path, connect: "Callable[[str], MlflowClient]") -> "RunLog":
        """Return the log of a journal that this process has closed; what is appended opens it again."""
        cursor = Cursor.load(folder)
        log = cls(folder, None, RunRecord.load(folder, cursor.experiment_id or ""), connect)
        log.acquire_sending()
        return log

    @property
    def journal(self) -> Journal | None:
        """Return the open journal, None once it is closed."""
        return self._journal

    @property
    def is_open_run(self) -> bool:
        """Return whether this process must end the run: it has begun or resumed it, and not ended it."""
        return self._owns_state and self.record.status == "RUNNING"

    @property
    def uploader(self) -> ProgramUploader:
        with self.guard:
            if self._uploader is None:
                self._uploader = ProgramUploader(
                    self.folder, self._connect, may_create_store=True, on_uploaded=self.copies.add
                )
            return self._uploader

    @property
    def size(self) -> int:
        return self._journal.size if self._journal is not None else self._size

    @property
    def run_id(self) -> str | None:
        """Return the run's ID in MLflow, None while it has none."""
        return self._uploader.session.cursor.run_id if self._uploader is not None else None

    def real_id(self, model: str) -> str | None:
        """Return the ID in MLflow of a model, by its provisional one."""
        return self._uploader.session.cursor.models.get(model) if self._uploader is not None else None

    @property
    def values_position(self) -> int:
        return self._uploader.session.cursor.position if self._uploader is not None else self._released_at

    @property
    def files_position(self) -> int:
        return (
            self._uploader.session.cursor.files_position if self._uploader is not None else self._released_at
        )

    @property
    def position(self) -> int:
        """Return up to where everything is uploaded."""
        if self._uploader is None:
            return self._released_at
        return self._uploader.session.cursor.upto(self.header)

    @property
    def is_delivered(self) -> bool:
        journal = self._journal
        waits = journal is not None and journal.problem is not None
        return not waits and self.position >= self.size

    def append(self, *entities: Entity) -> int:
        """Append to the journal, which is opened again if it was closed; return where that begins."""
        with self.guard:
            journal = self._open()
            start = journal.size
            journal.append(*entities)
            for entity in entities:
                self.record.apply(entity)
                self._owns_state = self._owns_state or isinstance(entity, RunResumed)
            return start

    def call(self, method: str, arguments: Mapping[str, Any], *, watch: bool = False) -> int:
        """Append a call; `watch` keeps what becomes of it for `outcome`."""
        text = json.dumps(arguments)
        if len(text) <= LONG_ARGUMENTS:
            return self._call(Call(method, arguments), watch)
        with tempfile.TemporaryDirectory(prefix=".call-", dir=self.folder) as name:
            file = Path(name) / "arguments.json"
            file.write_text(text, encoding="utf-8")
            start = self._call(Call(method, {}, file), watch)
        self.record.apply(Call(method, arguments))
        return start

    def _call(self, call: Call, watch: bool) -> int:
        with self.guard:
            if watch:
                self.uploader.outcomes[self._open().size] = None
            return self.append(call)

    def outcome(self, position: int) -> Any:
        """Return what became of a watched call: a result, an error, or None while it isn't made."""
        return self.uploader.outcomes.get(position)

    def unwatch(self, position: int) -> None:
        with self.uploader.guard:
            outcome = self.uploader.outcomes.pop(position, None)
        del outcome

    def acquire_sending(self) -> bool:
        """Return whether this process uploads the journal, and no `sync` does."""
        return self._sending.acquire()

    def _open(self) -> Journal:
        if self._journal is None:
            self._journal = Journal.open(self.folder)
        return self._journal

    def sync(self) -> None:
        """Force onto the disk what was appended since the last time."""
        with self.guard:
            journal = self._journal
            if journal is not None and (journal.size != self.synced or journal.problem):
                self.synced = journal.size
                journal.sync()

    def close(self) -> None:
        """Release the run; what isn't uploaded stays on disk."""
        with self.guard:
            if self._journal is not None:
                self._journal.sync()
                self._size = self._journal.size
                self._journal.close()
                self._journal = None

    def release(self) -> None:
        """Let another process upload the journal; forget what was read of it."""
        with self.guard:
            self._released_at = self.position
            self._uploader = None
            self.copies.clear()
            self._sending.release()

    def abandon(self) -> None:
        """Close what a forked process has inherited, without a word on disk: it is the parent's."""
        with suppress(OSError):
            if self._journal is not None:
                self._journal.abandon()
            self._sending.release()

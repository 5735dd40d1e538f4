"""Uploads the journal of a program that logs through MLflow itself: its calls, provisional IDs replaced, in two lanes.

Values and calls don't wait for files; a file waits for the values before it, and a barrier, such as the run's end, for
the files before it.
"""

import json
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import DeliveryError, StoreError
from mlflow_project.tracking.delivery.client import import_mlflow, open_client, open_repository, real_stores
from mlflow_project.tracking.delivery.error_policy import (
    describe_error,
    is_missing_endpoint,
    is_missing_source,
    is_permanent,
)
from mlflow_project.tracking.delivery.program_session import ProgramSession
from mlflow_project.tracking.delivery.session import parent_folder
from mlflow_project.tracking.delivery.uploader import BATCH_LIMITS, BATCH_SIZE, JournalUploader
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import END_STATES, Artifact, Call, Metric, RunEnded, RunResumed
from mlflow_project.tracking.journal.format import CorruptSpan, Cursor, Entry, Header
from mlflow_project.tracking.journal.spool import file_sha256
from mlflow_project.tracking.programs.calls import BARRIERS, Target, make_call
from mlflow_project.tracking.programs.ids import replace_ids
from mlflow_project.tracking.programs.live_tags import LIVE_TAGS
from mlflow_project.tracking.programs.passing import delivering

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_CARD = "MLmodel"

_FINAL_CODES = (
    "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "NOT_FOUND", "NOT_IMPLEMENTED",
    "FEATURE_DISABLED",
)  # fmt: skip


class ProgramUploader(JournalUploader):
    """Uploads one program's journal; one thread may send its values and another its files."""

    session: ProgramSession

    def __init__(
        self,
        folder: Path,
        connect: "Callable[[str], MlflowClient]" = open_client,
        *,
        may_create_store: bool = False,
        on_uploaded: "Callable[[Artifact], None] | None" = None,
    ) -> None:
        """`on_uploaded` decides on the copy of a file that is uploaded, which otherwise goes at once."""
        super().__init__(folder, connect, may_create_store=may_create_store)
        self._on_uploaded = on_uploaded or remove_copy
        self.session = ProgramSession(folder, connect, may_create_store=may_create_store)
        self.guard = threading.RLock()
        self.outcomes: dict[int, Any] = {}
        """What became of the calls at these places in the journal: None before, then the result or the error."""
        self._repeated: int | None = None
        self._repositories: dict[str, Any] = {}
        header, cursor = self.session.header, self.session.cursor
        if not header.owns_run and cursor.position == 0 and cursor.ended is None:
            cursor.ended = "FINISHED"  # what adds to a run leaves it as it is

    def step(self) -> bool:
        """Upload the next batch, call or file; return False if there is nothing more, or nothing that can go."""
        return self.step_values() or self.step_files()

    def step_values(self) -> bool:
        """Upload the next batch or call; return False if there is none, or a barrier waits for files."""
        with self.guard, delivering():
            return super().step()

    def step_files(self) -> bool:
        """Upload the next file whose values before it are uploaded; return False if there is none."""
        cursor = self.session.cursor
        with self.guard:
            end = cursor.position
            entry = next(format.read_artifacts(self.session.folder, cursor.files_position, end), None)
            if entry is None:
                if cursor.files_position != end:
                    cursor.files_position = end
                    self.session.save()
                return False
        file = entry.value
        assert isinstance(file, Artifact)
        try:
            with delivering():
                self._upload(file)
        except Exception as error:
            if not is_permanent(error):
                raise
            self._reject(f"Artifact {file.path!r} was rejected: {describe_error(error, '')}")
        with self.guard:
            cursor.files_position = entry.end
            cursor.delivered += 1
            self.session.save()
        self._on_uploaded(file)
        return True

    def _next(self) -> list[Entry | CorruptSpan]:
        batch: list[Entry | CorruptSpan] = []
        capacity: dict[type[Any], int] = dict(BATCH_LIMITS) | {Metric: BATCH_SIZE}
        durable = self._durable_size()
        for item in format.read_entries(self.session.folder, self.session.cursor.position):
            if item.end > durable:
                break
            if isinstance(item, Entry) and not isinstance(item.value, Header | Artifact):
                kind: Any = type(item.value)
                if kind not in capacity:
                    return batch or ([] if self._must_wait(item) else [item])
                if capacity[kind] == 0 or len(batch) >= BATCH_SIZE:
                    return batch
                capacity[kind] -= 1
            batch.append(item)
        return batch

    def _must_wait(self, item: Entry) -> bool:
        """Return whether files must arrive before a barrier."""
        value = item.value
        if not isinstance(value, RunEnded) and not (isinstance(value, Call) and value.method in BARRIERS):
            return False
        files = format.read_artifacts(self.session.folder, self.session.cursor.files_position, item.position)
        return next(files, None) is not None

    def _deliver(self, entries: list[Entry]) -> None:
        if len(entries) != 1 or not isinstance(entries[0].value, Call):
            super()._deliver(entries)
            return
        position, call = entries[0].position, entries[0].value
        try:
            result = self._make(call, position)
        except Exception as error:
            self._repeated = position
            final = getattr(error, "error_code", None) in _FINAL_CODES or is_missing_endpoint(error)
            if not (final or is_permanent(error) or is_missing_source(error)):
                raise
            if position in self.outcomes:
                self.outcomes[position] = error
            else:
                self._reject_call(call, error)
        else:
            if position in self.outcomes:
                self.outcomes[position] = result

    def _reject_call(self, call: Call, error: Exception) -> None:
        # Begun without a server, a program couldn't know.
        if call.method == "create_registered_model" and "ALREADY_EXISTS" in str(
            getattr(error, "error_code", "")
        ):
            return
        self._reject(f"{call.method} was rejected: {describe_error(error, '')}")

    def _make(self, call: Call, position: int) -> Any:
        arguments = dict(call.arguments)
        if call.file is not None:
            arguments |= json.loads(call.file.read_bytes())
        for key, place in (arguments.pop("after", None) or {}).items():
            self._require_uploaded(key, place)
        own = {name: arguments.pop(name) for name in ("id",) if name in arguments}
        arguments = self.session.translate(arguments)
        session, cursor = self.session, self.session.cursor
        tracking, registry = real_stores(session.client)
        # Only what was saved before the first attempt tells a later process that there may have been one.
        repeated = self._repeated == position or "began" in cursor.parts
        if own:
            session.once("began", lambda: "1")
        target = Target(
            mlflow=import_mlflow(),
            tracking=tracking,
            registry=registry,
            run_id=session.open_run(),
            key=session.header.key,
            models=cursor.models,
            versions=cursor.versions,
            repeated=repeated,
        )
        with session.store_of_models():
            return make_call(target, call.method, {**own, **arguments})

    def _require_uploaded(self, key: str, place: int) -> None:
        folder = self.session.folder.parent / key
        if not (folder / format.JOURNAL).exists():
            return  # forgotten here, by a person
        cursor = Cursor.load(folder)
        if min(cursor.position, cursor.files_position) < place:
            raise StoreError(f"what journal {key} logged before it isn't in MLflow yet")

    def _send(self, values: list[Any]) -> None:
        if len(values) == 1 and isinstance(values[0], RunResumed):
            run_id = self.session.open_run()
            if not self._has_later_end(self._tracking.get_run(run_id).info, values[0].timestamp_ms):
                self._tracking.update_run_info(run_id, self._status("RUNNING"), None, None)
                self.session.cursor.ended = None
            return
        super()._send([value for value in values if not isinstance(value, Artifact)])

    def _send_end(self, end: RunEnded) -> None:
        session, cursor = self.session, self.session.cursor
        run_id = session.open_run()
        if cursor.doubtful:
            session.once("runs", lambda: session.remote.delete_duplicate_runs(session.experiment_id, run_id))
        run = self._tracking.get_run(run_id)
        for tag in LIVE_TAGS:
            if tag in run.data.tags:
                self._tracking.delete_tag(run_id, tag)
        if not self._has_later_end(run.info, end.timestamp_ms):
            self._tracking.update_run_info(run_id, self._status(end.status), end.timestamp_ms, None)
        cursor.ended = end.status
        # Copies that a process which was killed had kept for its reads.
        for entry in format.read_artifacts(session.folder, 0, cursor.files_position):
            if isinstance(entry.value, Artifact):
                remove_copy(entry.value)

    def _has_later_end(self, info: Any, moment_ms: int) -> bool:
        """Return whether another journal of the run has brought an end after this moment: the last end counts.

        Which of several journals is uploaded first says nothing of who came first.
        """
        is_own = self.session.header.owns_run and self.session.cursor.ended is not None
        return not is_own and info.status in END_STATES and (info.end_time or 0) > moment_ms

    def _resolve_references(self, text: str) -> str:
        return str(replace_ids(text, self.session.resolve))

    def _known_params(self) -> dict[str, str]:
        if self._params is None and self.session.has_created_run:
            self._params = {}
        return super()._known_params()

    @property
    def _tracking(self) -> Any:
        return real_stores(self.session.client)[0]

    def _status(self, status: str) -> Any:
        return import_mlflow().entities.RunStatus.from_string(status)

    def _upload(self, artifact: Artifact) -> None:
        """Send a file into the real repository of its run or model."""
        file = artifact.file
        if not file.is_file():
            raise DeliveryError("the spooled file is gone")
        if file_sha256(file) != file.parent.name.partition(".")[0]:
            raise DeliveryError("the spooled file isn't what was journaled any more")
        owner = self.session.resolve_id(artifact.model_id) if artifact.model_id else self.session.open_run()
        repository = self._repository(owner, is_model=artifact.model_id is not None)
        folder = parent_folder(artifact.path)
        if file.name != MODEL_CARD:
            repository.log_artifact(str(file), folder)
            return
        with tempfile.TemporaryDirectory(prefix=".model-", dir=self.session.folder) as name:
            card = Path(name) / MODEL_CARD
            text = file.read_text(encoding="utf-8")
            card.write_text(self.session.translate(text), encoding="utf-8")
            repository.log_artifact(str(card), folder)

    def _repository(self, owner: str, *, is_model: bool) -> Any:
        if owner not in self._repositories:
            uri = self.session.artifact_uri(owner, is_model=is_model)
            self._repositories[owner] = open_repository(uri, self.session.header.tracking_uri)
        return self._repositories[owner]


def remove_copy(artifact: Artifact) -> None:
    """Remove the copy of a file that is uploaded."""
    artifact.file.unlink(missing_ok=True)
    with suppress(OSError):
        artifact.file.parent.rmdir()


def open_uploader(
    folder: Path,
    connect: "Callable[[str], MlflowClient]" = open_client,
    *,
    may_create_store: bool = False,
) -> JournalUploader:
    """Return what uploads the journal in a folder, whoever wrote it."""
    is_program = format.read_header(folder).is_program
    return (ProgramUploader if is_program else JournalUploader)(
        folder, connect, may_create_store=may_create_store
    )

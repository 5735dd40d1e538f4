"""The upload of one journal: its run in MLflow, and which steps are completed."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from mlflow_project.common.errors import DestinationError, RunError, StoreError
from mlflow_project.common.names import KEY_TAG
from mlflow_project.common.store_uri import is_missing_sqlite, redact
from mlflow_project.tracking.delivery.client import import_mlflow, open_client
from mlflow_project.tracking.delivery.remote import IdempotentStore
from mlflow_project.tracking.identity.run_claim import claim_run, release_claim
from mlflow_project.tracking.identity.store_identity import ensure_store_id, has_store_id
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import Param
from mlflow_project.tracking.journal.format import Cursor, Entry, Header
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.store_record import StoreRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


class DeliverySession:
    """A connection to a journal's store, opened at first use, and the cursor, saved after each step."""

    def __init__(
        self,
        folder: Path,
        connect: "Callable[[str], MlflowClient]" = open_client,
        *,
        may_create_store: bool = False,
    ) -> None:
        """Only the process of a run that begins makes its store; one that was there and is gone is never made anew."""
        self.folder = folder
        self.record = StoreRecord.load(folder)
        self.header: Header = format.read_header(folder)
        self.cursor = Cursor.load(folder)
        self._connect = connect
        self._may_create_store = may_create_store
        self._remote: IdempotentStore | None = None
        self.progress = 0
        """Grows with everything that has arrived."""

    @property
    def run_id(self) -> str | None:
        return self.cursor.run_id

    @property
    def client(self) -> "MlflowClient":
        return self.remote.client

    @property
    def remote(self) -> IdempotentStore:
        if self._remote is None:
            self._require_store()
            client = self._connect(self.header.tracking_uri)
            self._verify(client)
            self._remote = IdempotentStore(client, self._sent_header)
        return self._remote

    @property
    def _sent_header(self) -> Header:
        """The header under whose key run, models and versions are found: another one for each new run."""
        again = self.record.new_runs
        return replace(self.header, key=f"{self.header.key}-{again}") if again else self.header

    @property
    def has_met_store(self) -> bool:
        """Whether the store was ever there."""
        return self.record.store_id is not None or self._known_id is not None

    @property
    def _known_id(self) -> str | None:
        """The run's id in MLflow, from an earlier delivery or because it was given."""
        return self.cursor.run_id or self.header.run_id

    def _require_store(self) -> None:
        may_create = self._may_create_store and not self.has_met_store
        if not may_create and is_missing_sqlite(self.header.tracking_uri):
            self._block(f"{redact(self.header.tracking_uri)} isn't there{self._send_elsewhere}")

    def _verify(self, client: "MlflowClient") -> None:
        """DestinationError unless this is the store that the run went to before, and the run is still there."""
        run_id, store_id = self._known_id, self.record.store_id
        run = self._find_run(client, run_id) if run_id else None
        if run is None and store_id and not self.is_store(client):
            store = redact(self.header.tracking_uri)
            self._block(f"{store} is another store than the one this run went to{self._send_elsewhere}")
        if run_id and run is None:
            self._block(
                f"run {run_id} isn't in {redact(self.header.tracking_uri)} any more; make a new one of it by "
                f"mlflow-project sync --as-new {self._name}, or drop it by mlflow-project status --forget {self._name}"
            )
        if run is not None and run.info.lifecycle_stage == "deleted":
            self._block(
                f"run {run_id} was deleted; `mlflow runs restore --run-id {run_id}` brings it back, "
                f"mlflow-project sync --as-new {self._name} makes a new one of it"
            )
        if self.record.problem:
            self._note(replace(self.record, problem=""))
        if run is not None and self.cursor.run_id and store_id is None:
            self._remember_store(client, str(run.info.experiment_id))

    def is_store(self, client: "MlflowClient") -> bool:
        """Return whether this is the store that the run went to; any is, for a run that went to none yet."""
        if self._known_id and self._find_run(client, self._known_id) is not None:
            return True
        if self.record.store_id is not None:
            return has_store_id(client, self.record.store_id)
        return self._known_id is None

    def _find_run(self, client: "MlflowClient", run_id: str) -> "Run | None":
        try:
            return client.get_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _remember_store(self, client: "MlflowClient", experiment_id: str) -> None:
        # Who may not tag an experiment delivers all the same; the run itself is then what the store is known by.
        with suppress(Exception):
            self._note(replace(self.record, store_id=ensure_store_id(client, experiment_id)))

    def _note(self, record: StoreRecord) -> None:
        self.record = record
        with suppress(OSError):
            record.save(self.folder)

    def _block(self, problem: str) -> NoReturn:
        """Say for good, here and in `status`, why nothing can be delivered."""
        self._note(replace(self.record, problem=problem))
        raise DestinationError(problem)

    @property
    def _name(self) -> str:
        return self._known_id or self.header.key

    @property
    def _send_elsewhere(self) -> str:
        return f"; say where the store is now by mlflow-project sync --to URI {self._name}"

    def open_run(self) -> str:
        """Return the run's ID; create the run if need be. Raises what MLflow raises."""
        if self.cursor.run_id is None:
            known = self.header.run_id
            if known is None:
                self.cursor.experiment_id = self.once("experiment", self.remote.experiment_id)
                self.cursor.run_id = self.remote.run(self.experiment_id)
            else:
                run = self.remote.active_run(known)
                if run.data.tags.get(KEY_TAG) != self.header.key:
                    # The server was away when the run began.
                    run = self._claim(known)
                release_claim(self.client, run, self.header.key)
                self.cursor.experiment_id = str(run.info.experiment_id)
                # What created the run knows best what started it.
                new = {key: text for key, text in self.header.tags.items() if key not in run.data.tags}
                self.send_tags(known, {**new, KEY_TAG: self.header.key})
                self.cursor.run_id = known
            self.remote.describe_experiment(self.experiment_id)
            if self.record.store_id is None:
                self._remember_store(self.client, self.experiment_id)
            self.save()
        return self.cursor.run_id

    def open_run_of(self, folder: Path) -> str:
        """Return the ID of another journal's run; runs may refer to each other, so it is created before its upload.

        Raises:
            StoreError: Another thread or process is uploading that journal, and has no ID yet.
        """
        lock = FileLock(folder / format.SENDING_LOCK)
        if not lock.acquire():
            raise StoreError(
                f"the run of journal {folder.name}, to which this one refers, isn't in MLflow yet"
            )
        try:
            return type(self)(folder, self._connect).open_run()
        finally:
            lock.release()

    def _claim(self, run_id: str) -> "Run":
        key, start = self.header.key, self.header.start_time_ms
        try:
            claim_run(self.client, run_id, key, self._parameters(), start)
            return self.client.get_run(run_id)
        except RunError as error:
            self._block(f"{error}; make a new run of it by mlflow-project sync --as-new {self._name}")

    def _parameters(self) -> dict[str, str]:
        values = (item.value for item in format.read_entries(self.folder) if isinstance(item, Entry))
        return {value.key: value.value for value in values if isinstance(value, Param)}

    @property
    def experiment_id(self) -> str:
        assert self.cursor.experiment_id is not None, "a run that is open has an experiment"
        return self.cursor.experiment_id

    def once(self, name: str, action: Callable[[], object]) -> str:
        """Do one step of the entity that is being uploaded, unless it is completed; return its result as text."""
        if name not in self.cursor.parts:
            self.cursor.parts[name] = str(action())
            self.save()
        return self.cursor.parts[name]

    def upload(self, place: str, digest: str, action: Callable[[], object]) -> None:
        """Send a file, unless the same content was sent there already."""
        if self.cursor.uploaded.get(place) != digest:
            action()
            self.cursor.uploaded[place] = digest
            self.save()

    def save(self) -> None:
        self.progress += 1
        # A full disk must not hold up the upload; what it forgets is uploaded again.
        with suppress(OSError):
            self.cursor.save(self.folder)

    def send_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        tag = import_mlflow().entities.RunTag
        self.client.log_batch(run_id, tags=[tag(key, value) for key, value in tags.items()])


def parent_folder(path: str) -> str | None:
    """Return the folder of an artifact's path, as MLflow wants it: None for the top."""
    folder = str(PurePosixPath(path).parent)
    return None if folder == "." else folder


def require_destination(folder: Path) -> None:
    """Check, before a run goes on, that the store and the run which it went to are still there.

    A store that is unreachable may come back.

    Raises:
        DestinationError: They are not.
    """
    session = DeliverySession(folder)
    if session.has_met_store:
        try:
            session.remote  # noqa: B018
        except DestinationError:
            raise
        except Exception:
            return

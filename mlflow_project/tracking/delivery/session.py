"""The upload of one journal: its run in MLflow, and which steps are completed."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlflow_project.common.names import KEY_TAG
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.delivery.remote import IdempotentStore
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.format import Cursor, Header

if TYPE_CHECKING:
    from mlflow import MlflowClient


class DeliverySession:
    """A connection to a journal's store, opened at first use, and the cursor, saved after each step."""

    def __init__(self, folder: Path, connect: "Callable[[str], MlflowClient]" = open_client) -> None:
        self.folder = folder
        self.header: Header = format.read_header(folder)
        self.cursor = Cursor.load(folder)
        self._connect = connect
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
            self._remote = IdempotentStore(self._connect(self.header.tracking_uri), self.header)
        return self._remote

    def open_run(self) -> str:
        """Return the run's ID; create the run if need be. Raises what MLflow raises."""
        if self.cursor.run_id is None:
            known = self.header.run_id
            if known is None:
                self.cursor.experiment_id = self.once("experiment", self.remote.experiment_id)
                self.cursor.run_id = self.remote.run(self.experiment_id)
            else:
                run = self.remote.active_run(known)
                self.cursor.experiment_id = str(run.info.experiment_id)
                # What created the run knows best what started it.
                new = {key: text for key, text in self.header.tags.items() if key not in run.data.tags}
                self.send_tags(known, {**new, KEY_TAG: self.header.key})
                self.cursor.run_id = known
            self.remote.describe_experiment(self.experiment_id)
            self.save()
        return self.cursor.run_id

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
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def parent_folder(path: str) -> str | None:
    """Return the folder of an artifact's path, as MLflow wants it: None for the top."""
    folder = str(PurePosixPath(path).parent)
    return None if folder == "." else folder

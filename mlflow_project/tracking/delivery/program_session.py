"""The upload of a program's journal: its run, and what provisional IDs and addresses of ours are on the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow_project.common.errors import StoreError
from mlflow_project.common.names import KEY_TAG
from mlflow_project.common.store_uri import inner_uri
from mlflow_project.tracking.delivery.client import default_store, import_mlflow, real_stores
from mlflow_project.tracking.delivery.error_policy import is_permanent
from mlflow_project.tracking.delivery.session import DeliverySession
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.format import Cursor
from mlflow_project.tracking.journal.state_dir import runs_folder
from mlflow_project.tracking.programs import ids
from mlflow_project.tracking.programs.addresses import replace_addresses
from mlflow_project.tracking.programs.ids import Promise, is_provisional


class ProgramSession(DeliverySession):
    """A connection to the store of a program's journal."""

    has_created_run = False
    """Whether this session itself has created the run, which is empty then."""

    def open_run(self) -> str:
        """Return the run's ID, "" where the journal belongs to none; create the run if need be."""
        if self.header.origin == "registry":
            self.remote  # noqa: B018
            return ""
        if self.cursor.run_id is not None:
            return self.cursor.run_id
        if self.header.origin == "addition":
            assert self.header.adds_to is not None
            run = self.remote.active_run(self.resolve_id(self.header.adds_to))
            self.cursor.experiment_id, self.cursor.run_id = str(run.info.experiment_id), str(run.info.run_id)
        else:
            self.cursor.experiment_id = self.once("experiment", self.remote.experiment_id)
            self.cursor.run_id = self._create_run()
            self.remote.describe_experiment(self.experiment_id)
        if self.record.store_id is None:
            self._remember_store(self.client, self.experiment_id)
        self.save()
        return self.cursor.run_id

    def _create_run(self) -> str:
        header = self._sent_header
        if self.cursor.doubtful or "creating" in self.cursor.parts:
            runs = self.remote.find_runs(self.experiment_id)
            if runs:
                return str(self.remote.active_run(runs[0].info.run_id).info.run_id)
        self.once("creating", lambda: "1")
        tags = {key: self.translate(value) for key, value in header.tags.items()} | {KEY_TAG: header.key}
        if header.provisional_id:
            tags[ids.RUN_TAG] = header.provisional_id
        try:
            run = self.client.create_run(
                self.experiment_id, start_time=header.start_time_ms, tags=tags, run_name=header.run_name
            )
        except Exception as error:
            self.cursor.doubtful = not is_permanent(error)
            raise
        self.has_created_run = True
        return str(run.info.run_id)

    def translate(self, value: Any) -> Any:
        """Return a JSON value with the server's IDs and addresses instead of ours."""
        if isinstance(value, str):
            text = replace_addresses(value, self._real_address) if "durable+" in value else value
            return ids.replace_ids(text, self.resolve)
        if isinstance(value, dict):
            return {key: self.translate(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.translate(item) for item in value]
        return value

    def _real_address(self, kind: str, owner: str) -> str:
        return self.artifact_uri(self.resolve_id(owner), is_model=kind == "models")

    def artifact_uri(self, owner: str, *, is_model: bool) -> str:
        """Return where the server has the files of a run or model."""
        tracking = real_stores(self.client)[0]
        if is_model:
            return str(tracking.get_logged_model(owner).artifact_location)
        return str(tracking.get_run(owner).info.artifact_uri)

    def resolve_id(self, text: str) -> str:
        """Return the real ID; a text that isn't provisional is one."""
        return self.resolve(text) if is_provisional(text) else text

    def resolve(self, provisional: str) -> str:
        """Return the real ID of a provisional one, or itself where nobody knows it any more.

        Raises:
            StoreError: It isn't in MLflow yet.
        """
        if provisional == self.header.provisional_id:
            return self.open_run()
        real = _real(self.cursor, provisional)
        if real is not None:
            return real
        promise = Promise.load(provisional)
        if promise is not None and promise.experiment:
            return self.remote.experiment_by_name(promise.experiment, promise.experiment_location)
        folder = self.folder.parent / promise.key if promise is not None else None
        if folder is None or not (folder / format.JOURNAL).exists():
            return find_real_id(self.client, provisional) or provisional
        cursor = Cursor.load(folder)
        real = _real(cursor, provisional)
        if real is not None:
            return real
        if format.read_header(folder).provisional_id != provisional:
            raise StoreError(f"{provisional} of journal {folder.name} isn't in MLflow yet")
        if cursor.run_id is not None:
            return cursor.run_id
        return self.open_run_of(folder)

    @contextmanager
    def store_of_models(self) -> Iterator[None]:
        """Let a registry in a database, which asks MLflow's global store for a model, find this one there."""
        uri = self.header.tracking_uri
        if uri.startswith("http") or inner_uri(import_mlflow().get_tracking_uri()) == uri:
            yield
        else:
            with default_store(uri):
                yield


def _real(cursor: Cursor, provisional: str) -> str | None:
    version = cursor.versions.get(provisional)
    return cursor.models.get(provisional) or (version.rsplit("/", 1)[1] if version else None)


def real_run_id(client: Any, run_id: str) -> str:
    """Return the ID in MLflow of a run that a program knows by a provisional one; any other ID as it is."""
    if not is_provisional(run_id):
        return run_id
    promise = Promise.load(run_id)
    known = Cursor.load(runs_folder() / promise.key).run_id if promise is not None else None
    return known or find_real_id(client, run_id) or run_id


def find_real_id(client: Any, provisional: str) -> str | None:
    """Find by the server's tags what a provisional ID became; None if nothing has it."""
    if not (provisional.startswith("m-") or len(provisional) == 32):
        return None
    experiments = [str(experiment.experiment_id) for experiment in client.search_experiments()]
    if provisional.startswith("m-"):
        models = client.search_logged_models(experiments, f"tags.`{ids.MODEL_TAG}` = '{provisional}'")
        return str(models[0].model_id) if models else None
    runs = client.search_runs(experiments, f"tags.`{ids.RUN_TAG}` = '{provisional}'")
    return str(runs[0].info.run_id) if runs else None

"""MLflow as a place that may be away, slow, or already written to: what is there is found before it is made.

Everything that this project makes in MLflow carries the tag `journal_key`, the journal's key (for a model:
key and name), by which a second delivery finds it. A request that timed out may still be carried out later,
so `settle_...` looks again and removes what was made twice.
"""

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlflow_project import descriptions
from mlflow_project.alias_history import Change, keep
from mlflow_project.errors import DeliveryError, ServiceError, StoreError
from mlflow_project.journal_file import Header
from mlflow_project.locks import FileLock
from mlflow_project.names import KEY_TAG, NOTE_TAG, VERSIONS_TAG
from mlflow_project.store_uri import redact, scrub, sqlite_path
from mlflow_project.text import format_time
from mlflow_project.values import ModelFiles

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

REQUEST_SECONDS = 15
"""How long one request may take; MLflow's own default is two minutes, eight times over."""

_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_SECONDS),
    # Otherwise the end of a run prints its address on stdout.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # One bar for each of many small files would be all that a person sees.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_LOUD = {
    # A locked database is tried again; its traceback helps nobody.
    "mlflow.store.db.utils": "CRITICAL",
    "alembic": "WARNING",
    "urllib3.connectionpool": "ERROR",
}
_NEVER = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
"""What a store says of a value that it won't take tomorrow either; but see `is_doubtful`."""

AWAY = ("doesn't answer", "didn't answer in time")
"""How `told` ends where there may be no server at all."""

_importing = threading.Lock()


def client_class() -> "type[MlflowClient]":
    """MLflow, imported once (seconds), with bounded requests where the environment doesn't say otherwise."""
    with _importing:
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name, level in _LOUD.items():
            logging.getLogger(name).setLevel(level)
        return MlflowClient


def open_client(tracking_uri: str) -> "MlflowClient":
    """A client of this store. A SQLite store is made or migrated by one process, while the others wait."""
    kind = client_class()
    registry_uri = os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri
    path = sqlite_path(tracking_uri)
    if path is None:
        return kind(tracking_uri, registry_uri=registry_uri)
    if not path.parent.is_dir():
        raise StoreError(f"the store {path} can't be opened: there is no folder {path.parent}; make it first")
    with FileLock(path.parent):
        client = kind(tracking_uri, registry_uri=registry_uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
        return client


def is_final(error: Exception) -> bool:
    """Whether the store will refuse this request every time."""
    if isinstance(error, DeliveryError):
        return True
    response = getattr(error, "response", None)
    if response is not None:
        said = re.search(r'"error_code"\s*:\s*"(\w+)"', response.text or "")
        return response.status_code == 413 or (said is not None and said[1] in _NEVER)
    # Proxies answer with bare status codes, which say nothing about the value.
    bare = "failed with error code" in str(error)
    return getattr(error, "error_code", None) in _NEVER and not bare


def is_doubtful(error: Exception) -> bool:
    """Whether a final refusal may yet be none.

    Two runs that write the same row at once also get the first answer, and a model that another request has only
    just made the second.
    """
    return getattr(error, "error_code", None) == "BAD_REQUEST" or "Failed to get logged model" in str(error)


def told(error: Exception, uri: str) -> str:
    """One line that a person can act on, without addresses that hold a password."""
    if isinstance(error, ServiceError):
        return str(error)
    text = " ".join(str(error).split())
    shown = redact(uri)
    code = getattr(error, "error_code", "")
    if any(word in text for word in ("Connection refused", "NameResolution", "Name or service not known")):
        return f"{shown} {AWAY[0]}"
    if "timed out" in text or "timeout" in text:
        return f"{shown} {AWAY[1]}"
    denied = re.search(r"error code 40[13]\b|\b40[13] Client Error", text)
    if denied or code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return f"{shown} refuses us; check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or _TOKEN"
    if "database is locked" in text:
        return f"{shown} is busy"
    if "unable to open database file" in text:
        return f"{shown} can't be opened"
    if "Max retries exceeded" in text or "error responses" in text:
        return f"{shown} answers with errors"
    if "Connection aborted" in text or "Connection broken" in text:
        return f"{shown} broke the connection off"
    return scrub(text, uri)[:300] or type(error).__name__


class Remote:
    """One journal's run, models and versions in MLflow: found by their tags, else made."""

    def __init__(self, client: "MlflowClient", header: Header) -> None:
        self.client = client
        self.header = header

    def experiment_id(self) -> str:
        name = self.header.experiment
        found = self.client.get_experiment_by_name(name)
        if found is None:
            location = None
            root = self.header.artifact_root
            if sqlite_path(self.header.tracking_uri) and root and Path(root) != Path.cwd() / "mlruns":
                # MLflow would put the artifacts below the folder from which `sync` happens to be called.
                location = str(Path(root) / quote(name, safe=""))
            try:
                return str(self.client.create_experiment(name, artifact_location=location))
            except Exception:
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise StoreError(
                f"the experiment {name!r} was deleted; `mlflow experiments restore` brings it back"
            )
        return str(found.experiment_id)

    def describe_experiment(self, experiment_id: str) -> None:
        """Says on an experiment what it is, where nobody has said so before. Best effort: it is decoration."""
        try:
            if NOTE_TAG not in self.client.get_experiment(experiment_id).tags:
                self.client.set_experiment_tag(experiment_id, NOTE_TAG, descriptions.EXPERIMENT)
        except Exception:
            pass

    def find_runs(self, experiment_id: str) -> list["Run"]:
        """The runs made for this journal, those that count first: more than one after a request came late."""
        from mlflow.entities import ViewType

        wanted = f"tags.{KEY_TAG} = '{self.header.key}'"
        runs = self.client.search_runs([experiment_id], wanted, run_view_type=ViewType.ALL)
        return sorted(runs, key=lambda run: (run.info.lifecycle_stage != "active", run.info.run_id))

    def run(self, experiment_id: str) -> str:
        """The journal's run; made if nobody has. StoreError if somebody deleted it."""
        runs = self.find_runs(experiment_id)
        if not runs:
            self.client.create_run(
                experiment_id,
                start_time=self.header.start_time_ms,
                tags={**self.header.tags, KEY_TAG: self.header.key},
                run_name=self.header.run_name,
            )
            runs = self.find_runs(experiment_id)
        _require_active(runs[0])
        return str(runs[0].info.run_id)

    def active_run(self, run_id: str) -> "Run":
        """A run that is there. StoreError if somebody deleted it."""
        run = self.client.get_run(run_id)
        _require_active(run)
        return run

    def model_key(self, name: str) -> str:
        return f"{self.header.key}/{name}"

    def find_models(self, experiment_id: str, name: str) -> list[Any]:
        wanted = f"tags.{KEY_TAG} = '{self.model_key(name)}'"
        found = self.client.search_logged_models([experiment_id], filter_string=wanted)
        return sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))

    def model(self, experiment_id: str, run_id: str, model: ModelFiles) -> str:
        """The id of the run's logged model of this name; made if nobody has."""
        models = self.find_models(experiment_id, model.name)
        if not models:
            self.client.create_logged_model(
                experiment_id,
                name=model.name,
                source_run_id=run_id,
                tags={KEY_TAG: self.model_key(model.name)},
                params=dict(model.params) or None,
            )
            models = self.find_models(experiment_id, model.name)
        return str(models[0].model_id)

    def link_to_run(self, run_id: str, model_id: str, step: int) -> None:
        """Name the model as the run's output, once."""
        from mlflow.entities import LoggedModelOutput

        outputs = self.client.get_run(run_id).outputs
        if model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
            self.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=step)])

    def find_versions(self, run_id: str, name: str, registered: str) -> list[Any]:
        found = self.client.search_model_versions(f"name = '{registered}' and run_id = '{run_id}'")
        ours = [version for version in found if version.tags.get(KEY_TAG) == self.model_key(name)]
        return sorted(ours, key=lambda version: int(version.version))

    def version(self, run_id: str, model_id: str, model: ModelFiles) -> str:
        """The number of the one version that this model has; made if nobody has."""
        registered = model.registered_name
        assert registered is not None
        versions = self.find_versions(run_id, model.name, registered)
        if not versions:
            with _as_default(self.header.tracking_uri):
                self.client.create_model_version(
                    registered,
                    f"models:/{model_id}",
                    run_id=run_id,
                    tags={**model.version_tags, KEY_TAG: self.model_key(model.name)},
                    await_creation_for=0,
                    model_id=model_id,
                )
            versions = self.find_versions(run_id, model.name, registered)
        return str(versions[0].version)

    def tag_version(self, registered: str, number: str, tags: Mapping[str, str]) -> None:
        """Tags of a version that an earlier delivery has made with others."""
        present = self.client.get_model_version(registered, number).tags
        for key, value in tags.items():
            if present.get(key) != value:
                self.client.set_model_version_tag(registered, number, key, value)

    def describe_version(self, registered: str, number: str, description: str) -> None:
        """Writes a version's model card, which names the version."""
        card = description.replace(descriptions.VERSION_PLACE, number)
        self.client.update_model_version(registered, number, card)

    def set_aliases(self, registered: str, number: str, aliases: Sequence[str]) -> None:
        """A late delivery doesn't take an alias back from a newer version."""
        held = self.client.get_registered_model(registered).aliases if aliases else {}
        for alias in aliases:
            before = int(held.get(alias, 0))
            if before < int(number):
                keep(
                    self.client,
                    registered,
                    self._change(registered, alias, before, number),
                    self.header.key[:6],
                )
                self.client.set_registered_model_alias(registered, alias, number)

    def _change(self, registered: str, alias: str, before: int, number: str) -> Change:
        """The same whenever it is asked for."""
        made = self.client.get_model_version(registered, number).creation_timestamp / 1000
        run = self.header.run_name
        evidence = {"run": f"named by its run, {run}"}
        when = format_time(datetime.fromtimestamp(made, UTC))
        return Change(alias, before or None, int(number), when, self.header.host, evidence)

    def ensure_registered(self, registered: str) -> None:
        try:
            self.client.create_registered_model(
                registered, description=descriptions.registered_model(registered)
            )
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise

    def link_to_version(self, model_id: str, registered: str, number: str) -> None:
        """Name the version on the logged model, as MLflow's own registration does and its UI shows."""
        link = {"name": registered, "version": number}
        try:
            links = json.loads(self.client.get_logged_model(model_id).tags.get(VERSIONS_TAG) or "[]")
        except ValueError:
            links = []
        if link not in links:
            self.client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps([*links, link])})

    def settle_runs(self, experiment_id: str, run_id: str) -> None:
        """Remove runs that a request made which came too late to be seen; likewise below."""
        for run in self.find_runs(experiment_id):
            if run.info.run_id != run_id and run.info.lifecycle_stage == "active":
                self.client.delete_run(run.info.run_id)

    def settle_models(self, experiment_id: str, models: Mapping[str, str]) -> None:
        for name, model_id in models.items():
            for model in self.find_models(experiment_id, name):
                if model.model_id != model_id:
                    self.client.delete_logged_model(model.model_id)

    def settle_versions(self, run_id: str, versions: Mapping[str, str]) -> None:
        for name, version in versions.items():
            registered, number = version.rsplit("/", 1)
            for other in self.find_versions(run_id, name, registered):
                if str(other.version) != number:
                    self.client.delete_model_version(registered, other.version)


def _require_active(run: "Run") -> None:
    if run.info.lifecycle_stage == "deleted":
        run_id = run.info.run_id
        raise StoreError(f"run {run_id} was deleted; `mlflow runs restore --run-id {run_id}` brings it back")


@contextmanager
def _as_default(uri: str) -> Iterator[None]:
    """For a request in which MLflow looks up a model in its global store instead of the client's own."""
    import mlflow

    before = mlflow.get_tracking_uri()
    if before == uri:
        yield
        return
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)

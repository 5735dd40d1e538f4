"""MLflow as a store that may be unreachable, slow, or already written to: every creation is idempotent.

Everything that this project creates in MLflow has the tag `journal_key`, the journal's key (for a model: key and
name), by which a second upload finds it. A request that timed out may still be carried out later, so
`delete_duplicate_...` looks again.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlflow_project.common.errors import StoreError
from mlflow_project.common.names import KEY_TAG, VERSIONS_TAG
from mlflow_project.common.store_uri import sqlite_path
from mlflow_project.common.text import format_time
from mlflow_project.tracking.delivery.client import default_store, import_mlflow
from mlflow_project.tracking.delivery.error_policy import is_missing_endpoint
from mlflow_project.tracking.identity.alias_log import AliasChange, record_change
from mlflow_project.tracking.journal.entities import EXPERIMENT_PLACE, VERSION_PLACE, ModelArtifact
from mlflow_project.tracking.journal.format import Header

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


class IdempotentStore:
    """One journal's run, models and versions in MLflow: found by their tags, else created."""

    def __init__(self, client: "MlflowClient", header: Header) -> None:
        self.client = client
        self.header = header
        self._keeps_logged_models: bool | None = None

    def experiment_id(self) -> str:
        """Return the ID of the journal's experiment, which is created if need be.

        Raises:
            StoreError: The experiment was deleted.
        """
        if self.header.experiment_id is not None:
            return self._named_by_id(self.header.experiment_id)
        return self.experiment_by_name(self.header.experiment, self.header.experiment_location)

    def experiment_by_name(self, name: str, location: str | None = None) -> str:
        """Return the ID of an experiment, which is created if need be.

        Args:
            name: Its name.
            location: Where the artifacts of one that is created go.

        Raises:
            StoreError: The experiment was deleted.
        """
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            try:
                location = location or self._artifact_location(name)
                return str(self.client.create_experiment(name, artifact_location=location))
            except Exception:
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":
            raise StoreError(
                f"the experiment {name!r} was deleted; `mlflow experiments restore` brings it back"
            )
        return str(experiment.experiment_id)

    def _artifact_location(self, name: str) -> str | None:
        """Return where a new experiment's artifacts go; None for MLflow's own choice."""
        root = self.header.artifact_root
        if not root or sqlite_path(self.header.tracking_uri) is None:
            return None
        place = Path(root) / quote(name, safe="")
        if re.search("[%?#]", root):
            return place.as_uri()  # MLflow would take these for parts of an address
        # MLflow would put the artifacts below the folder from which `sync` happens to be called.
        return None if Path(root) == Path.cwd() / "mlruns" else str(place)

    def _named_by_id(self, experiment_id: str) -> str:
        experiment = self.client.get_experiment(experiment_id)
        if experiment.lifecycle_stage == "deleted":
            raise StoreError(
                f"experiment {experiment_id} was deleted; "
                f"`mlflow experiments restore -x {experiment_id}` brings it back"
            )
        return str(experiment.experiment_id)

    def describe_experiment(self, experiment_id: str) -> None:
        """Write the header's tags that the experiment does not have. Best effort: they are decoration."""
        wanted = self.header.experiment_tags
        if not wanted:
            return
        try:
            present = self.client.get_experiment(experiment_id).tags
            for key in wanted.keys() - present.keys():
                value = wanted[key].replace(EXPERIMENT_PLACE, experiment_id)
                self.client.set_experiment_tag(experiment_id, key, value)
        except Exception:
            pass

    def find_runs(self, experiment_id: str) -> list["Run"]:
        """Find the runs created for this journal, active ones first: more than one after a request came late."""
        query = f"tags.{KEY_TAG} = '{self.header.key}'"
        runs = self.client.search_runs(
            [experiment_id], query, run_view_type=import_mlflow().entities.ViewType.ALL
        )
        return sorted(runs, key=lambda run: (run.info.lifecycle_stage != "active", run.info.run_id))

    def run(self, experiment_id: str) -> str:
        """Return the ID of the journal's run, which is created if need be.

        Raises:
            StoreError: The run was deleted.
        """
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
        """Return a run.

        Raises:
            StoreError: The run was deleted.
        """
        run = self.client.get_run(run_id)
        _require_active(run)
        return run

    def keeps_logged_models(self, experiment_id: str) -> bool:
        """Return whether the server has logged models, asked once: MLflow 2 and some hosted servers answer 404."""
        if self._keeps_logged_models is None:
            try:
                self.client.search_logged_models([experiment_id], max_results=1)
            except Exception as error:
                if not is_missing_endpoint(error):
                    raise
                self._keeps_logged_models = False
            else:
                self._keeps_logged_models = True
        return self._keeps_logged_models

    def model_key(self, name: str) -> str:
        return f"{self.header.key}/{name}"

    def find_models(self, experiment_id: str, name: str) -> list[Any]:
        query = f"tags.{KEY_TAG} = '{self.model_key(name)}'"
        models = self.client.search_logged_models([experiment_id], filter_string=query)
        return sorted(models, key=lambda model: (model.creation_timestamp, model.model_id))

    def model(self, experiment_id: str, run_id: str, model: ModelArtifact) -> str:
        """Return the ID of the run's logged model of this name, which is created if need be."""
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
        """Set the model as the run's output, once."""
        outputs = self.client.get_run(run_id).outputs
        if model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
            self.client.log_outputs(run_id, [import_mlflow().entities.LoggedModelOutput(model_id, step=step)])

    def find_versions(self, run_id: str, name: str, registered: str) -> list[Any]:
        versions = self.client.search_model_versions(f"name = '{registered}' and run_id = '{run_id}'")
        ours = [version for version in versions if version.tags.get(KEY_TAG) == self.model_key(name)]
        return sorted(ours, key=lambda version: int(version.version))

    def version(self, run_id: str, model: ModelArtifact, source: str, model_id: str | None = None) -> str:
        """Return the number of this model's version, which is created if need be.

        Args:
            source: Where its files are: `models:/` and the logged model's id, or a place among the run's artifacts.
        """
        registered = model.registered_name
        assert registered is not None
        versions = self.find_versions(run_id, model.name, registered)
        if not versions:
            with default_store(self.header.tracking_uri):
                self.client.create_model_version(
                    registered,
                    source,
                    run_id=run_id,
                    tags={**model.version_tags, KEY_TAG: self.model_key(model.name)},
                    await_creation_for=0,
                    model_id=model_id,
                )
            versions = self.find_versions(run_id, model.name, registered)
        return str(versions[0].version)

    def tag_version(self, registered: str, number: str, tags: Mapping[str, str]) -> None:
        """Set the tags of a version that an earlier upload may have created with others."""
        present = self.client.get_model_version(registered, number).tags
        for key, value in tags.items():
            if present.get(key) != value:
                self.client.set_model_version_tag(registered, number, key, value)

    def describe_version(self, registered: str, number: str, description: str) -> None:
        """Write a version's model card, which contains its number."""
        card = description.replace(VERSION_PLACE, number)
        self.client.update_model_version(registered, number, card)

    def creation_time(self, registered: str, number: str) -> str:
        """Return when a version was created, in UTC."""
        created = self.client.get_model_version(registered, number).creation_timestamp / 1000
        return format_time(datetime.fromtimestamp(created, UTC))

    def alias_holder(self, registered: str, alias: str) -> int:
        """Return the number of the version that has an alias; 0 for none."""
        return int(self.client.get_registered_model(registered).aliases.get(alias, 0))

    def record_alias(self, registered: str, alias: str, before: int, number: str, when: str) -> None:
        """Record that an alias goes to a version: once, and the same in every upload."""
        evidence = {"run": f"named by its run, {self.header.run_name}"}
        change = AliasChange(
            alias, before or None, int(number), when=when, who=self.header.host, evidence=evidence
        )
        record_change(self.client, registered, change, self.header.key[:6])

    def ensure_registered(self, registered: str, description: str | None) -> None:
        """Create the registered model, unless it exists."""
        try:
            self.client.create_registered_model(registered, description=description)
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise

    def link_to_version(self, model_id: str, registered: str, number: str) -> None:
        """Write the version on the logged model, as MLflow's own registration does and its UI shows."""
        link = {"name": registered, "version": number}
        try:
            links = json.loads(self.client.get_logged_model(model_id).tags.get(VERSIONS_TAG) or "[]")
        except ValueError:
            links = []
        if link not in links:
            self.client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps([*links, link])})

    def delete_duplicate_runs(self, experiment_id: str, run_id: str) -> None:
        """Delete runs of a request that was carried out too late to be seen; likewise below."""
        for run in self.find_runs(experiment_id):
            if run.info.run_id != run_id and run.info.lifecycle_stage == "active":
                self.client.delete_run(run.info.run_id)

    def delete_duplicate_models(self, experiment_id: str, models: Mapping[str, str]) -> None:
        for name, model_id in models.items():
            for model in self.find_models(experiment_id, name):
                if model.model_id != model_id:
                    self.client.delete_logged_model(model.model_id)

    def delete_duplicate_versions(self, run_id: str, versions: Mapping[str, str]) -> None:
        for name, version in versions.items():
            registered, number = version.rsplit("/", 1)
            for other in self.find_versions(run_id, name, registered):
                if str(other.version) != number:
                    self.client.delete_model_version(registered, other.version)


def _require_active(run: "Run") -> None:
    if run.info.lifecycle_stage == "deleted":
        run_id = run.info.run_id
        raise StoreError(f"run {run_id} was deleted; `mlflow runs restore --run-id {run_id}` brings it back")

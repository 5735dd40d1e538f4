"""Existing runs that a sweep needn't do again: in MLflow, and in this machine's state folder."""

import dataclasses
import socket
import statistics
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import JournalError, RunError
from mlflow_project.common.names import LIVE_TAGS, PARENT_TAG, PREDICTIONS
from mlflow_project.common.store_uri import absolute_uri, tracking_uri
from mlflow_project.registry.stored_runs import fetch_or_none
from mlflow_project.tracking.delivery.client import artifact_exists, mlflow_errors, pages
from mlflow_project.tracking.delivery.heartbeat import STALE_AFTER_SECONDS, seconds_since_heartbeat
from mlflow_project.tracking.delivery.model_upload import register_uploaded_model
from mlflow_project.tracking.experiment import experiment_name, named_experiment
from mlflow_project.tracking.identity.alias_log import AliasChange, record_change
from mlflow_project.tracking.journal import format, fsio
from mlflow_project.tracking.journal import local_runs as state
from mlflow_project.tracking.journal.entities import Metric, ModelArtifact
from mlflow_project.training import model_card
from mlflow_project.training.run_spec import read_run_spec
from mlflow_project.training.tracked_run import RUN_SPEC_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.common.image_spec import ImageSpec
    from hw2.training.config import TrainingConfig

COMPLETED, ELSEWHERE, RESUMABLE = "completed", "running elsewhere", "resumable"
_PAGE = 1000
_SPEED_RUNS = 25


@dataclass(frozen=True)
class ExistingRun:
    """A run of a configuration, as it was left: COMPLETED, ELSEWHERE (alive in another process) or RESUMABLE."""

    state: str
    run_id: str | None
    folder: Path | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    unregistered: Path | None = None
    """The folder of a completed run whose model was not to be registered then, and is now."""


@dataclass(frozen=True)
class LocalRunInfo:
    """A run's folder on this machine, by what its journal's header says of it."""

    folder: Path
    tags: Mapping[str, str]
    run_id: str | None
    name: str = ""

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the run's configuration."""
        return self.tags.get("configuration_sha256", "")

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint under which its state can be continued."""
        return self.tags.get("fingerprint", "")


def local_runs(since: str = "") -> Iterator[LocalRunInfo]:
    """Yield the local runs of this store and experiment, oldest first, from the folder `since` on."""
    store, experiment = absolute_uri(tracking_uri()), named_experiment()
    for folder in state.folders():
        if folder.name < since:
            continue
        try:
            header = format.read_header(folder)
        except (JournalError, OSError):
            continue
        if header.tracking_uri == store and experiment.has(header.experiment, header.experiment_id):
            yield LocalRunInfo(folder, header.tags, header.run_id, header.run_name)


def find_local_runs(runs: Collection[LocalRunInfo], parent: str = "") -> ExistingRun | None:
    """Return the best local run of one configuration: completed with its metrics, else alive, else resumable.

    parent: the reference to the parent run of who asks; what another search has stopped stays as it is, and only its
    checkpoint is of use.
    """
    by_state: dict[str, ExistingRun] = {}
    for local in runs:
        run = read_local_run(local.folder)
        if run is None:
            continue
        if run.state == "stopped" and read_run_spec(local.folder).tags.get(PARENT_TAG) != parent:
            continue
        kind = {"finished": COMPLETED, "alive": ELSEWHERE}.get(run.state, RESUMABLE)
        # Without a plan the run died before it had logged anything: no server knows of it.
        if kind != RESUMABLE or (local.folder / RUN_SPEC_FILE).exists():
            by_state[kind] = ExistingRun(kind, run.run_id, local.folder)
    if completed := by_state.get(COMPLETED):
        assert completed.folder is not None
        return dataclasses.replace(completed, metrics=last_metrics(completed.folder))
    return by_state.get(ELSEWHERE) or by_state.get(RESUMABLE)


def read_local_run(folder: Path) -> state.LocalRun | None:
    """Return the run of a folder; None where its journal can't be read."""
    try:
        return state.local_run(folder)
    except (JournalError, OSError):
        return None


def left_unregistered(run: ExistingRun, runs: Collection[LocalRunInfo]) -> Path | None:
    """Return the folder of a completed run that was trained here without being registered; None for any other."""
    for local in runs:
        try:
            if read_run_spec(local.folder).register:
                continue
        except RunError:
            continue
        found = read_local_run(local.folder)
        if found is not None and (local.folder == run.folder or found.run_id == run.run_id):
            return local.folder
    return None


def register(folder: Path, name: str, spec: "ImageSpec", aliases: tuple[str, ...]) -> None:
    """Register the model of a completed run that was trained without; the run stays the same.

    Args:
        folder: The run's.
        name: The registered model.
        spec: The images that it was trained on.
        aliases: That the version gets.

    Raises:
        StoreError, DeliveryError, RunBusyError: It can't be done now.
    """
    run_spec = read_run_spec(folder)

    def registered(model: ModelArtifact) -> ModelArtifact:
        return dataclasses.replace(
            model,
            registered_name=name,
            aliases=aliases,
            description=model_card.add_loading(model.description or "", name, spec),
            registered_description=model_card.registered_model(name, run_spec.config.model, spec),
        )

    with mlflow_errors():
        register_uploaded_model(folder, registered)
    run_spec = dataclasses.replace(run_spec, register=True, aliases=aliases)
    with suppress(OSError):  # it is seen to be registered all the same
        fsio.replace(folder / RUN_SPEC_FILE, run_spec.to_json().encode(), durable=True)


def last_metrics(folder: Path) -> dict[str, float]:
    """Return the last value of each metric that a run has logged."""
    values = (item.value for item in format.read_entries(folder) if isinstance(item, format.Entry))
    return {value.key: value.value for value in values if isinstance(value, Metric)}


class ExperimentIndex:
    """The runs of the experiment in MLflow."""

    def __init__(self, client: "MlflowClient") -> None:
        self.client = client
        with mlflow_errors():
            experiment = client.get_experiment_by_name(experiment_name())
        self.experiment_ids = [] if experiment is None else [experiment.experiment_id]

    def find(self, sha256s: Collection[str]) -> dict[str, ExistingRun]:
        """Return, by configuration, the runs that are COMPLETED, or ELSEWHERE on another machine.

        One query each: MLflow knows no "one of" for tags, and listing all runs to choose among costs more from
        about 500 trials downwards (10,000 runs in SQLite: 0.13 s a query, 74 s a listing).
        """
        runs: dict[str, ExistingRun] = {}
        for sha256 in sha256s if self.experiment_ids else ():
            for run in self._runs(f"tags.configuration_sha256 = '{sha256}'"):
                kind = _kind(run)
                if kind == COMPLETED and not self._has_results(run):
                    continue
                if kind and (sha256 not in runs or kind == COMPLETED):
                    runs[sha256] = ExistingRun(kind, run.info.run_id, metrics=dict(run.data.metrics))
        return runs

    def _has_results(self, run: Any) -> bool:
        """Return whether a completed run has its metrics and files, which its tag alone doesn't promise."""
        with mlflow_errors():
            return "test_accuracy" in run.data.metrics and artifact_exists(
                self.client, run.info.artifact_uri, PREDICTIONS
            )

    def run_exists(self, run_id: str) -> bool:
        """Return whether the run exists and nobody has deleted it."""
        run = fetch_or_none(lambda: self.client.get_run(run_id))
        return run is not None and bool(run.info.lifecycle_stage == "active")

    def version(self, name: str, run_id: str) -> str | None:
        """Return the number of the version of the registered model `name` that this run has made."""
        with mlflow_errors():
            versions = self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        return max((str(version.version) for version in versions), key=int, default=None)

    def set_alias(self, name: str, alias: str, version: str, evidence: str) -> None:
        """Point an alias at a version and record that in the alias's history, unless it does so already."""
        with mlflow_errors():
            held = self.client.get_registered_model(name).aliases
            before = int(held[alias]) if alias in held else None  # a store says it as text or as a number
            if before == int(version):
                return
            change = AliasChange(alias, before, int(version), evidence={"run": evidence})
            record_change(self.client, name, change)
            self.client.set_registered_model_alias(name, alias, version)

    def images_per_second(self, host: str, config: "TrainingConfig") -> float | None:
        """Return the median speed of the latest runs on this host; None where there was none like it.

        Alike are those with the same requested device and precision; what `auto` becomes, the host decides.
        """
        if not self.experiment_ids:
            return None
        text = (
            f"tags.host = '{host}' and tags.status = 'completed' and params.device = '{config.device}' "
            f"and params.precision = '{config.precision}'"
        )
        with mlflow_errors():
            runs = self.client.search_runs(
                self.experiment_ids, text, max_results=_SPEED_RUNS, order_by=["attributes.start_time DESC"]
            )
        speeds = [
            (
                run.data.params.get("batch_size") == str(config.batch_size),
                run.data.metrics["images_per_second"],
            )
            for run in runs
            if "images_per_second" in run.data.metrics
        ]
        alike = [speed for same, speed in speeds if same] or [speed for _, speed in speeds]
        return statistics.median(alike) if alike else None

    def _runs(self, text: str) -> Iterator[Any]:
        return pages(
            lambda token: self.client.search_runs(
                self.experiment_ids, text, max_results=_PAGE, page_token=token
            )
        )


def _kind(run: Any) -> str | None:
    tags = run.data.tags
    if tags.get("status") == "completed":
        return COMPLETED
    heartbeat, owner = (tags.get(tag, "") for tag in LIVE_TAGS)
    # Of a run on this machine its folder's lock says exactly whether it lives.
    elsewhere = owner.partition(" ")[0] not in ("", socket.gethostname())
    if (
        run.info.status == "RUNNING"
        and elsewhere
        and seconds_since_heartbeat(heartbeat) < STALE_AFTER_SECONDS
    ):
        return ELSEWHERE
    return None

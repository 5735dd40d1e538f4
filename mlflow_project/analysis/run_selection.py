"""Which completed runs a person means: by id, as a sweep, as registered models, or the latest."""

import csv
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import RunError, UsageError
from mlflow_project.common.names import (
    CONTEXT_TAG,
    DEFAULT_NAME,
    PARENT_TAG,
    SWEEP_TABLE,
    SWEEP_TAG,
)
from mlflow_project.registry.registered_model import RegisteredModel
from mlflow_project.registry.stored_runs import DatasetInputInfo, RunRecord, download
from mlflow_project.tracking.delivery.client import import_mlflow, mlflow_errors, pages
from mlflow_project.tracking.experiment import experiment_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

LATEST = 10
"""As many configurations at most are taken where nobody says which."""
IDENTITY = "configuration_sha256"
_PAGE = 200


@dataclass(frozen=True)
class Selection:
    """What a person asks for: one of these, or nothing for the latest run of each configuration."""

    runs: tuple[str, ...] = ()
    sweep: str | None = None
    models: tuple[str, ...] = ()
    registered_name: str = DEFAULT_NAME


@dataclass(frozen=True)
class SelectedRuns:
    """The runs that are meant, each once, and what a person should know of those left out."""

    runs: tuple[RunRecord, ...]
    notes: tuple[str, ...] = ()


def select(client: "MlflowClient", selection: Selection) -> SelectedRuns:
    """The runs; RunError or RegistryError, naming it, for one that isn't there or isn't completed."""
    given = [name for name in ("runs", "sweep", "models") if getattr(selection, name)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} are both given; say which models by one of them")
    if selection.runs:
        found = SelectedRuns(tuple(_completed(client, run_id) for run_id in dict.fromkeys(selection.runs)))
    elif selection.sweep:
        found = _of_sweep(client, selection.sweep)
    elif selection.models:
        versions = RegisteredModel(client, selection.registered_name).resolve_all(selection.models)
        found = SelectedRuns(
            tuple(replace(_completed(client, v.run_id), name=name) for name, v in versions.items())
        )
    else:
        found = _latest(client)
    return replace(found, runs=_unique_names(found.runs))


def _completed(client: "MlflowClient", run_id: str) -> RunRecord:
    run = get_run(client, run_id)
    tags = run.data.tags
    if SWEEP_TAG in tags:
        raise RunError(f"run {run_id} is a sweep; name it by --sweep {run_id}")
    if IDENTITY not in tags:
        raise RunError(
            f"run {run_id} ({run.info.run_name}) is no training of mlflow-project; name one that is"
        )
    if tags.get("status") != "completed":
        raise RunError(
            f"run {run_id} ({run.info.run_name}) is {tags.get('status', 'not completed')}; only completed runs "
            f"are compared. Go on with it by: mlflow-project train --resume {run_id}"
        )
    return stored(run)


def get_run(client: "MlflowClient", run_id: str) -> Any:
    """MLflow's run; RunError where there is none of that id."""
    with mlflow_errors():
        try:
            run = client.get_run(run_id)
        except import_mlflow().exceptions.MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise RunError(
                    f"there is not a run {run_id} in this store; `mlflow-project models list` shows runs with models"
                ) from error
            raise
    if run.info.lifecycle_stage != "active":
        raise RunError(f"run {run_id} is deleted; restore it with: mlflow runs restore --run-id {run_id}")
    return run


def stored(run: Any) -> RunRecord:
    """MLflow's run as a value."""
    return RunRecord(
        name=run.info.run_name or run.info.run_id,
        run_id=run.info.run_id,
        artifact_uri=run.info.artifact_uri,
        parameters=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
        data=tuple(_data_parts(run)),
    )


def _data_parts(run: Any) -> Iterator[DatasetInputInfo]:
    import json

    for used in run.inputs.dataset_inputs if run.inputs else ():
        context = next((tag.value for tag in used.tags if tag.key == CONTEXT_TAG), "")
        try:
            profile = json.loads(used.dataset.profile or "{}")
            source = json.loads(used.dataset.source or "{}").get("uri", "")
            yield DatasetInputInfo(
                context=context,
                name=used.dataset.name,
                source=source,
                images=int(profile["pictures"]),
                sha256=str(profile["sha256"]),
            )
        except (ValueError, KeyError, AttributeError):
            continue  # logged by another program


def _of_sweep(client: "MlflowClient", run_id: str) -> SelectedRuns:
    parent = get_run(client, run_id)
    if SWEEP_TAG not in parent.data.tags:
        raise RunError(
            f"run {run_id} ({parent.info.run_name}) is not a sweep; name trainings by --runs {run_id}"
        )
    trials = _table_of(client, parent) or _children(client, parent)
    runs, notes = [], []
    for trial, trial_id in trials:
        try:
            runs.append(_completed(client, trial_id))
        except RunError:
            notes.append(f"{trial} is left out: it isn't completed")
    if not runs:
        raise RunError(
            f"no run of sweep {run_id} is completed; go on with it by the same sweep command again"
        )
    return SelectedRuns(tuple(runs), tuple(notes))


def _table_of(client: "MlflowClient", parent: Any) -> list[tuple[str, str]]:
    """Also names trials that were done before the sweep, and are no children of it."""
    with tempfile.TemporaryDirectory() as scratch:
        table = download(client, parent.info.run_id, parent.info.artifact_uri, SWEEP_TABLE, Path(scratch))
        if table is None:
            return []
        with table.open(newline="") as file:
            return [(row["run"], row["run_id"]) for row in csv.DictReader(file)]


def _children(client: "MlflowClient", parent: Any) -> list[tuple[str, str]]:
    condition = f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'"
    found = search(client, [parent.info.experiment_id], condition, "ASC")
    return [(run.info.run_name, run.info.run_id) for run in found]


def search(
    client: "MlflowClient", experiment_ids: Sequence[str], condition: str, order: str = "DESC"
) -> Iterator[Any]:
    """MLflow's runs, by when they were started, a page at a time."""
    return pages(
        lambda token: client.search_runs(
            list(experiment_ids),
            condition,
            max_results=_PAGE,
            order_by=[f"attributes.start_time {order}"],
            page_token=token,
        )
    )


def _latest(client: "MlflowClient") -> SelectedRuns:
    """The newest run of each configuration, oldest first, of those on the same images as the newest of all."""
    with mlflow_errors():
        experiment = client.get_experiment_by_name(experiment_name())
    found: dict[str, Any] = {}
    others = 0
    dataset = ""
    runs = (
        [] if experiment is None else search(client, [experiment.experiment_id], "tags.status = 'completed'")
    )
    for run in runs:
        tags = run.data.tags
        if IDENTITY not in tags or tags[IDENTITY] in found:
            continue
        dataset = dataset or tags.get("dataset_sha256", "")
        if tags.get("dataset_sha256", "") != dataset:
            others += 1
            continue
        found[tags[IDENTITY]] = run
        if len(found) == LATEST:
            break
    if not found:
        raise RunError(
            f"experiment {experiment_name()} has no completed run; train one first: mlflow-project train"
        )
    notes = []
    if len(found) == LATEST:
        notes.append(
            f"the {LATEST} latest configurations are taken; name others by --runs, --sweep or --models"
        )
    if others:
        notes.append(f"{others} runs on other images (not {dataset[:12]}) are left out; name them by --runs")
    return SelectedRuns(tuple(stored(run) for run in reversed(found.values())), tuple(notes))


def _unique_names(runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    unique = {run.run_id: run for run in runs}
    often = Counter(run.name for run in unique.values())
    return tuple(
        replace(run, name=f"{run.name} ({run.run_id[:8]})") if often[run.name] > 1 else run
        for run in unique.values()
    )

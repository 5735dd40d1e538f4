"""Select completed runs: by id, as a sweep, as registered models, or the latest of each configuration."""

import csv
import heapq
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.common.errors import DIVERGED
from hw2.common.formatting import plural
from mlflow_project.common.errors import RunError, UsageError
from mlflow_project.common.names import (
    DEFAULT_NAME,
    PARENT_TAG,
    REASON_TAG,
    SEARCH_TABLE,
    SEARCH_TAG,
    STATUS_TAG,
    SWEEP_TABLE,
    SWEEP_TAG,
    TEST_TAG,
)
from mlflow_project.common.run_state import RunState
from mlflow_project.registry.registered_model import RegisteredModel
from mlflow_project.registry.stored_runs import (
    GONE,
    NO_ID,
    RunRecord,
    download,
    fetch_or_none,
    stored_predictions,
)
from mlflow_project.tracking.delivery.client import mlflow_errors, pages
from mlflow_project.tracking.delivery.program_session import real_run_id
from mlflow_project.tracking.experiment import experiment_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.comparison.model_predictions import ModelPredictions

LATEST = 10
"""As many configurations at most, each with all its seeds, are selected where none is named."""
IDENTITY = "configuration_sha256"
"""The tag that trainings of ours have, and runs of other programs don't."""
_DATASET = "dataset_sha256"
_PAGE = 200


@dataclass(frozen=True)
class Selection:
    """Which runs to take: one of these, or nothing for the latest run of each configuration.

    experiment: The name or ID of that in which the latest runs are; by default that of MLflow's variables.
    """

    runs: tuple[str, ...] = ()
    sweep: str | None = None
    models: tuple[str, ...] = ()
    experiment: str | None = None
    registered_name: str = DEFAULT_NAME


@dataclass(frozen=True)
class SelectedRuns:
    """The selected runs, each once, and notes on those that were left out; failed: trainings that diverged."""

    runs: tuple[RunRecord, ...]
    notes: tuple[str, ...] = ()
    failed: tuple[RunRecord, ...] = ()


def select(client: "MlflowClient", selection: Selection) -> SelectedRuns:
    """Select runs.

    Raises:
        RunError, RegistryError: One isn't there or isn't completed; the message names it.
    """
    kinds = [name for name in ("runs", "sweep", "models", "experiment") if getattr(selection, name)]
    if len(kinds) > 1:
        raise UsageError(f"--{kinds[0]} and --{kinds[1]} are both given; say which models by one of them")
    if selection.runs:
        selected = _named(client, selection.runs)
    elif selection.sweep:
        selected = _of_sweep(client, selection.sweep)
    elif selection.models:
        repeated: list[str] = []
        versions = RegisteredModel(client, selection.registered_name).resolve_all(
            selection.models, repeated.append
        )
        runs = tuple(replace(_comparable(client, v.run_id), name=name) for name, v in versions.items())
        selected = SelectedRuns(runs, tuple(repeated), _failed_repetitions(client, runs))
    else:
        selected = _latest(client, selection.experiment)
    return replace(selected, runs=_unique_names(selected.runs))


def select_predictions(
    client: "MlflowClient", selection: Selection
) -> "tuple[SelectedRuns, list[ModelPredictions]]":
    """Select runs and read their predictions.

    Of runs that are named, each must have them. Of others, one that has lost them is left out with a note: it must
    not stand in the way of the rest.

    Raises:
        RunError: A named run has no predictions, or none of the others has any.
    """
    selected = select(client, selection)
    try:
        return selected, stored_predictions(client, selected.runs)
    except RunError:
        if selection.runs or selection.models:
            raise
    runs, predictions, notes = [], [], list(selected.notes)
    for run in selected.runs:
        try:
            predictions += stored_predictions(client, [run])
            runs.append(run)
        except RunError as error:
            problem = error
            notes.append(f"{run.name} is left out: {error}")
    if not runs:
        raise problem
    return replace(selected, runs=tuple(runs), notes=tuple(notes)), predictions


def _named(client: "MlflowClient", run_ids: Sequence[str]) -> SelectedRuns:
    runs, failed = [], []
    for run_id in dict.fromkeys(run_ids):
        run = get_run(client, run_id)
        if _has_diverged(run):
            failed.append(RunRecord.from_mlflow(run))
        else:
            runs.append(_comparable(client, run_id))
    if not runs:
        raise RunError(f"none of the runs named has a model: {_divergence(failed[0])}; name one that has")
    return SelectedRuns(tuple(runs), tuple(map(_divergence, failed)), tuple(failed))


def _has_diverged(run: Any) -> bool:
    tags: Mapping[str, str] = run.data.tags
    return tags.get(STATUS_TAG) == RunState.FAILED and tags.get(REASON_TAG, "").startswith(DIVERGED)


def _divergence(run: RunRecord) -> str:
    return f"{run.name} didn't train: {run.tags[REASON_TAG]}"


def _failed_repetitions(client: "MlflowClient", runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """Find the diverged trainings that differ from one of these runs in the seed alone."""
    with mlflow_errors():
        experiment = client.get_experiment_by_name(experiment_name())
    if experiment is None:
        return ()
    chosen = {(_configuration(run), run.tags.get("dataset_sha256")) for run in runs}
    condition = f"tags.{STATUS_TAG} = '{RunState.FAILED}'"
    failed = map(
        RunRecord.from_mlflow, filter(_has_diverged, search(client, [experiment.experiment_id], condition))
    )
    return tuple(run for run in failed if (_configuration(run), run.tags.get("dataset_sha256")) in chosen)


def _configuration(run: RunRecord) -> object:
    """Return what runs that differ in the seed alone have in common."""
    from hw2.comparison.model_predictions import FailedTraining

    return FailedTraining(run.name, run.parameters).without_seed


def _comparable(client: "MlflowClient", run_id: str) -> RunRecord:
    """Return a completed training, or any run of another program, whose predictions decide."""
    run = get_run(client, run_id)
    tags = run.data.tags
    for tag, kind in ((SWEEP_TAG, "sweep"), (SEARCH_TAG, "search")):
        if tag in tags:
            raise RunError(f"run {run_id} is a {kind}; name it by --sweep {run_id}")
    if IDENTITY in tags and tags.get("status") != "completed":
        raise RunError(
            f"run {run_id} ({run.info.run_name}) is {tags.get('status', 'not completed')}; only completed runs "
            f"are compared. Resume it by: mlflow-project train --resume {run_id}"
        )
    return RunRecord.from_mlflow(run)


def get_run(client: "MlflowClient", run_id: str) -> Any:
    """Return MLflow's run; RunError where there is none of that id, or it is deleted."""
    run = fetch_or_none(lambda: client.get_run(real_run_id(client, run_id)), (GONE, NO_ID))
    if run is None:
        raise RunError(
            f"there is not a run {run_id} in this store; name a run by its id, which "
            "`mlflow-project models list` shows where it has a model"
        )
    if run.info.lifecycle_stage != "active":
        # MLflow deletes an experiment's runs with it, and restores them with it alone.
        with mlflow_errors():
            _refuse_deleted(client.get_experiment(run.info.experiment_id))
        raise RunError(f"run {run_id} is deleted; restore it with: mlflow runs restore --run-id {run_id}")
    return run


def _refuse_deleted(experiment: Any) -> None:
    if experiment.lifecycle_stage != "active":
        raise RunError(
            f"experiment {experiment.name} is deleted, with its runs; restore it with: "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )


def _of_sweep(client: "MlflowClient", run_id: str) -> SelectedRuns:
    parent = get_run(client, run_id)
    if SWEEP_TAG not in parent.data.tags and SEARCH_TAG not in parent.data.tags:
        raise RunError(
            f"run {run_id} ({parent.info.run_name}) is not a sweep; name trainings by --runs {run_id}"
        )
    trials, stopped = _read_sweep_table(client, parent)
    trials = trials or _children(client, parent)
    runs, notes, failed = [], [], []
    for trial, trial_id in trials:
        try:
            runs.append(_comparable(client, trial_id))
        except RunError:
            run = fetch_or_none(partial(client.get_run, trial_id), (GONE, NO_ID))
            if run is not None and _has_diverged(run):
                failed.append(RunRecord.from_mlflow(run))
                notes.append(_divergence(failed[-1]))
            else:
                notes.append(f"{trial} is left out: it isn't completed")
    if not runs:
        raise RunError(f"no run of sweep {run_id} is completed; resume it by the same sweep command again")
    if stopped:
        notes.append(f"left out: {plural(stopped, 'trial')} that the search has stopped, untested")
    return SelectedRuns(tuple(runs), tuple(notes), tuple(failed))


def _read_sweep_table(client: "MlflowClient", parent: Any) -> tuple[list[tuple[str, str]], int]:
    """Read the trials of a sweep or a search; also those that were done before it, and are no children of it.

    Returns:
        Name and run ID of each, but of those that a search has stopped only the number.
    """
    path = SEARCH_TABLE if SEARCH_TAG in parent.data.tags else SWEEP_TABLE
    with tempfile.TemporaryDirectory() as scratch:
        table = download(client, parent.info.run_id, parent.info.artifact_uri, path, Path(scratch))
        if table is None:
            return [], 0
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    trials = [(row["run"], row["run_id"]) for row in rows if row.get("state") != RunState.STOPPED]
    return trials, len(rows) - len(trials)


def _children(client: "MlflowClient", parent: Any) -> list[tuple[str, str]]:
    condition = f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'"
    runs = search(client, [parent.info.experiment_id], condition, "ASC")
    return [(run.info.run_name, run.info.run_id) for run in runs]


def search(
    client: "MlflowClient", experiment_ids: Sequence[str], condition: str, order: str = "DESC"
) -> Iterator[Any]:
    """Yield MLflow's runs, by when they were started, a page at a time."""
    return pages(
        lambda token: client.search_runs(
            list(experiment_ids),
            condition,
            max_results=_PAGE,
            order_by=[f"attributes.start_time {order}"],
            page_token=token,
        )
    )


def _latest(client: "MlflowClient", experiment: str | None = None) -> SelectedRuns:
    """Select the newest run of each configuration and seed, oldest first, on the same images as the newest of all."""
    name, found = _find_experiment(client, experiment)
    newest: dict[str, RunRecord] = {}
    configurations: set[object] = set()
    others, more = 0, False
    if found is not None:
        _refuse_deleted(found)
        conditions = "tags.status = 'completed'", f"tags.{TEST_TAG} != ''"
        searches = (search(client, [found.experiment_id], condition) for condition in conditions)
        for run in heapq.merge(*searches, key=lambda run: -run.info.start_time):
            record = RunRecord.from_mlflow(run)
            identity = _identity(record)
            if identity is None or identity in newest:
                continue
            if newest and not _same_images(record, next(iter(newest.values()))):
                others += 1
                continue
            if more := len(configurations | {_configuration(record)}) > LATEST:
                break
            configurations.add(_configuration(record))
            newest[identity] = record
    if not newest:
        raise RunError(f"experiment {name} has no completed run; train one first: mlflow-project train")
    notes = []
    if more:
        notes.append(
            f"the {LATEST} latest configurations are taken; name others by --runs, --sweep or --models"
        )
    if others:
        images = next(iter(newest.values()))
        sha256 = images.tags.get(_DATASET) or read_test_sha256(images)
        notes.append(
            f"left out: {plural(others, 'run')} on other images (not {sha256[:12]}); name any by --runs"
        )
    runs = tuple(reversed(newest.values()))
    return SelectedRuns(runs, tuple(notes), _failed_repetitions(client, runs))


def _find_experiment(client: "MlflowClient", named: str | None) -> tuple[str, Any | None]:
    """Return an experiment's name and MLflow's own experiment, None where there isn't one.

    Raises:
        RunError: There is none of the name or ID that a person has given.
    """
    if named is None:
        name = experiment_name()
        with mlflow_errors():
            return name, client.get_experiment_by_name(name)
    with mlflow_errors():
        experiment = client.get_experiment_by_name(named)
    experiment = experiment or fetch_or_none(lambda: client.get_experiment(named), (GONE, NO_ID))
    if experiment is None:
        raise RunError(
            f"there is not an experiment of the name or ID {named} in this store; `mlflow experiments search` lists "
            "those that it has"
        )
    return str(experiment.name), experiment


def _identity(run: RunRecord) -> str | None:
    """Return what is the same for repetitions of one configuration; None for a run that isn't compared."""
    if TEST_TAG in run.tags and IDENTITY not in run.tags:
        return json.dumps(sorted(run.parameters.items())) if run.parameters else run.run_id
    return run.tags.get(IDENTITY)


def _same_images(first: RunRecord, second: RunRecord) -> bool:
    if _DATASET in first.tags and _DATASET in second.tags:
        return first.tags[_DATASET] == second.tags[_DATASET]
    return read_test_sha256(first) == read_test_sha256(second)


def read_test_sha256(run: RunRecord) -> str:
    """Return the SHA-256 of the images that a run was tested on, "" where it doesn't say so."""
    logged = (part.sha256 for part in run.data if part.context == "test")
    return run.tags.get(TEST_TAG) or next(logged, "")


def _unique_names(runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    unique = {run.run_id: run for run in runs}
    counts = Counter(run.name for run in unique.values())
    return tuple(
        replace(run, name=f"{run.name} ({run.run_id[:8]})") if counts[run.name] > 1 else run
        for run in unique.values()
    )

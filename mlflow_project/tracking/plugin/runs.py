"""Runs of a program: begun, found again by any ID, read from the server or from their journals."""

import copy
import shutil
from collections.abc import Sequence
from typing import Any

from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException

from mlflow_project.common.errors import JournalError
from mlflow_project.tracking.hub.hub import Hub
from mlflow_project.tracking.hub.reachability import Unreachable, is_answer, rejection
from mlflow_project.tracking.hub.run_log import RunLog
from mlflow_project.tracking.journal import entities, format
from mlflow_project.tracking.journal.entities import RunEnded
from mlflow_project.tracking.journal.format import Cursor, Entry
from mlflow_project.tracking.journal.state_dir import runs_folder
from mlflow_project.tracking.plugin import answers
from mlflow_project.tracking.plugin.checks import check_active, run_name_of
from mlflow_project.tracking.programs import ids
from mlflow_project.tracking.programs.ids import Promise, is_provisional
from mlflow_project.tracking.programs.record import RunRecord


def create(hub: Hub, experiment_id: str, start_time: int, tags: Sequence[Any], run_name: str | None) -> Run:
    """Begin a run; its ID is provisional where the server doesn't give one in time.

    Raises:
        MlflowException: The server refuses it, or the disk takes nothing.
    """
    name = run_name_of(run_name, tags)
    plain = {tag.key: tag.value for tag in tags}
    plain.setdefault("mlflow.runName", name)
    promise = hub.promised_experiment(experiment_id)
    known = known_experiment(hub, experiment_id)
    header = {
        "experiment": promise.experiment
        if promise
        else known.name
        if known
        else f"experiment {experiment_id}",
        "experiment_id": None if promise else experiment_id,
        "experiment_location": promise.experiment_location if promise else None,
        "experiment_tags": promise.experiment_tags if promise else None,
        "run_name": name,
        "tags": plain,
        "start_time_ms": start_time,
        "origin": "program",
        "provisional_id": ids.new_run_id(),
    }
    record = RunRecord(experiment_id, name, start_time, plain.get("mlflow.user", "unknown"), tags=dict(plain))
    log = hub.begin(header, record)
    provisional = str(header["provisional_id"])
    hub.know_run(provisional, log)
    hub.wait(lambda: log.run_id is not None or _is_refused(log))
    if log.run_id is not None:
        hub.know_run(log.run_id, log)
        return local_run(hub, log, log.run_id)
    if _is_refused(log):
        hub.forget(log)
        shutil.rmtree(log.folder, ignore_errors=True)
        raise rejection(log.problem) from log.problem
    hub.promise(provisional, log)
    return local_run(hub, log, provisional)


def _is_refused(log: RunLog) -> bool:
    return isinstance(log.problem, MlflowException) and is_answer(log.problem)


def log_of(hub: Hub, run_id: str) -> RunLog:
    """Return the journal to which this process writes what it logs to a run.

    Raises:
        MlflowException: There is no such run, or it is deleted.
    """
    if run_id in hub.deleted_runs:
        check_active(run_id, "deleted")
    log = hub.find_log(run_id)
    return log if log is not None else _adopt(hub, run_id)


def ids_of(hub: Hub, run_id: str) -> set[str]:
    """Return all IDs by which a program may know a run."""
    log = hub.find_log(run_id)
    known = {run_id} if log is None else {run_id, log.run_id, log.header.provisional_id}
    return {each for each in known if each}


def _adopt(hub: Hub, run_id: str) -> RunLog:
    """Begin a journal that adds to a run which another process has begun."""
    with hub.guard:
        log = hub.find_log(run_id)
        if log is not None:
            return log
        inherited = hub.inherited.get(run_id)
        if inherited is not None:
            return _begin_addition(hub, run_id, inherited)
        try:
            run = _read(hub, run_id)
            check_active(run_id, run.info.lifecycle_stage)
            record = answers.record_of(run)
        except Unreachable:
            # Whether it exists shows when this is uploaded.
            record = RunRecord("", run_id, entities.now_ms())
        return _begin_addition(hub, run_id, record)


def _begin_addition(hub: Hub, run_id: str, record: RunRecord) -> RunLog:
    header = {
        "experiment": "",
        "run_name": f"added to {record.name}",
        "origin": "addition",
        "adds_to": run_id,
    }
    log = hub.begin(header, record)
    hub.know_run(run_id, log)
    return log


def get(hub: Hub, run_id: str) -> Run:
    """Return a run with all that this process has logged to it."""
    log = hub.find_log(run_id)
    if log is None:
        return _read(hub, run_id)
    if not hub.deliver(log):
        return local_run(hub, log, run_id)
    real = log.run_id or run_id
    try:
        run: Run = hub.ask(lambda: hub.tracking.get_run(real))
    except Unreachable:
        return local_run(hub, log, run_id)
    status = run.info.status
    if log.is_open_run and status in entities.END_STATES:
        # Another process has ended it, such as the one that `mlflow run` has started.
        log.append(RunEnded(status, run.info.end_time or entities.now_ms()))
    # The program goes on with the IDs that it was given.
    run.info._run_id = run_id
    if log.record.experiment_id:
        run.info._experiment_id = log.record.experiment_id
    return answers.with_our_addresses(run, hub.uri)


def _read(hub: Hub, run_id: str) -> Run:
    """Return a run that isn't of this process: from the server, else from a journal on this machine."""
    promise = Promise.load(run_id) if is_provisional(run_id) else None
    real = real_run_id(hub, run_id)
    try:
        if not is_provisional(real):
            run: Run = hub.ask(lambda: hub.tracking.get_run(real))
            run.info._experiment_id = hub.shown_experiment(str(run.info.experiment_id))
            return answers.with_our_addresses(run, hub.uri)
    except Unreachable:
        if promise is None:
            raise
    if promise is not None:
        try:
            folder = runs_folder() / promise.key
            header = format.read_header(folder)
            experiment_id = Cursor.load(folder).experiment_id or header.experiment_id or ""
            return answers.run_of(RunRecord.load(folder, experiment_id), run_id, hub.uri)
        except JournalError:
            pass
    missing: Run = hub.ask(lambda: hub.tracking.get_run(real))
    return answers.with_our_addresses(missing, hub.uri)


def local_run(hub: Hub, log: RunLog, run_id: str) -> Run:
    """Return a run as its journal, and what was read of it before, know it."""
    with log.guard:
        return answers.run_of(log.record, run_id, hub.uri)


def local_history(log: RunLog, key: str, run_id: str) -> list[Metric]:
    """Return the points of a metric in a journal."""
    points = (item.value for item in format.read_entries(log.folder) if isinstance(item, Entry))
    return [
        answers.metric_of(point)
        for point in points
        if isinstance(point, entities.Metric) and point.key == key
    ]


def real_run_id(hub: Hub, run_id: str) -> str:
    """Return the ID of a run in MLflow, or the provisional one while it isn't known."""
    real = hub.real_id(run_id)
    if real is not None:
        return real
    promise = Promise.load(run_id)
    if promise is not None:
        return Cursor.load(runs_folder() / promise.key).run_id or run_id
    from mlflow_project.tracking.delivery.program_session import find_real_id

    found = hub.ask(lambda: find_real_id(hub.connect(), run_id))
    if found is None:
        return run_id
    hub.note_real(run_id, found)
    return found


def real_experiment_id(hub: Hub, experiment_id: str) -> str:
    """Return the ID of an experiment in MLflow, or the provisional one while there is none."""
    promise = hub.promised_experiment(experiment_id)
    if promise is None:
        return experiment_id
    if hub.real_id(experiment_id) is None:
        found = hub.ask(lambda: hub.tracking.get_experiment_by_name(promise.experiment))
        if found is None:
            return experiment_id
        hub.note_real(experiment_id, str(found.experiment_id))
    return hub.real_id(experiment_id) or experiment_id


def with_real_ids(hub: Hub, value: Any) -> Any:
    """Return an argument with the provisional IDs in it replaced, as far as the real ones are known."""
    if not isinstance(value, str | list | tuple | dict) or not ids.find_provisional(value):
        return value

    def resolve(provisional: str) -> str:
        if provisional in hub.experiments:
            return real_experiment_id(hub, provisional)
        return hub.real_id(provisional) or real_run_id(hub, provisional)

    return ids.replace_ids(value, resolve)


def remember_experiment(hub: Hub, experiment: Any) -> None:
    """Note an experiment that the server has named, for when it gives no answer."""
    hub.seen_experiments[str(experiment.experiment_id)] = experiment


def shown_experiment(hub: Hub, experiment: Any) -> Any:
    """Return the server's experiment under the ID that this process was given for it, as its runs show it."""
    provisional, real = ids.experiment_id_of(hub.uri, experiment.name), str(experiment.experiment_id)
    if provisional in hub.experiments:
        hub.note_real(provisional, real)
    shown = copy.copy(experiment)
    shown._experiment_id = hub.shown_experiment(real)
    return shown


def known_experiment(hub: Hub, experiment_id: str) -> Any:
    return hub.seen_experiments.get(experiment_id)


def known_experiment_by_name(hub: Hub, name: str) -> Any:
    return next((each for each in hub.seen_experiments.values() if each.name == name), None)

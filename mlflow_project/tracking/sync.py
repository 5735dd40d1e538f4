"""Uploads what a tracking server that was unreachable hasn't got yet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_project.common.errors import RunError
from mlflow_project.common.store_uri import absolute_uri, redact
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import connect, migrate_store, mlflow_errors
from mlflow_project.tracking.delivery.session import DeliverySession
from mlflow_project.tracking.journal import format, local_runs
from mlflow_project.tracking.journal.local_runs import LocalRun
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.store_record import StoreRecord

ATTEMPTS = 6
"""Failures in a row, with growing pauses (8 s together), before a run is left for the next time."""


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What became of one run's pending entities: uploaded, still pending with the problem, or rejected for good."""

    run: str
    run_id: str
    """Or its folder's name, while it has no ID."""
    delivered: int
    pending: int
    problem: str | None
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What MLflow can't keep as it is, and what was done instead."""
    blocked: bool = False
    """Whether a person must decide first; trying again later is of no use."""


def sync(
    runs: Sequence[str] = (), *, to: str | None = None, as_new: bool = False, migrate: bool = False
) -> list[Synced]:
    """Upload runs that ended, or died, while their tracking server was unreachable.

    A run that is alive uploads itself and is left alone. A store is never created.

    Args:
        runs: Their IDs; all that have something to upload if there are none.
        to: Where the store of these runs is now. Runs of another store are left alone.
        as_new: Whether a run that is lost, with its store or by itself, becomes a new run.
        migrate: Whether a store of an older MLflow is brought up to date, which that one then can't open.

    Raises:
        RunError: There is no such run, or none of them is of the store at `to`.
        StoreError: The store at `to` can't be opened.
    """
    chosen = [local_runs.find(name) for name in runs]
    if to is not None:
        if migrate:
            migrate_store(to)
        chosen = _redirect(chosen, to, as_new)
    results = []
    unreachable: dict[str, str] = {}
    for run in chosen or local_runs.undelivered():
        address = run.header.tracking_uri
        if migrate:
            migrate_store(address)
        problem: str | None = unreachable.get(address)
        result = _result(run, run.run_id, run.pending, problem)
        if problem is None:
            result = _deliver(run)
            if as_new and result.pending and StoreRecord.load(run.folder).problem:
                _make_new(run.folder)
                result = _deliver(local_runs.local_run(run.folder))
            # Of the whole server, which would keep the next run waiting as long.
            if result.problem and result.problem.startswith(redact(address)) and not result.blocked:
                unreachable[address] = result.problem
        results.append(result)
    return results


def _deliver(run: LocalRun) -> Synced:
    delivery = deliver(run.folder, attempts=ATTEMPTS)
    return replace(
        _result(run, delivery.run_id, delivery.pending, delivery.problem),
        refused=delivery.refused,
        notes=delivery.notes,
        blocked=delivery.blocked,
    )


def _result(run: LocalRun, run_id: str | None, pending: int, problem: str | None) -> Synced:
    return Synced(
        run=run.header.run_name,
        run_id=run_id or run.key,
        delivered=run.pending - pending,
        pending=pending,
        problem=problem,
    )


def _redirect(chosen: Sequence[LocalRun], to: str, as_new: bool) -> list[LocalRun]:
    """Let the journals of a store that was moved go to where it is now; those that did, as they are then."""
    uri = absolute_uri(to)
    connect(uri)  # says so where there is none
    done = []
    for run in chosen or local_runs.local_runs():
        # A store that answers at its own address wasn't moved.
        if run.state == "alive" or (not chosen and not (run.pending or run.blocked)):
            continue
        lock = FileLock(run.folder / format.SENDING_LOCK)
        if not lock.acquire_patiently():
            continue
        try:
            moved = _moved(run.folder, uri)
            if moved is None and as_new and run.pending:
                moved = _anew(run.folder, uri)
            if moved is None:
                if chosen:
                    raise RunError(
                        f"{redact(uri)} isn't the store that run {run.run_id or run.key} went to; "
                        "name that one, or send the run as a new one with --as-new"
                    )
                continue
            moved.save(run.folder)
        finally:
            lock.release()
        done.append(local_runs.local_run(run.folder))
    if not done:
        raise RunError(
            f"no run that is kept here went to the store at {redact(uri)} and has values for it; "
            "`status` lists those that wait, --as-new sends them as new runs"
        )
    return done


def _moved(folder: Path, uri: str) -> StoreRecord | None:
    """What to note of a run whose store is at `uri` now; None where the store there is another."""
    session = DeliverySession(folder)
    record = replace(session.record, tracking_uri=uri, problem="")
    with mlflow_errors(uri):
        return record if session.is_store(connect(uri)) else None


def _anew(folder: Path, uri: str | None) -> StoreRecord:
    """What to note of a run that becomes a new one: all of its journal is delivered once more."""
    record = StoreRecord.load(folder)
    (folder / format.CURSOR).unlink(missing_ok=True)
    return StoreRecord(tracking_uri=uri or record.tracking_uri, new_runs=record.new_runs + 1)


def _make_new(folder: Path) -> None:
    lock = FileLock(folder / format.SENDING_LOCK)
    if lock.acquire_patiently():
        try:
            _anew(folder, None).save(folder)
        finally:
            lock.release()

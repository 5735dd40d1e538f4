"""Uploads what a tracking server that was unreachable hasn't got yet."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_project.common.store_uri import redact
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.journal import local_runs

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


def sync(runs: Sequence[str] = ()) -> list[Synced]:
    """Upload runs that ended, or died, while their tracking server was unreachable.

    A run that is alive uploads itself and is left alone.

    Args:
        runs: Their IDs; all that have something to upload if there are none.

    Raises:
        RunError: There is no such run.
    """
    results = []
    unreachable: dict[str, str] = {}
    for run in [local_runs.find(name) for name in runs] or local_runs.undelivered():
        run_id, pending = run.run_id, run.pending
        refused: tuple[str, ...] = ()
        notes: tuple[str, ...] = ()
        address = run.header.tracking_uri
        problem: str | None = unreachable.get(address)
        if problem is None:
            delivery = deliver(run.folder, attempts=ATTEMPTS)
            run_id, pending, problem = delivery.run_id, delivery.pending, delivery.problem
            refused, notes = delivery.refused, delivery.notes
            # Of the whole server, which would keep the next run waiting as long.
            if problem and problem.startswith(redact(address)):
                unreachable[address] = problem
        results.append(
            Synced(
                run=run.header.run_name,
                run_id=run_id or run.key,
                delivered=run.pending - pending,
                pending=pending,
                problem=problem,
                refused=refused,
                notes=notes,
            )
        )
    return results

"""`status`: running, interrupted and undelivered runs, and what to do about each."""

from typing import TYPE_CHECKING, Any

import click

from mlflow_project.cli.shared.options import migrate_option, option
from mlflow_project.cli.shared.output import format_option, print_rows

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_project.tracking.journal.local_runs import LocalRun
    from mlflow_project.tracking.stale_runs import RemoteRun

COLUMNS = ("run", "run_id", "state", "pending", "location", "action")


@click.command(short_help="Running, interrupted and undelivered runs, and what to do.")
@option("--all", "all_", is_flag=True, help="Also list runs that ended and are delivered.")
@option("--repair", is_flag=True, help="Mark dead runs KILLED; delete runs that never started.")
@option(
    "--forget", metavar="RUN", default=None, help="Remove what is stored here of a run, after a confirmation."
)
@option("--yes", is_flag=True, help="Don't ask.")
@migrate_option
@format_option
def status(all_: bool, repair: bool, forget: str | None, yes: bool, format_: str) -> int:
    """List the runs that need attention, on this machine and, by their heartbeat, on others.

    \b
    mlflow-project status
    mlflow-project status --repair
    """
    from mlflow_project.common.errors import ServiceError, StoreError
    from mlflow_project.common.store_uri import absolute_uri, tracking_uri
    from mlflow_project.tracking.journal import local_runs
    from mlflow_project.tracking.stale_runs import mark_killed, mark_remote_run_killed, remote_running_runs

    if forget is not None:
        return _forget(forget, yes)
    local = list(local_runs.local_runs(all_=all_))
    if repair:
        for run in local:
            if run.state == "interrupted":
                try:
                    if run.never_started:
                        local_runs.delete_run(run.folder)
                    else:
                        mark_killed(run)
                except ServiceError as error:
                    click.echo(f"Warning: {error}", err=True)
        local = list(local_runs.local_runs(all_=all_))
    rows = [_local_row(run) for run in local if all_ or _needs_attention(run)]
    rows += [_damaged_row(folder, reason) for folder, reason in local_runs.unreadable()]
    address, where = absolute_uri(tracking_uri()), ""
    try:
        for other in remote_running_runs(address, {run.run_id for run in local if run.run_id}):
            if repair and not other.is_alive:
                mark_remote_run_killed(address, other)
            else:
                rows.append(_remote_row(other))
    except StoreError as error:
        click.echo(f"Warning: can't list runs of other hosts: {error}", err=True)
        where = " on this machine"
    if not rows:
        click.echo(f"no run{where} needs attention", err=True)
    if rows or format_ != "table":
        print_rows(rows, format_, COLUMNS)
    return 0


def _forget(name: str, yes: bool) -> int:
    from mlflow_project.tracking.journal import local_runs

    run = local_runs.find(name)
    if not yes:
        lost = f"{run.pending:,} values that MLflow hasn't got, and " if run.pending else ""
        click.confirm(
            f"Remove {lost}the checkpoint of run {name} ({run.header.run_name})?", abort=True, err=True
        )
    local_runs.delete_run(run.folder)
    click.echo(f"run {name} is forgotten here; what MLflow has of it stays", err=True)
    return 0


def _needs_attention(run: "LocalRun") -> bool:
    waits = run.is_stopped or run.disk_full
    return run.state in ("alive", "interrupted") or run.pending > 0 or bool(run.problems) or waits


def _local_row(run: "LocalRun") -> dict[str, Any]:
    from mlflow_project.common.names import SEARCH_TAG, SWEEP_TAG

    name = run.run_id or run.header.provisional_id or run.key
    actions = []
    if run.state == "interrupted":
        again = ""
        if SWEEP_TAG in run.header.tags:
            again = "the same sweep again, or "
        elif SEARCH_TAG in run.header.tags:
            again = "the same search again, or "
        elif run.is_resumable:
            again = f"mlflow-project train --resume {name}, or "
        actions.append(f"{again}mlflow-project status --repair")
    if run.is_stopped:
        actions.append(f"mlflow-project train --resume {name}")
    if run.disk_full:
        again = f"mlflow-project train --resume {name}" if run.is_resumable else "do it again"
        actions.append(
            f"free disk space for {run.folder}, then {again}, or mlflow-project status --forget {name}"
        )
    if run.pending and run.state != "alive" and not run.never_started:
        actions.append(run.blocked or "mlflow-project sync")
    actions += run.problems
    location = run.header.host if run.state == "alive" else str(run.folder)
    return {
        "run": run.header.run_name,
        "run_id": name,
        "state": "running" if run.state == "alive" else run.state,
        "pending": run.pending,
        "location": location,
        "action": "; ".join(actions),
    }


def _damaged_row(folder: "Path", reason: str) -> dict[str, Any]:
    return {
        "run": folder.name,
        "run_id": None,
        "state": "damaged",
        "pending": None,
        "location": str(folder),
        "action": f"{reason}; remove the folder when nothing in it is wanted",
    }


def _remote_row(run: "RemoteRun") -> dict[str, Any]:
    return {
        "run": run.name,
        "run_id": run.run_id,
        "state": "running" if run.is_alive else "stale",
        "pending": None,
        "location": run.owner,
        "action": "" if run.is_alive else f"not heard of since {run.heartbeat}: status --repair",
    }

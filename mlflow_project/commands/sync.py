"""`sync`: deliver what a server that was away hasn't got yet."""

from typing import TYPE_CHECKING, Any

import click

from mlflow_project.output import format_option, print_rows

if TYPE_CHECKING:
    from mlflow_project.state import LocalRun

ATTEMPTS = 6
"""Failures in a row, with growing pauses (8 s together), before a run is left for the next time."""


@click.command(short_help="Deliver what the tracking server hasn't got yet.")
@click.argument("runs", nargs=-1, metavar="[RUN_ID]...")
@format_option
def sync(runs: tuple[str, ...], format_: str) -> int:
    """Deliver the values of runs that ended, or died, while their tracking server was away.

    Without RUN_ID: all of them. A run that is alive delivers itself and is left alone.

    \b
    mlflow-project sync
    """
    from mlflow_project import state
    from mlflow_project.errors import DeliveryError
    from mlflow_project.sender import deliver
    from mlflow_project.store_uri import redact

    chosen = [state.find(name) for name in runs] or state.undelivered()
    rows, left = [], 0
    silent: dict[str, str] = {}
    for run in chosen:
        address = run.header.tracking_uri
        if address in silent:
            left += 1
            rows.append(_row(run, run.run_id, run.pending, silent[address]))
            continue
        delivery = deliver(run.folder, attempts=ATTEMPTS)
        left += delivery.pending > 0
        # Of the whole server, which would keep the next run waiting as long.
        if delivery.problem and delivery.problem.startswith(redact(address)):
            silent[address] = delivery.problem
        rows.append(_row(run, delivery.run_id, delivery.pending, delivery.problem))
        for refused in delivery.refused:
            click.echo(f"Warning: run {delivery.run_id or run.key}: {refused}", err=True)
    if not rows:
        click.echo("everything is delivered", err=True)
    if rows or format_ != "table":
        print_rows(rows, format_, ("run", "run_id", "delivered", "pending", "problem"))
    if left:
        first = next(row["problem"] for row in rows if row["pending"])
        raise DeliveryError(f"{left} of {len(rows)} runs couldn't be delivered ({first}); try again later")
    return 0


def _row(run: "LocalRun", run_id: str | None, pending: int, problem: str | None) -> dict[str, Any]:
    return {
        "run": run.header.run_name,
        "run_id": run_id or run.key,
        "delivered": run.pending - pending,
        "pending": pending,
        "problem": problem,
    }

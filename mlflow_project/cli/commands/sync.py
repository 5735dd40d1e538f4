"""`sync`: deliver what a server that was away hasn't got yet."""

import click

from hw2.common.formatting import plural
from mlflow_project.cli.shared.options import MIGRATE_HELP, option
from mlflow_project.cli.shared.output import format_option, print_rows


@click.command(short_help="Upload pending run data to the tracking server.")
@click.argument("runs", nargs=-1, metavar="[RUN_ID]...")
@option("--to", metavar="URI", default=None, help="Where the store of these runs is now, if it was moved.")
@option("--as-new", is_flag=True, help="Make a new run of each that is lost in MLflow, or with its store.")
@option("--migrate", is_flag=True, help=MIGRATE_HELP)
@format_option
def sync(runs: tuple[str, ...], to: str | None, as_new: bool, migrate: bool, format_: str) -> int:
    """Deliver the values of runs that ended, or died, while their tracking server was away.

    Without RUN_ID: all of them. A run that is alive delivers itself and is left alone. No store is ever created:
    name the address of one that was moved with --to.

    \b
    mlflow-project sync
    mlflow-project sync --to sqlite:///archive/mlflow.db
    """
    from mlflow_project.common.errors import DeliveryError
    from mlflow_project.tracking import sync as syncing

    results = syncing.sync(runs, to=to, as_new=as_new, migrate=migrate)
    for result in results:
        for refused in result.refused:
            click.echo(f"Warning: run {result.run_id}: {refused}", err=True)
        for note in result.notes:
            click.echo(f"Note: run {result.run_id}: {note}", err=True)
    if not results:
        click.echo("nothing to upload", err=True)
    if results or format_ != "table":
        columns = ("run", "run_id", "delivered", "pending", "problem")
        print_rows([vars(result) for result in results], format_, columns)
    if late := [result for result in results if result.pending]:
        later = "" if late[0].blocked else "; try again later"
        raise DeliveryError(
            f"{len(late)} of {plural(len(results), 'run')} couldn't be delivered ({late[0].problem}){later}"
        )
    return 0

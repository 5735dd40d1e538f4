"""`report`: one HTML page about several models."""

from pathlib import Path

import click

from mlflow_project.commands.compare import selection, selection_options
from mlflow_project.options import Given


@click.command(short_help="One HTML page about several models, to read, print and send.")
@selection_options
@click.option(
    "--output",
    type=Given(click.Path(dir_okay=False, path_type=Path)),
    default="report.html",
    show_default=True,
    help="The file to write.",
)
def report(
    runs: str | None, sweep: str | None, models: str | None, name: str | None, output: Path | None
) -> int:
    """Write one HTML page about models: data, configurations, figures, verdicts and observations.

    It opens without a server and needs nothing from elsewhere. The latest outlier test of models on the same
    pictures is part of it. Prints the file's path.

    \b
    mlflow-project report --models m1,m2,m3,m4,m5 --output study.html
    mlflow-project report --sweep RUN_ID
    """
    from mlflow_project.connection import client
    from mlflow_project.report import NAME, make_report, write

    html, notes = make_report(client(), selection(runs, sweep, models, name))
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    path = output or Path(NAME)
    write(path, html)
    click.echo(str(path))
    return 0

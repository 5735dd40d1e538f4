"""`report`: one HTML page about several models."""

from pathlib import Path

import click

from mlflow_project.cli.commands.compare import selection, selection_options
from mlflow_project.cli.shared.options import option

NAME = "report.html"


@click.command(short_help="One HTML page about several models, to read, print and send.")
@selection_options
@option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=NAME,
    show_default=True,
    help="The file to write.",
)
def report(runs: str | None, sweep: str | None, models: str | None, name: str, output: Path) -> int:
    """Write one HTML page about models: data, configurations, figures, verdicts and observations.

    It opens without a server and needs nothing from elsewhere. The latest outlier test of models on the same
    images is part of it. Prints the file's path.

    \b
    mlflow-project report --models m1,m2,m3,m4,m5 --output study.html
    mlflow-project report --sweep RUN_ID
    """
    from mlflow_project.reports.page import make_report, write

    html, notes = make_report(selection(runs, sweep, models, name))
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    write(output, html)
    click.echo(str(output))
    return 0

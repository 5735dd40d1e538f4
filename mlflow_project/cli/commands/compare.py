"""`compare` and `report`: verdicts on several models, as text and as one HTML page."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_project.analysis.comparison_text import BY, TABLES, render_comparison
from mlflow_project.cli.shared.options import migrate_option, name_option, option
from mlflow_project.cli.shared.output import format_option

if TYPE_CHECKING:
    from mlflow_project.analysis.run_selection import Selection

_Command = TypeVar("_Command", bound=Callable[..., Any])


def selection_options(command: _Command) -> _Command:
    """Which models are meant; see `selection`."""
    for decorate in (
        name_option,
        option(
            "--models", default=None,
            help='Registered models, with commas: champion,m1,3,"lr=0.1 epochs=8", models:/ and runs:/ URIs.',
        ),
        option("--sweep", default=None, help="Run id of a sweep: all its trials."),
        option(
            "--runs", default=None,
            help="Run ids, with commas. Without any of these: the latest runs of the latest 10 configurations.",
        ),
    ):  # fmt: skip
        command = decorate(command)
    return command


def selection(runs: str | None, sweep: str | None, models: str | None, name: str) -> "Selection":
    """What `selection_options` say."""
    from mlflow_project.analysis.run_selection import Selection
    from mlflow_project.registry.versions import split_models

    ids = [part.strip() for part in (runs or "").split(",")]
    return Selection(tuple(filter(None, ids)), sweep, tuple(split_models(models or "")), name)


@click.command(short_help="Compare models with paired significance tests.")
@selection_options
@option(
    "--table",
    type=click.Choice(TABLES),
    default=None,
    help="Only this table; csv has one table, accuracy unless another is named.",
)
@migrate_option
@option(
    "--by",
    type=click.Choice(BY),
    default=None,
    help="Verdicts on these alone; without it on both, where configurations have several seeds.",
)
@format_option
def compare(
    runs: str | None,
    sweep: str | None,
    models: str | None,
    name: str,
    table: str | None,
    by: str | None,
    format_: str,
) -> int:
    """Compare models, and configurations over their seeds, by stored predictions for the same test images.

    Models that differ in the seed alone are one configuration; its accuracy has a 95 % interval over seeds and
    images, and seeds that didn't train are named. Models have 95 % Wilson intervals and the exact McNemar test with
    Holm's correction; Cochran's Q is over all. Verdicts are in words: the best, what can't be told from it, the rest.
    No model is run.

    \b
    mlflow-project compare --models m1,m2,"lr=0.1 epochs=8"
    mlflow-project compare --sweep RUN_ID --by configuration
    mlflow-project compare --sweep RUN_ID --format csv --table pairs
    """
    from mlflow_project.analysis.compare_runs import compare_runs

    comparison, selected = compare_runs(selection(runs, sweep, models, name))
    for note in selected.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(render_comparison(comparison, format_, table, by))
    return 0


@click.command(short_help="One HTML page about several models, to read, print and send.")
@selection_options
@option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    help="The file to write.",
)
@migrate_option
def report(runs: str | None, sweep: str | None, models: str | None, name: str, output: Path) -> int:
    """Write one HTML page about models: data, configurations, figures, verdicts and observations.

    It opens without a server and needs nothing from elsewhere. The latest outlier test of models on the same
    images is part of it. Prints the file's path.

    \b
    mlflow-project report --models m1,m2,m3,m4,m5 --output study.html
    mlflow-project report --sweep RUN_ID
    """
    from mlflow_project.reports.page import make_report, require_place, write

    require_place(output)  # not after all the work
    html, notes = make_report(selection(runs, sweep, models, name))
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    if output.is_file():
        click.echo(f"Note: {output} was there and is replaced", err=True)
    write(output, html)
    click.echo(str(output))
    return 0

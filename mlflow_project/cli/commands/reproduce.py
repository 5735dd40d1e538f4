"""`reproduce`: the reference study in one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hw2.training.config import LATER
from mlflow_project.cli.commands.sweep import CommaSeparated, engine_options
from mlflow_project.cli.shared.options import (
    IntLike,
    configuration_options,
    data_options,
    migrate_option,
    option,
    split_options,
)
from mlflow_project.cli.shared.output import format_option, print_rows

if TYPE_CHECKING:
    from mlflow_project.common.signals import GracefulShutdown

OUTPUT = "report.html"
_PAIRS = ("train_seconds", "train_accuracy", "test_accuracy")
COLUMNS = ("model", "lr", "epochs", *(p + n for n in _PAIRS for p in ("", "study_")), "study_in_interval")


@click.command(short_help="The five models, the outlier test, the comparison and the report of the study.")
@configuration_options(
    *("lr", "epochs", "batch_size", "optimizer", "momentum", "seed", "dataset", "validation_size", "model"),
    *LATER,
)
@option(
    "--seeds",
    type=CommaSeparated(IntLike(), unique=True),
    default=None,
    help="Seeds of the five configurations; m1 to m5 are the first seed's.  [default: 0]",
)
@data_options
@engine_options
@option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=OUTPUT,
    show_default=True,
    help="Where the report is written; it is also an artifact of the sweep's run.",
)
@migrate_option
@format_option
@click.pass_obj
def reproduce(
    shutdown: "GracefulShutdown",
    /,
    seeds: tuple[int, ...] | None,
    output: Path,
    format_: str,
    **options: Any,
) -> int:
    """Train the study's five models as m1 to m5, test three on Fashion-MNIST, compare them, and report.

    The five share three trainings: 26 epochs instead of 36. Completed work is reused. With several seeds the five
    configurations are compared over them, and the study's observations are answered for its five models and for its
    five configurations.

    \b
    mlflow-project reproduce --data-dir data
    mlflow-project reproduce --data-dir data --seeds 0,1,2,3,4
    """
    from mlflow_project.analysis.comparison_text import CONFIGURATION, render_comparison
    from mlflow_project.cli.shared.console import Console
    from mlflow_project.cli.shared.hints import experiment_command
    from mlflow_project.sweeps import reproduce as reproduction

    base, others = split_options(options)
    with Console() as console:
        done = reproduction.reproduce(
            base, seeds=seeds or (), output=output, listener=console, shutdown=shutdown, **others
        )
    swept = done.sweep
    print_rows(done.rows(), format_, COLUMNS if format_ == "table" else None)
    if format_ == "table":
        if done.over_seeds is not None:
            click.echo(f"\n{render_comparison(done.over_seeds, by=CONFIGURATION)}\n")
            click.echo("\n".join(answer.sentence() for answer in done.answers))
        click.echo(f"\n{render_comparison(done.comparison)}")
    click.echo(experiment_command(swept.folder, swept.plan.table, swept.best_runs()), err=True)
    return 0

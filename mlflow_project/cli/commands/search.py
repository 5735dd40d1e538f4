"""`search`: the best configuration within a budget."""

from typing import TYPE_CHECKING, Any

import click

from mlflow_project.cli.commands.sweep import engine_options
from mlflow_project.cli.shared.options import (
    IntLike,
    configuration_options,
    data_options,
    option,
    split_options,
    switch_option,
)
from mlflow_project.cli.shared.output import format_option, print_rows

if TYPE_CHECKING:
    from mlflow_project.common.signals import GracefulShutdown

COLUMNS = ("run", "state", "epochs", "validation_accuracy", "test_accuracy", "run_id")
_AXES = ("lr", "batch_size", "momentum", "epochs", "budget")


@click.command(short_help="Search the best configuration within a budget.")
@option("--lr", help="Learning rates: LOW..HIGH or a list.  [default: 0.001..0.3]")
@option("--batch-size", help="Batch sizes: LOW..HIGH or a list.  [default: 32,64,128]")
@option("--momentum", help="Momenta: LOW..HIGH or a list.  [default: 0.0]")
@option("--epochs", help="Epochs of the first rung and of the last: LOW..HIGH.  [default: 1..27]")
@option("--trials", type=IntLike(), default=40, help="Trials at most.  [default: 40]")
@option(
    "--budget",
    help="What all trials may take: 60epochs, or training time such as 30min or 2h.  [default: 60epochs]",
)
@option(
    "--reduction", type=IntLike(), default=3,
    help="One in so many goes on to the next rung, which has so many times the epochs.  [default: 3]",
)  # fmt: skip
@option(
    "--sampler",
    type=click.Choice(("tpe", "random")),
    default="tpe",
    help="What proposes: Optuna's TPE, or chance.  [default: tpe]",
)
@option("--sampler-seed", type=IntLike(), default=0, help="Random seed of the proposals.  [default: 0]")
@option(
    "--study", help="Where Optuna records the search: an address or a file.  [default: in the state folder]"
)
@configuration_options("lr", "batch_size", "momentum", "epochs")
@data_options
@engine_options
@switch_option("register", "Register the models that are tested.", True)
@format_option
@click.pass_obj
def search(shutdown: "GracefulShutdown", /, format_: str, **options: Any) -> int:
    """Search the best configuration within a budget: one run a trial, below a run for the search.

    Optuna proposes, and trials are compared after each rung: one in three goes on, in its own run, from its checkpoint.
    Validation accuracy alone decides; the winner, and what can't be told from it, are tested at the end. The same
    command again goes on where it was interrupted.

    \b
    mlflow-project search --lr 0.001..0.3 --batch-size 32,64,128 --epochs 1..27 --trials 40 --budget 60epochs
    mlflow-project search --lr 0.01,0.03,0.1 --epochs 2..18 --budget 30min --workers 2
    """
    from mlflow_project.cli.shared.console import Console
    from mlflow_project.cli.shared.hints import experiment_command
    from mlflow_project.searches.request import SearchSpec
    from mlflow_project.searches.search import run_search

    axes = {name: options.pop(name) for name in _AXES}
    base, others = split_options(options)
    spec = SearchSpec.of(base, **axes, **others)
    with Console() as console:
        result = run_search(spec, console, shutdown)
    print_rows(result.rows, format_, COLUMNS if format_ == "table" else None)
    click.echo(result.verdict, err=format_ != "table")
    click.echo(experiment_command(result.folder, result.table, result.tested), err=True)
    result.require_delivery()
    return 0

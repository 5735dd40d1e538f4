"""`sweep`: a grid of configurations, of which nothing is computed twice; `search`: the best within a budget."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_project.cli.shared.options import (
    IntLike,
    TupleType,
    configuration_options,
    data_options,
    migrate_option,
    option,
    split_options,
    switch_option,
)
from mlflow_project.cli.shared.output import format_option, print_rows

if TYPE_CHECKING:
    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.sweeps.request import SweepPreview

ENGINES = ("local", "ray")
SEARCH_COLUMNS = ("run", "state", "epochs", "validation_accuracy", "test_accuracy", "run_id")
_TEXTS = ("lr", "batch_size", "momentum", "epochs", "budget")
_Command = TypeVar("_Command", bound=Callable[..., Any])


class CommaSeparated(TupleType):
    """Comma-separated values; repeated ones count once, unless each must be `unique`."""

    def __init__(self, inner: "click.ParamType[Any] | type", unique: bool = False) -> None:
        self.inner = click.types.convert_type(inner)
        self.unique = unique
        self.name = f"{self.inner.name},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple; fail, naming the value, where one isn't of the inner type."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if "" in parts:
            self.fail(
                f"{value!r} has an empty place; write values with single commas between them", param, ctx
            )
        values = [self.inner.convert(part, param, ctx) for part in parts]
        twice = next((number for number in values if values.count(number) > 1), None)
        if self.unique and twice is not None:
            self.fail(f"{value!r} has {twice} twice; give each once", param, ctx)
        return tuple(dict.fromkeys(values))


def _axis(name: str, type_: "click.ParamType[Any] | type", help_: str) -> Callable[[_Command], _Command]:
    return option(f"--{name}", type=CommaSeparated(type_), default=None, help=help_)


def engine_options(command: _Command) -> _Command:
    """Add the options that say where the jobs run."""
    for decorate in (
        option("--address", help="Of the Ray cluster; without it, one is started on this machine."),
        option(
            "--workers", type=IntLike(), default=1,
            help="Parallel workers; without --threads, the threads are divided among them.  [default: 1]",
        ),
        option(
            "--engine", type=click.Choice(ENGINES), default=ENGINES[0],
            help="local: processes of this machine; ray: a Ray cluster.  [default: local]",
        ),
    ):  # fmt: skip
        command = decorate(command)
    return command


@click.command(short_help="Run a grid sweep; completed trials are reused.")
@_axis("lr", float, "Learning rates.  [default: 0.001]")
@_axis(
    "epochs",
    IntLike(),
    "Numbers of epochs; configurations that differ in these alone share a training, except with --schedule cosine or "
    "one-cycle.  [default: 10]",
)
@_axis("seeds", IntLike(), "Seeds.  [default: 0]")
@_axis("batch-size", IntLike(), "Batch sizes.  [default: 64]")
@configuration_options("lr", "epochs", "seed", "batch_size")
@data_options
@engine_options
@switch_option("register", "Register the models.", True)
@switch_option("dry-run", "Only print the plan.", False)
@migrate_option
@format_option
@click.pass_obj
def sweep(
    shutdown: "GracefulShutdown",
    /,
    lr: tuple[float, ...] | None,
    epochs: tuple[int, ...] | None,
    seeds: tuple[int, ...] | None,
    batch_size: tuple[int, ...] | None,
    dry_run: bool,
    format_: str,
    **options: Any,
) -> int:
    """Train every configuration of a grid as one run each, below a run for the grid.

    Configurations that differ in epochs alone share one training. Completed trials are reused and interrupted ones
    resumed: the same command again does only what is missing.

    \b
    mlflow-project sweep --lr 0.1,0.01 --epochs 5,8
    mlflow-project sweep --lr 0.1,0.01 --seeds 0,1,2 --workers 2 --dry-run
    """
    from mlflow_project.cli.shared.console import Console
    from mlflow_project.cli.shared.hints import experiment_command
    from mlflow_project.sweeps import sweep as sweeping
    from mlflow_project.sweeps.parent_run import SHOWN
    from mlflow_project.sweeps.plan import Grid
    from mlflow_project.sweeps.request import SweepSpec, preview

    base, others = split_options(options)
    grid = Grid.of(base, lr, epochs, batch_size, seeds)
    request = SweepSpec(name=grid.name, configs=grid.configs(), **others)
    with Console() as console:
        if dry_run:
            with shutdown:
                planned = preview(request, console)
                shutdown.check()
        else:
            result = sweeping.run_request(request, console, shutdown)
    if dry_run:
        return _print_plan(planned, format_)
    print_rows(result.rows(), format_, ("run", "state", "run_id", *SHOWN) if format_ == "table" else None)
    click.echo(experiment_command(result.folder, result.plan.table, result.best_runs()), err=True)
    result.raise_failure()
    return 0


def _print_plan(planned: "SweepPreview", format_: str) -> int:
    """Print the plan to stdout, and a line about how much there is to do to stderr."""
    from mlflow_project.sweeps.plan import rows
    from mlflow_project.sweeps.request import plan_line

    print_rows(rows(planned.plan), format_)
    click.echo(plan_line(planned), err=True)
    return 0


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
@migrate_option
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

    axes = {name: options.pop(name) for name in _TEXTS}
    base, others = split_options(options)
    spec = SearchSpec.of(base, **axes, **others)
    with Console() as console:
        result = run_search(spec, console, shutdown)
    print_rows(result.rows, format_, SEARCH_COLUMNS if format_ == "table" else None)
    click.echo(result.verdict, err=format_ != "table")
    click.echo(experiment_command(result.folder, result.table, result.tested), err=True)
    result.require_delivery()
    return 0

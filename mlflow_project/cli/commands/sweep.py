"""`sweep`: a grid of configurations, of which nothing is computed twice."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_project.cli.shared.options import (
    IntLike,
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
_Command = TypeVar("_Command", bound=Callable[..., Any])


class CommaSeparated(click.ParamType["tuple[Any, ...]"]):
    """Comma-separated values; repeated ones count once, unless each must be `unique`."""

    def __init__(self, inner: click.ParamType[Any] | type, unique: bool = False) -> None:
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


def _axis(name: str, type_: click.ParamType[Any] | type, help_: str) -> Callable[[_Command], _Command]:
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
    "Numbers of epochs; configurations that differ in these alone share a training.  [default: 10]",
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

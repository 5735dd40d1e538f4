"""`sweep`: a grid of configurations, of which nothing is computed twice."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_project.options import (
    WholeNumber,
    configuration,
    configuration_options,
    data_options,
    option,
    switch_option,
)
from mlflow_project.output import format_option, print_rows
from mlflow_project.sweep_request import ENGINES, checked_request, plan_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_project.console import Console
    from mlflow_project.parent import Parent
    from mlflow_project.sweep_request import Planned, Prepared

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Several(click.ParamType["tuple[Any, ...]"]):
    """Values with commas between them; one that comes twice counts once."""

    def __init__(self, inner: click.ParamType[Any] | type) -> None:
        self.inner = click.types.convert_type(inner)
        self.name = f"{self.inner.name},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple; fails, naming the value, where one isn't of the inner type."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if "" in parts:
            self.fail(
                f"{value!r} has an empty place; write values with single commas between them", param, ctx
            )
        return tuple(dict.fromkeys(self.inner.convert(part, param, ctx) for part in parts))


def _axis(name: str, type_: click.ParamType[Any] | type, help_: str) -> Callable[[_Command], _Command]:
    return option(f"--{name}", type=Several(type_), default=None, help=help_)


def engine_options(command: _Command) -> _Command:
    """Where the trainings are carried out."""
    for decorate in reversed(
        (
            option(
                "--engine",
                type=click.Choice(ENGINES),
                default=ENGINES[0],
                help="local: processes of this machine; ray: a Ray cluster.  [default: local]",
            ),
            option(
                "--workers",
                type=WholeNumber(),
                default=1,
                help="Trainings at a time; without --threads, the threads are divided among them.  [default: 1]",
            ),
            option(
                "--address",
                default=None,
                help="Of the Ray cluster; without it, one is started on this machine.",
            ),
        )
    ):
        command = decorate(command)
    return command


@click.command(short_help="Train a grid of configurations, doing only what is missing.")
@_axis("lr", float, "Learning rates.  [default: 0.001]")
@_axis(
    "epochs",
    WholeNumber(),
    "Numbers of epochs; configurations that differ in these alone share a training.  [default: 10]",
)
@_axis("seeds", WholeNumber(), "Seeds.  [default: 0]")
@_axis("batch-size", WholeNumber(), "Batch sizes.  [default: 64]")
@configuration_options("lr", "epochs", "seed", "batch_size")
@data_options
@engine_options
@switch_option("register", "Register the models.", True)
@switch_option("dry-run", "Only print the plan.", False)
@format_option
def sweep(
    lr: tuple[float, ...] | None,
    epochs: tuple[int, ...] | None,
    seeds: tuple[int, ...] | None,
    batch_size: tuple[int, ...] | None,
    data_dir: Path | None,
    download: bool,
    engine: str,
    workers: int,
    address: str | None,
    register: bool,
    dry_run: bool,
    format_: str,
    **given: Any,
) -> int:
    """Train every configuration of a grid as one run each, below a run for the grid.

    Configurations that differ in epochs alone share one training. What was completed before is used again, and
    what was interrupted goes on: the same command again does only what is missing.

    \b
    mlflow-project sweep --lr 0.1,0.01 --epochs 5,8
    mlflow-project sweep --lr 0.1,0.01 --seeds 0,1,2 --workers 2 --dry-run
    """
    from mlflow_project.console import Console
    from mlflow_project.interruption import Interruption
    from mlflow_project.links import experiment_command
    from mlflow_project.parent import SHOWN, summary
    from mlflow_project.sweep import Grid
    from mlflow_project.sweep_request import prepare, preview
    from mlflow_project.sweeping import add_report, carry_out, raise_failure

    base = configuration(**given)
    grid = Grid(
        base,
        lr or (base.lr,),
        epochs or (base.epochs,),
        batch_size or (base.batch_size,),
        seeds or (base.seed,),
    )
    request = checked_request(
        grid.name, grid.configs(), data_dir, download, register, engine, workers, address
    )
    with Interruption() as interruption, Console() as console:
        if dry_run:
            planned = preview(request, console)
            interruption.check()
            return print_plan(planned, format_)
        prepared = prepare(request, console)
        interruption.check()
        with open_parent(prepared, console) as parent:
            results = carry_out(prepared, parent, console, interruption)
            add_report(prepared, parent, console)
    columns = ("run", "state", "run_id", *SHOWN) if format_ == "table" else None
    print_rows(summary(prepared.plan, results), format_, columns)
    click.echo(experiment_command(parent.journal.folder), err=True)
    raise_failure(prepared.plan, results)
    return 0


def print_plan(planned: "Planned", format_: str) -> int:
    """What would be done, on stdout; how much of it there is, on stderr."""
    from mlflow_project.sweep import rows

    print_rows(rows(planned.plan), format_)
    click.echo(plan_line(planned), err=True)
    return 0


@contextmanager
def open_parent(prepared: "Prepared", console: "Console") -> "Iterator[Parent]":
    """The run of the grid, and one line of what will happen; at its end, however it comes, what isn't delivered."""
    from mlflow_project.commands.train import NAME_SECONDS
    from mlflow_project.database import shown
    from mlflow_project.parent import Parent

    console.note(plan_line(prepared))
    parent = Parent(prepared.plan, prepared.request.name, console)
    run_id = parent.wait_for_id(NAME_SECONDS)
    named = run_id or f"{parent.journal.header.key} (the server hasn't named it yet)"
    again = "goes on in" if parent.resumed else "is"
    console.note(f"the sweep {again} run {named} in {shown(parent.journal.header.tracking_uri)}")
    try:
        with parent:
            yield parent
    finally:
        _warn_undelivered(parent, console)


def _warn_undelivered(parent: "Parent", console: "Console") -> None:
    """Says what the server hasn't got of an ended sweep, and what it will never take."""
    delivery = parent.delivery
    assert delivery is not None
    for refused in dict.fromkeys(
        [*delivery.refused, *(r for x in parent.results.values() for r in x.refused)]
    ):
        console.warning(refused)
    pending = delivery.pending + sum(result.undelivered for result in parent.results.values())
    if pending:
        problem = f" ({delivery.problem})" if delivery.problem else ""
        console.warning(
            f"{pending:,} values are not delivered yet{problem}; deliver them with: mlflow-project sync"
        )

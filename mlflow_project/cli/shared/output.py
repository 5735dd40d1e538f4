"""Results on stdout, as a table to read or as JSON or CSV for another program."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from mlflow_project.cli.shared.options import option
from mlflow_project.common.tables import FORMATS, Row, render

_Command = TypeVar("_Command", bound=Callable[..., Any])


def format_option(command: _Command) -> _Command:
    """Add the option that every listing command has."""
    choice = click.Choice(FORMATS)
    decorate = option(
        "--format", "format_", type=choice, default=FORMATS[0], show_default=True, help="Output format."
    )
    decorated: _Command = decorate(command)
    return decorated


def print_rows(rows: Sequence[Row], format_: str, columns: Sequence[str] | None = None) -> None:
    """Print rows to stdout."""
    click.echo(render(rows, format_, columns))

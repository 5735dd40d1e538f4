"""Results on stdout, as a table to read or as JSON or CSV for another program."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
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


@contextmanager
def results_alone_on_stdout() -> Iterator[None]:
    """What is printed meanwhile, by a net or a library, in Python or beneath it, goes to stderr."""
    sys.stdout.flush()
    with ExitStack() as stack:
        with suppress(OSError):  # one of the two was closed
            stdout = os.dup(1)
            stack.callback(os.close, stdout)
            stack.callback(os.dup2, stdout, 1)
            stack.callback(ctypes.CDLL(None).fflush, None)
            os.dup2(2, 1)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield

"""The command line: which commands there are, and how each ends."""

import atexit
import gc
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from hw2.common.errors import ConfigurationError, Hw2Error
from mlflow_project.common.bounded_exit import bound_exit
from mlflow_project.common.errors import Interrupted, ServiceError
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.common.text import printable

PROGRAM = "mlflow-project"

# Each command's module is imported when it is needed: `--help` must not wait for PyTorch or MLflow.
COMMANDS = {
    "train": "mlflow_project.cli.commands.train:train",
    "sweep": "mlflow_project.cli.commands.sweep:sweep",
    "search": "mlflow_project.cli.commands.sweep:search",
    "reproduce": "mlflow_project.cli.commands.reproduce:reproduce",
    "models": "mlflow_project.cli.commands.models:models",
    "outliers": "mlflow_project.cli.commands.outliers:outliers",
    "compare": "mlflow_project.cli.commands.compare:compare",
    "report": "mlflow_project.cli.commands.compare:report",
    "predict": "mlflow_project.cli.commands.predict:predict",
    "sync": "mlflow_project.cli.commands.sync:sync",
    "serve": "mlflow_project.cli.commands.serve:serve",
    "status": "mlflow_project.cli.commands.status:status",
    "backup": "mlflow_project.cli.commands.backup:backup",
    "restore": "mlflow_project.cli.commands.backup:restore",
}


WRITING = ("train", "sweep", "search", "reproduce", "outliers")
"""Commands that write a run, and take the one that MLFLOW_RUN_ID names."""


class _Commands(click.Group):
    """Find commands by `COMMANDS`, in that order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not near or args[0].startswith("-"):
                raise
            raise click.UsageError(f"{error.format_message()} Did you mean {near[0]!r}?", ctx) from error


@click.group(
    cls=_Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        # `mlflow run -P batch_size=128` starts us with --batch_size 128.
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
)
@click.version_option(package_name="mlflow-project", prog_name=PROGRAM)
def cli() -> None:
    """Experiment tracking for small image classifiers, on MLflow.

    \b
    mlflow-project train --lr 0.1 --epochs 8
    """


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 it could not be done, 2 wrong usage, 128 + n on signal n."""
    tune_gc()
    status = run(arguments)
    bound_exit(status)
    sys.exit(status)


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status. What a person can cause is one line on stderr, no traceback."""
    _quiet_libraries()
    shutdown = GracefulShutdown()  # each command that can stop in the middle opens it
    command_line = sys.argv[1:] if arguments is None else arguments
    try:
        result: Any = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False, obj=shutdown)
        if shutdown.requested:
            _restore_status()
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        return _say("stopped", 130)
    except click.UsageError as error:
        return _say(_usage(error), error.exit_code, command_line)
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code, command_line)
    except ConfigurationError as error:
        return _say(str(error), 2, command_line)
    except Hw2Error as error:
        return _say(str(error), 1, command_line)
    except Interrupted as error:
        _restore_status()
        return _say(str(error), error.exit_status)
    except ServiceError as error:
        return _say(str(error), error.exit_status, command_line)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    except BrokenPipeError:
        # The reader of our stdout has left; nothing is wrong, and nothing more can be written to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _restore_status() -> None:
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        from mlflow_project.cli.mlflow_run import restore_status
        from mlflow_project.tracking.new_run import has_claimed

        if has_claimed(run_id):
            restore_status(run_id)


def _usage(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else PROGRAM
    return f"{error.format_message().rstrip('.')}. See: {command} --help"


def _say(message: str, status: int, arguments: Sequence[str] = ()) -> int:
    first, *_ = message.splitlines() or [""]
    click.echo(f"Error: {printable(first)}", err=True)
    _mark_given_run(first, status, arguments)
    return status


def _mark_given_run(reason: str, status: int, arguments: Sequence[str]) -> None:
    """Mark the run that `mlflow run` made for this command, where it has not begun to write it, as failed."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    if run_id and status in (1, 2) and arguments and arguments[0] in WRITING:
        from mlflow_project.cli.mlflow_run import mark_failed

        mark_failed(run_id, reason)


def tune_gc() -> None:
    """Look for garbage seldom, and not at the exit: this process lives for one command."""
    # What the libraries make while they are imported stays. Searched every 700 objects and once more at the exit,
    # it took half a second of the one and one and a half of the other.
    gc.set_threshold(50_000, 50, 100)
    atexit.register(gc.freeze)


def _quiet_libraries() -> None:
    # MLflow and Alembic greet on every start of a store; what a person needs to know, our commands print.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)

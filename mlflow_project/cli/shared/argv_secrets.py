"""An address with a password among a command's arguments: taken out of what `ps` shows to everybody."""

import os
import re
import sys

import click

from mlflow_project.common.store_uri import STORE_VARIABLE, redact, secrets


def reexec_without_password(store: str) -> None:
    """Restart this program with the address in the environment, if its password is among the arguments.

    Raises:
        UsageError: Programs that read the address would take different parts of it for the password.
    """
    if not secrets(store):
        return
    arguments = _drop_option(sys.argv[1:], store)
    if arguments == sys.argv[1:]:
        _refuse_unencoded(store)
        return
    click.echo(
        "Warning: a password among the arguments is seen by `ps`; this start hides it, but your shell remembers it",
        err=True,
    )
    command = [sys.executable, "-m", "mlflow_project", *arguments]
    os.execve(sys.executable, command, {**os.environ, STORE_VARIABLE: store})


def _refuse_unencoded(store: str) -> None:
    # For SQLAlchemy the first @ ends the password, for others the last one or a slash: they might print the rest.
    if re.match(r"[^:/]*://[^:/@]*:([^@]*[/?#\[\]][^@]*@|[^@]*@[^?]*(\?[^=]*)?@)", store):
        from mlflow_project.common.errors import UsageError

        raise UsageError(
            f"the password in {redact(store)} has characters that stand for something else in an address; write "
            "/ as %2F, ? as %3F, # as %23, @ as %40, [ as %5B, ] as %5D and % as %25"
        )


def _drop_option(arguments: list[str], store: str) -> list[str]:
    """Return the arguments without `--store URL` and `--store=URL`."""
    left: list[str] = []
    for argument in arguments:
        if argument == store and left and left[-1] == "--store":
            left.pop()
        elif argument != f"--store={store}":
            left.append(argument)
    return left

"""The configuration of MLflow's basic authentication: users, permissions, the administrator's password."""

import os
import secrets
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from mlflow_project.common.errors import UsageError
from mlflow_project.common.store_uri import sqlite_path
from mlflow_project.server.store import connected

ADMINISTRATOR = "admin"
DEFAULT_PERMISSION = "READ"
MIN_LENGTH = 12
PASSWORD_VARIABLE = "MLFLOW_AUTH_ADMIN_PASSWORD"
# Hashing a password takes half a second, so a worker remembers a correct one for this long. It is also how long the
# other workers still take a password that was changed.
CACHE_SECONDS = 60


@dataclass(frozen=True)
class Authentication:
    """The environment of the server's process, and what is shown to a person."""

    environment: dict[str, str] = field(repr=False)
    generated: str | None = field(default=None, repr=False)
    """The administrator's password, if it was generated; to be shown once."""
    mismatched_source: str | None = None
    """A file or variable whose password isn't the administrator's."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what the server must never print."""
        return tuple(
            value for key, value in self.environment.items() if key != "MLFLOW_AUTH_CONFIG_PATH" and value
        )


def prepare(store: str, password_file: Path | None, folder: Path) -> Authentication:
    """Write the configuration; the users are in the store, in tables of their own.

    A password is needed at the first start alone, which creates the administrator.

    Args:
        store: The store's URI.
        password_file: Where the administrator's password is.
        folder: A private folder for the configuration.

    Raises:
        UsageError: A package or a password is missing.
    """
    if find_spec("flask_wtf") is None:
        raise UsageError("--auth needs another package: in the project's folder, pip install '.[auth]'")
    password = generated = mismatched = None
    stored = _stored_hash(store)
    if stored is None:
        password = _provided_password(password_file)
        if password is None:
            password = generated = _generate()
    else:
        mismatched = _mismatched_source(stored, password_file)
    file = folder / "authentication.ini"
    values = {
        "default_permission": DEFAULT_PERMISSION,
        "database_uri": store.replace("%", "%%"),
        "admin_username": ADMINISTRATOR,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": CACHE_SECONDS,
    }
    lines = [f"{key} = {value}" for key, value in values.items()]
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write("\n".join(["[mlflow]", *lines, ""]))
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(file),
        # It protects the forms of MLflow's pages; a form that was open during a restart has to be loaded again.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": os.environ.get("MLFLOW_FLASK_SERVER_SECRET_KEY")
        or secrets.token_hex(32),
    }
    if password is not None:
        environment[PASSWORD_VARIABLE] = password
    return Authentication(environment, generated, mismatched)


def _stored_hash(store: str) -> str | None:
    """Return the hash of the administrator's password in the store; None before the first start."""
    path = sqlite_path(store)
    if path is not None and not path.exists():
        return None  # a connection would create it
    import sqlalchemy

    with connected(store) as connection:
        if "users" not in sqlalchemy.inspect(connection).get_table_names():
            return None
        query = sqlalchemy.text("SELECT password_hash FROM users WHERE username = :name")
        return connection.execute(query, {"name": ADMINISTRATOR}).scalar_one_or_none()


def _mismatched_source(stored: str, file: Path | None) -> str | None:
    """Return the source of a password that isn't the administrator's."""
    from werkzeug.security import check_password_hash

    try:
        password = _provided_password(file)
        matches = password is None or check_password_hash(stored, password)
    except (UsageError, ValueError):  # not needed any more
        return None
    return None if matches else str(file or PASSWORD_VARIABLE)


def _provided_password(file: Path | None) -> str | None:
    source = f"{PASSWORD_VARIABLE} has"
    password = os.environ.get(PASSWORD_VARIABLE)
    if file is not None:
        try:
            password = file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the administrator's password can't be read from {file}: {getattr(error, 'strerror', 'not text')}"
            ) from None
        source = f"{file} has"
    if password is not None and len(password) < MIN_LENGTH:
        raise UsageError(
            f"{source} {len(password)} characters; the administrator's password needs {MIN_LENGTH} or more"
        )
    return password


def _generate() -> str:
    if not sys.stderr.isatty():
        raise UsageError(
            "there is no terminal to show a new administrator's password on, and it must not get into a log; "
            f"give one by --admin-password-file FILE or {PASSWORD_VARIABLE}"
        )
    return secrets.token_urlsafe(18)

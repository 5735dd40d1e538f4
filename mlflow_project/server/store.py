"""The database of a server: examined before anything is started, made once, and never changed by the wrong version.

python -m mlflow_project.server.store    makes the tables of the store named in MLFLOW_BACKEND_STORE_URI
"""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import StoreError, UsageError
from mlflow_project.common.store_uri import (
    STORE_VARIABLE,
    quote_path,
    redact,
    scrub,
    sqlite_path,
    with_driver,
)
from mlflow_project.tracking.delivery.store_check import alembic_revisions

if TYPE_CHECKING:
    import sqlalchemy

CONNECT_SECONDS = 5
_MAKE_SECONDS = 300
# Any number that no other program locks in this database.
_ADVISORY_LOCK = 5_241_018


def prepare(uri: str) -> str:
    """Return the store's address for the server, with its tables created.

    Raises:
        StoreError: The store can't be used; nothing was changed.
    """
    uri = validate_uri(uri)
    if not is_initialized(uri):
        _create_schema(uri)
        if not is_initialized(uri):
            raise StoreError(f"{redact(uri)} has no tables after they were created; use another store")
    path = sqlite_path(uri)
    if path is not None:
        with _sqlite(uri, path) as connection:
            # Readers and a writer don't wait for each other then. The file remembers it.
            connection.execute("PRAGMA journal_mode=WAL")
    return uri


def validate_uri(uri: str) -> str:
    """Return the address with its driver and an absolute path.

    Raises:
        UsageError: It isn't the address of a store that can be served.
        StoreError: Its folder doesn't exist.
    """
    scheme, _, driver = uri.partition("://")[0].partition("+")
    if scheme in ("http", "https"):
        raise UsageError(
            f"--store is the database behind the server (sqlite:///..., postgresql://...), not {redact(uri)}"
        )
    if scheme in ("postgresql", "postgres"):
        if not driver and find_spec("psycopg") is None:
            raise UsageError(
                "a PostgreSQL store needs its driver: in the project's folder, pip install '.[postgres]'"
            )
        return with_driver(uri)
    path = sqlite_path(uri)
    if path is None or path.name in ("", ":memory:"):
        raise UsageError(f"--store is {redact(uri)}; it must be sqlite:///FILE or postgresql://...")
    if not path.absolute().parent.is_dir():
        raise StoreError(
            f"there is not a folder {path.absolute().parent} for the store {path}; make it first"
        )
    return f"sqlite:///{quote_path(path.absolute())}"


def is_initialized(uri: str) -> bool:
    """Return whether the database has this MLflow's tables, and not whether it is empty. Reads only.

    Raises:
        StoreError: It doesn't answer within seconds, holds other tables, or is of another MLflow version.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return False
    with connected(uri) as connection:
        import sqlalchemy

        tables = sqlalchemy.inspect(connection).get_table_names()
        if "alembic_version" not in tables:
            if tables:
                raise StoreError(
                    f"{redact(uri)} holds tables that aren't MLflow's; give a database of its own"
                )
            return False
        rows = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).fetchall()
    revision = rows[0][0] if rows else None
    known, latest = alembic_revisions()
    if revision == latest:
        return True
    from importlib.metadata import version

    ours = f"MLflow {version('mlflow')}"
    if revision not in known:
        raise StoreError(
            f"{redact(uri)} was written by a newer MLflow than {ours} (its tables are of version {revision}); "
            "nothing was changed; serve it with that MLflow"
        )
    raise StoreError(
        f"{redact(uri)} was written by an older MLflow than {ours}; make a backup (mlflow-project backup), "
        "then bring it up to date with: mlflow db upgrade URL (a password in PGPASSWORD, not in URL)"
    )


@contextmanager
def connected(uri: str) -> "Iterator[sqlalchemy.Connection]":
    """Connect within seconds.

    Raises:
        StoreError: Any error of the connection, in one line without a password.
    """
    import sqlalchemy

    limits: dict[str, Any] = {"timeout": CONNECT_SECONDS}
    if sqlite_path(uri) is None:
        limits = {
            "connect_timeout": CONNECT_SECONDS,
            "options": f"-c statement_timeout={1000 * CONNECT_SECONDS}",
        }
    try:
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=limits)
        with engine.connect() as connection:
            yield connection
    except (sqlalchemy.exc.SQLAlchemyError, ValueError, ImportError) as error:
        raise StoreError(_explain(error, uri)) from None  # its cause may show the password


def _explain(error: Exception, uri: str) -> str:
    text = " ".join(str(getattr(error, "orig", None) or error).split())
    if "password authentication failed" in text or "no password supplied" in text:
        return f"{redact(uri)} rejects this user or password; give another"
    if "timeout" in text or "timed out" in text:
        return f"{redact(uri)} didn't answer within {CONNECT_SECONDS} s"
    if any(
        words in text
        for words in ("refused", "resolve host", "Name or service", "No such file", "unreachable")
    ):
        return f"{redact(uri)} is unreachable; is the database running there?"
    if "file is not a database" in text:
        return f"{redact(uri)} is not a SQLite database; choose another file"
    if "unable to open" in text or "readonly" in text:
        return f"{redact(uri)} can't be opened or written by this user"
    return f"{redact(uri)} can't be used: {scrub(text, uri)[:200]}"


@contextmanager
def _sqlite(uri: str, path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=CONNECT_SECONDS)
    try:
        yield connection
    except sqlite3.Error as error:
        raise StoreError(_explain(error, uri)) from error
    finally:
        connection.close()


def _create_schema(uri: str) -> None:
    # In a process of its own: what watches over the server for months should not hold MLflow in memory.
    command = [sys.executable, "-m", "mlflow_project.server.store"]
    environment = {**os.environ, STORE_VARIABLE: uri}
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_MAKE_SECONDS,
            check=False,
            encoding="utf-8",
        )
    except subprocess.TimeoutExpired:
        raise StoreError(f"{redact(uri)} took more than {_MAKE_SECONDS} s to be created") from None
    if done.returncode:
        raise StoreError(scrub((done.stderr.strip().splitlines() or ["no reason given"])[-1], uri))


def _make_here(uri: str) -> None:
    from mlflow_project.tracking.delivery.client import open_client

    if sqlite_path(uri) is not None:
        open_client(uri)  # under a lock
        return
    import sqlalchemy

    with connected(uri) as connection:
        connection.execute(sqlalchemy.text("SET statement_timeout = 0"))
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})"))
        client = open_client(uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)


if __name__ == "__main__":
    from mlflow_project.tracking.delivery.client import mlflow_errors

    try:
        with mlflow_errors(os.environ[STORE_VARIABLE]):
            _make_here(os.environ[STORE_VARIABLE])
    except StoreError as error:
        sys.exit(str(error))

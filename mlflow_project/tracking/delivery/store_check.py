"""A database, looked at before MLflow opens it, which would migrate an older one and try a broken one for minutes."""

import os
import re
import sqlite3
from contextlib import closing
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from mlflow_project.common.errors import OlderStoreError, StoreError
from mlflow_project.common.store_uri import redact, sqlite_path, with_driver
from mlflow_project.tracking.delivery.error_policy import describe_error

_CONNECT_SECONDS = 5
_DATABASES = ("sqlite", "postgresql", "postgres", "mysql", "mssql")
_up_to_date: set[str] = set()


def require_current_store(uri: str) -> None:
    """Check, without changing anything, that MLflow can open a store, and needn't migrate it for that.

    A server is not asked. A database that is locked passes: it will be free again.

    Raises:
        OlderStoreError: It was written by an older MLflow.
        StoreError: It can't be opened, or was written by a newer MLflow.
    """
    if uri.partition(":")[0].partition("+")[0] not in _DATABASES or uri in _up_to_date:
        return
    revision = _revision(uri)
    if revision is None:
        return
    known, latest = alembic_revisions()
    if revision == latest:
        if sqlite_path(uri) is None:
            _up_to_date.add(uri)
        return
    ours = f"MLflow {version('mlflow')}"
    if revision not in known:
        raise StoreError(
            f"{redact(uri)} was written by a newer MLflow than {ours} (its tables are of version {revision}); "
            "nothing was changed; use that MLflow"
        )
    raise OlderStoreError(
        f"{redact(uri)} was written by an older MLflow than {ours}, and nothing was changed; once migrated, the older "
        "one can't open it any more: make a backup (mlflow-project backup), then add --migrate"
    )


@lru_cache(maxsize=1)
def alembic_revisions() -> tuple[frozenset[str], str]:
    """Return all revisions of the tables that the installed MLflow knows, and the latest.

    Read from its migrations' files: importing MLflow for it takes seconds.
    """
    spec = find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"
    revisions: set[str] = set()
    before: set[str] = set()
    for file in folder.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        revisions.update(re.findall(r"""^revision(?:\s*:[^=]*)?\s*=\s*["'](\w+)["']""", text, re.MULTILINE))
        for line in re.findall(r"^down_revision(?:\s*:[^=]*)?\s*=\s*(.*)", text, re.MULTILINE):
            before.update(re.findall(r"\w+", line))
    (latest,) = revisions - before
    return frozenset(revisions), latest


def _revision(uri: str) -> str | None:
    """Return the version of a store's tables; None where there are none yet, or nobody can tell now."""
    path = sqlite_path(uri)
    return _server_revision(uri) if path is None else _sqlite_revision(path)


def _sqlite_revision(path: Path) -> str | None:
    try:
        if not os.path.lexists(path):
            if not path.parent.is_dir():
                raise StoreError(
                    f"the store {path} can't be opened: there is not a folder {path.parent}; make it first"
                )
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise PermissionError(f"its folder {path.parent} can't be written by this user")
            return None
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        with closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_CONNECT_SECONDS)
        ) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, OSError) as error:
        if "locked" in str(error) or "no such table" in str(error):
            return None
        raise StoreError(
            f"the store {path} can't be opened ({error}); check its permissions, or name another store by "
            "MLFLOW_TRACKING_URI"
        ) from error
    return row and str(row[0])


def _server_revision(uri: str) -> str | None:
    import sqlalchemy

    is_postgres = uri.startswith("postgres")
    limits = {"connect_timeout": _CONNECT_SECONDS} if is_postgres else {}
    try:
        engine = sqlalchemy.create_engine(
            with_driver(uri) if is_postgres else uri, poolclass=sqlalchemy.NullPool, connect_args=limits
        )
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return None
            rows = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).fetchall()
    except ImportError:
        return None  # MLflow says which driver it wants
    except (sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
        raise StoreError(describe_error(error, uri)) from None  # its cause may show the password
    return str(rows[0][0]) if rows else None

"""The store's database as a file: dumped as of one moment, restored, and its paths moved to a new folder."""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from mlflow_project.common.errors import BackupError
from mlflow_project.common.store_uri import kind_of, quote_path, redact, scrub, sqlite_path, with_driver
from mlflow_project.common.text import first_line

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Columns that name artifacts by an absolute path, where no server stands between them and their reader."""

_BUSY_SECONDS = 60.0


@dataclass(frozen=True)
class DatabaseDump:
    """A dumped database: its file, and what the rest of the backup needs to know of it."""

    file: Path
    kind: str
    mlflow_version: str
    runs: int
    versions: int
    locations: list[str] = field(default_factory=list)
    """All places that the database names for artifacts."""
    models: list[str] = field(default_factory=list)
    """Locations of models that are ready to be loaded."""
    filled: list[str] = field(default_factory=list)
    """Locations of registered versions, and of runs of ours that are completed: something is there."""


def copy(store_uri: str, target: Path) -> DatabaseDump:
    """Copy the database into the folder `target`, as of one moment, whoever writes to it."""
    if kind_of(store_uri) == "sqlite":
        file = _copy_sqlite(store_uri, target / "store.db")
        copied = sqlite3.connect(file)
        with closing(copied):
            facts = _facts(lambda sql: copied.execute(sql).fetchall(), _columns_sqlite(copied))
        return DatabaseDump(file, "sqlite", version("mlflow"), *facts)
    import sqlalchemy

    file = target / "store.dump"
    engine = sqlalchemy.create_engine(with_driver(store_uri))
    try:
        with engine.connect() as connection:
            # The dump and these counts see the same moment.
            connection.execute(sqlalchemy.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            snapshot = connection.execute(sqlalchemy.text("SELECT pg_export_snapshot()")).scalar_one()
            options = ["--format=custom", f"--snapshot={snapshot}", f"--file={file}"]
            _postgres("pg_dump", store_uri, options)
            inspected = sqlalchemy.inspect(connection)
            tables = {name: _names(inspected.get_columns(name)) for name in inspected.get_table_names()}
            facts = _facts(lambda sql: connection.execute(sqlalchemy.text(sql)).fetchall(), tables)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise BackupError(
            f"{redact(store_uri)} can't be read: {scrub(first_line(error), store_uri)}"
        ) from error
    finally:
        engine.dispose()
    return DatabaseDump(file, "postgresql", version("mlflow"), *facts)


def require_empty(store_uri: str, kind: str) -> None:
    """Check that a store is of the kind that was backed up and empty.

    Raises:
        BackupError: It isn't.
    """
    if kind_of(store_uri) != kind:
        raise BackupError(f"the backup is of a {kind} store and can't be restored into {redact(store_uri)}")
    path = sqlite_path(store_uri)
    if path is not None:
        if path.exists():
            raise BackupError(f"{path} exists, and a restore overwrites nothing; choose another file")
        return
    import sqlalchemy

    engine = sqlalchemy.create_engine(with_driver(store_uri))
    try:
        tables = sqlalchemy.inspect(engine).get_table_names()
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise BackupError(
            f"{redact(store_uri)} can't be opened: {scrub(first_line(error), store_uri)}"
        ) from error
    finally:
        engine.dispose()
    if tables:
        raise BackupError(
            f"{redact(store_uri)} has tables, and a restore overwrites nothing; create a new database"
        )


def restore_database(source: Path, store_uri: str, kind: str, moved: Mapping[str, str]) -> None:
    """Restore the database of the backup `source` into an empty store.

    Args:
        moved: The folder that paths lie below now, by the one that they lay below.
    """
    import sqlalchemy

    path = sqlite_path(store_uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        shutil.copyfile(source / "store.db", temporary)
        engine = sqlalchemy.create_engine(f"sqlite:///{quote_path(temporary)}")
    else:
        options = ["--no-owner", "--exit-on-error", "--single-transaction", "--dbname"]
        _postgres("pg_restore", store_uri, options, [str(source / "store.dump")])
        engine = sqlalchemy.create_engine(with_driver(store_uri))
    try:
        with engine.begin() as connection:
            inspected = sqlalchemy.inspect(connection)
            tables = {name: _names(inspected.get_columns(name)) for name in inspected.get_table_names()}
            columns = [(table, column) for table, column in LOCATIONS if column in tables.get(table, ())]
            # By way of names that no path has: a new folder may lie in an old one.
            steps = [(old, f"moved-{number}:", new) for number, (old, new) in enumerate(_forms(moved))]
            for old, between, _ in steps:
                for table, column in columns:
                    _move(connection, table, column, old, between)
            for _, between, new in steps:
                for table, column in columns:
                    _move(connection, table, column, between, new)
    finally:
        engine.dispose()
    if path is not None:
        temporary.rename(path)


def _copy_sqlite(store_uri: str, target: Path) -> Path:
    path = sqlite_path(store_uri)
    if path is None or not path.is_file():
        raise BackupError(
            f"there is no store {path}; name another by --store, or make one with: mlflow-project train"
        )
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        source = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
        copied = sqlite3.connect(target)
        try:
            # In one step: a copy in several would begin again with each value that a run writes.
            source.backup(copied)
            (check,) = copied.execute("PRAGMA integrity_check").fetchone()
            if check != "ok":
                raise BackupError(f"the store {path} is damaged: {check}")
            return target
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline:
                raise BackupError(f"the store {path} can't be copied: {error}") from error
            time.sleep(0.2)
        except sqlite3.DatabaseError as error:
            raise BackupError(f"the store {path} is damaged: {error}") from error
        finally:
            source.close()
            copied.close()


def _facts(
    fetch: Callable[[str], Any], tables: Mapping[str, Iterable[str]]
) -> tuple[int, int, list[str], list[str], list[str]]:
    """Return what `DatabaseDump` says of the store. tables: their columns; MLflow 2 has no logged models."""

    def values(table: str, column: str, condition: str = "1 = 1") -> list[str]:
        if column not in tables.get(table, ()):
            return []
        query = f"SELECT DISTINCT {column} FROM {table} WHERE {condition} AND {column} IS NOT NULL"
        return [str(row[0]) for row in fetch(query)]

    runs, versions = (int(fetch(f"SELECT count(*) FROM {name}")[0][0]) for name in ("runs", "model_versions"))
    named = [value for table, column in LOCATIONS for value in values(table, column)]
    models = values("logged_models", "artifact_location", "status = 2 AND lifecycle_stage = 'active'")
    ready = "status = 'READY' AND current_stage != 'Deleted_Internal'"
    filled = [x for column in ("storage_location", "source") for x in values("model_versions", column, ready)]
    completed = "SELECT run_uuid FROM tags WHERE key = 'status' AND value = 'completed'"
    filled += values("runs", "artifact_uri", f"lifecycle_stage = 'active' AND run_uuid IN ({completed})")
    return runs, versions, _unique(named), _unique(models), _unique(filled)


def _unique(locations: Iterable[str]) -> list[str]:
    """Return each place once, without what names a model or a run alone."""
    return [x for x in dict.fromkeys(locations) if not x.startswith(("models:", "runs:"))]


def _columns_sqlite(connection: sqlite3.Connection) -> dict[str, list[str]]:
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: [row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')] for name in names}


def _names(columns: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(column["name"]) for column in columns]


def _forms(moved: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return old and new beginnings of a location: as paths and as addresses of files."""
    forms: dict[str, str] = {}
    for old, new in moved.items():
        forms |= {old: new, f"file://{old}": f"file://{new}", f"file://{quote(old)}": f"file://{quote(new)}"}
    return list(forms.items())


def _move(connection: Any, table: str, column: str, old: str, new: str) -> None:
    import sqlalchemy

    statement = (
        f"UPDATE {table} SET {column} = :new || substr({column}, :after) "
        f"WHERE {column} = :old OR substr({column}, 1, :long) = :old_slash"
    )
    values = {"new": new, "old": old, "after": len(old) + 1, "long": len(old) + 1, "old_slash": old + "/"}
    connection.execute(sqlalchemy.text(statement), values)


def _postgres(program: str, store_uri: str, options: Sequence[str], more: Sequence[str] = ()) -> None:
    """Run one of PostgreSQL's programs; the password goes through the environment, where `ps` can't see it."""
    if shutil.which(program) is None:
        raise BackupError(f"{program} isn't installed; Debian's package postgresql-client has it")
    parts = urlsplit(store_uri)
    address = f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.query:
        address += f"?{parts.query}"
    environment = dict(os.environ)
    if parts.username:
        environment["PGUSER"] = unquote(parts.username)
    if parts.password:
        environment["PGPASSWORD"] = unquote(parts.password)
    command = [program, *options, address, *more]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise BackupError(f"{program} failed on {redact(store_uri)}: {scrub(reason, store_uri)}")

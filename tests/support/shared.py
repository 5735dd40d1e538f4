"""What is dear to make: made by the first worker that asks for it, read by all, copied by who changes it."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PLACES = (
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("runs", "artifact_uri"),
)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` alone among all processes."""
    with path.open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Fill a folder that all workers of this session share.

    Args:
        factory: Of the worker that asks; the folders of all workers lie in one.
        name: Of the folder.
        make: Fills the empty folder; called by one worker, for which the others wait.

    Returns:
        The folder, which no test may change.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / f"shared-{name}", base / f"shared-{name}.done"
    with locked(base / f"shared-{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def copy_store(source: Path, folder: Path) -> str:
    """Copy a folder with `mlflow.db` and its artifacts, and let the copy point to its own files.

    Returns:
        The address of the copied store.
    """
    # Without what Python compiled where another test served one of its models.
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("state", "__pycache__"))
    connection = sqlite3.connect(folder / "mlflow.db")
    with connection:
        for table, column in _PLACES:
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(source), str(folder))
            )
    connection.close()
    return f"sqlite:///{folder}/mlflow.db"

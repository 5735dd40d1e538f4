"""A store with a small grid's runs and models, trained once by a real sweep and copied for each test."""

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.tiny import make_tiny, options

NAME = "tiny-base-cnn"
EXPERIMENT = "mnist-base-cnn"
GRID = ["--lr", "0.001,0.03", "--epochs", "1,2"]
_PLACES = (
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("runs", "artifact_uri"),
)


@dataclass(frozen=True)
class Swept:
    """Versions 1 and 2 hardly learnt anything (lr 0.001), 3 and 4 did."""

    uri: str
    folder: Path

    @property
    def data(self) -> Path:
        """What was trained on, as IDX files."""
        return self.folder / "tiny"


def sweep(folder: Path, migrated_store: Path) -> Swept:
    """Trains the grid into `folder`."""
    from mlflow_project.cli import run

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(migrated_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_PROJECT_STATE", str(folder / "state"))
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        data = make_tiny(folder / "tiny")
        assert run(["sweep", *GRID, *options(data)]) == 0
    return Swept(uri, folder)


def copy(once: Swept, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Swept:
    """Another with the same content, which is the test's tracking store."""
    import mlflow

    shutil.copytree(once.folder, folder, ignore=shutil.ignore_patterns("state"))
    connection = sqlite3.connect(folder / "mlflow.db")
    with connection:
        for table, column in _PLACES:
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(once.folder), str(folder))
            )
    connection.close()
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return Swept(uri, folder)

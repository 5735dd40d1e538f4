"""A store with a small grid's runs and models, trained once by a real sweep and copied for each test."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.plots import skip_rendering
from tests.support.tiny import make_tiny, options

NAME = "tiny-base-cnn"
EXPERIMENT = "mnist-base-cnn"
GRID = ["--lr", "0.001,0.3", "--epochs", "1,2"]


@dataclass(frozen=True)
class Swept:
    """Versions 1 and 2 hardly learnt anything (lr 0.001), 3 and 4 did."""

    folder: Path

    @property
    def uri(self) -> str:
        """The address of the store."""
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def data(self) -> Path:
        """What was trained on, as IDX files."""
        return self.folder / "tiny"


def sweep(folder: Path, migrated_store: Path) -> None:
    """Train the grid into `folder`."""
    from mlflow_project.cli.main import run

    shutil.copyfile(migrated_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_PROJECT_STATE", str(folder / "state"))
        patch.setenv("MLFLOW_TRACKING_URI", Swept(folder).uri)
        skip_rendering(patch)
        assert run(["sweep", *GRID, *options(make_tiny(folder / "tiny"))]) == 0

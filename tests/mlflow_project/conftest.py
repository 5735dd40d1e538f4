"""Tiny images, and stores with trained models, which are made once a session and copied for each test."""

from pathlib import Path

import pytest

from tests.support.answering import answering as answering
from tests.support.answering import denying as denying
from tests.support.plots import skip_rendering
from tests.support.registered import Registered, register_models
from tests.support.shared import copy_store, make_once
from tests.support.swept import Swept, sweep
from tests.support.tiny import make_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A data set that trains in a moment."""
    return make_tiny(tmp_path / "tiny")


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs log plots that nobody has rendered."""
    skip_rendering(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A table, to be kept as an artifact."""
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """What looks like a model's files."""
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    (folder / "data" / "model.pt2").write_bytes(b"weights")
    return folder


@pytest.fixture(scope="session")
def registered_once(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mlflow.db` and `mlruns`, into which three models were delivered."""
    return make_once(tmp_path_factory, "registered", lambda folder: register_models(folder, migrated_store))


@pytest.fixture
def registered(registered_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registered:
    """Three registered models in a store that is this test's tracking URI."""
    uri = copy_store(registered_once, tmp_path / "registered")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return Registered(uri, tmp_path / "registered")


@pytest.fixture(scope="session")
def swept_once(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A small grid's runs and models, which no test may change."""
    return Swept(make_once(tmp_path_factory, "swept", lambda folder: sweep(folder, migrated_store)))


@pytest.fixture
def swept(swept_once: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Swept:
    """Another with the same content, which is the test's tracking store."""
    import mlflow

    uri = copy_store(swept_once.folder, tmp_path / "swept")
    mlflow.set_tracking_uri(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return Swept(tmp_path / "swept")

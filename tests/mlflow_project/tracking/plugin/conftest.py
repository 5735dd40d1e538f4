"""Programs under a `durable+` address."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.serving import Serving, start
from tests.support.durable import away as away
from tests.support.durable import durable as durable
from tests.support.durable import use


@pytest.fixture(scope="session")
def server(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that all tests share: it takes many seconds to start."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(migrated_store, folder / "mlflow.db")
    serving = start(folder)
    try:
        serving.wait_until_ready()
        yield serving
    finally:
        serving.end()


@pytest.fixture
def served(server: Serving, store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The durable address of a server."""
    yield from use(monkeypatch, f"durable+{server.url}")

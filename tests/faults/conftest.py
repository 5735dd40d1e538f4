"""One real tracking server for all tests of faults, and a proxy before it for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.proxy import Proxy
from tests.faults.server import tracking_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, migrated_store: Path) -> Iterator[int]:
    """The port of a server with a store of its own."""
    with tracking_server(tmp_path_factory.mktemp("server"), migrated_store) as port:
        yield port


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server. Clients give up after 1 s, so that a hanging request costs no more."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Proxy(server, patience=1.3)
    yield made
    made.down()

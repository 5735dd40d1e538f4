"""Programs that log through MLflow itself, under a `durable+` address."""

import signal
import uuid
from collections.abc import Iterator

import pytest

from mlflow_project.tracking import sync as syncing
from mlflow_project.tracking.hub import lifecycle
from tests.support.ports import free_port


def end_program() -> None:
    """End what is active, as MLflow and then the plug-in do when a process ends."""
    import mlflow

    while mlflow.active_run():
        mlflow.end_run()
    lifecycle.finish(0)


def deliver_all() -> None:
    """Wait until this process has uploaded everything."""
    for hub in lifecycle.hubs():
        assert hub.worker.wait(lambda hub=hub: not hub.pending(), 60), [log.problem for log in hub.pending()]


def sync_to(store: str) -> None:
    """Upload what waits to a store, wherever it was meant for."""
    results = syncing.sync(to=store)
    assert [(result.problem, result.refused) for result in results if result.pending or result.refused] == []


def use(monkeypatch: pytest.MonkeyPatch, uri: str) -> Iterator[str]:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_DURABLE_WAIT", "0")
    yield uri
    end_program()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def durable(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of this test's own store, durable."""
    yield from use(monkeypatch, f"durable+{store}")


@pytest.fixture
def away(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The durable address of a server that isn't there."""
    yield from use(monkeypatch, f"durable+http://127.0.0.1:{free_port()}/{uuid.uuid4().hex}")

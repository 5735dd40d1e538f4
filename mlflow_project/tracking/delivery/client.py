"""MLflow's clients: where MLflow is imported, and its errors become one line each."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import OlderStoreError, ServiceError, StoreError
from mlflow_project.common.store_uri import (
    START_IT,
    absolute_uri,
    inner_uri,
    is_missing_sqlite,
    redact,
    sqlite_path,
    tracking_uri,
)
from mlflow_project.tracking.delivery.error_policy import UNREACHABLE, describe_error
from mlflow_project.tracking.delivery.store_check import require_current_store
from mlflow_project.tracking.journal.locks import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

REQUEST_SECONDS = 15
"""How long one request may take; MLflow's own default is two minutes, eight times over."""

_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_SECONDS),
    # Otherwise the end of a run prints its address on stdout.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # One bar for each of many small files would hide everything else.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_LOUD = {
    # A locked database is tried again, so its traceback says nothing.
    "mlflow.store.db.utils": "CRITICAL",
    "alembic": "WARNING",
    "urllib3.connectionpool": "ERROR",
}

_importing = threading.Lock()
_imported: list[ModuleType] = []
# A program may wait for an answer, and never longer than REQUEST_SECONDS in all.
_BOUNDS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "12"}


def import_mlflow() -> ModuleType:
    """Import MLflow (seconds), with bounded requests where the environment doesn't say otherwise.

    Of two threads that import it at once, each gets half of it: this is the only place that does, and every use of
    any part of it takes it from here.
    """
    if _imported:
        return _imported[0]  # without the lock, which another thread may hold while this process is forked
    with _importing:
        if _imported:
            return _imported[0]
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        import mlflow.artifacts
        import mlflow.entities
        import mlflow.exceptions
        import mlflow.models
        import mlflow.store.artifact.artifact_repository_registry
        import mlflow.types

        for name, level in _LOUD.items():
            logging.getLogger(name).setLevel(level)
        _imported.append(mlflow)
        return mlflow


def adopt_mlflow() -> None:
    """Use the MLflow that a program has imported: its requests become bounded, all else stays as it is."""
    with _importing:
        if not _imported:
            for name, value in _BOUNDS.items():
                os.environ.setdefault(name, value)
            import mlflow.artifacts
            import mlflow.entities
            import mlflow.exceptions
            import mlflow.store.artifact.artifact_repository_registry

            # A database that isn't there is tried again, so its traceback says nothing.
            logging.getLogger("mlflow.store.db.utils").setLevel("CRITICAL")
            _imported.append(mlflow)


def request_timeout() -> float:
    """Return how many seconds one request of this process may take."""
    try:
        return float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
    except (KeyError, ValueError):
        return REQUEST_SECONDS


def open_client(tracking_uri: str) -> "MlflowClient":
    """Open a client; a SQLite store is created or migrated by one process, while the others wait.

    Only a run that starts may open a store that doesn't exist: see `connect`.

    Raises:
        StoreError: A database can't be opened, or MLflow would migrate it.
    """
    registry_uri = registry_of(tracking_uri)
    for uri in (tracking_uri, registry_uri):
        require_current_store(uri)
    mlflow = import_mlflow()
    path = sqlite_path(tracking_uri)
    if path is None:
        store: MlflowClient = mlflow.MlflowClient(tracking_uri, registry_uri=registry_uri)
        return store
    with FileLock(path.parent), _no_misread_folder(tracking_uri):
        client: MlflowClient = mlflow.MlflowClient(tracking_uri, registry_uri=registry_uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
        return client


@contextmanager
def _no_misread_folder(uri: str) -> Iterator[None]:
    """Remove the folder that MLflow creates where it takes a quoted path literally."""
    literal = Path(uri.removeprefix("sqlite:///")).parent
    existed = literal.exists()
    try:
        yield
    finally:
        if not existed:
            with suppress(OSError):
                literal.rmdir()


def registry_of(tracking_uri: str) -> str:
    """Return the address of the model registry that goes with a store: MLflow's variable, else the store's own."""
    return inner_uri(os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri)


def migrate_store(uri: str | None = None) -> bool:
    """Bring the store at `uri`, or where runs go, up to this MLflow; an older one can't open it then.

    Returns:
        Whether there was anything to do.

    Raises:
        StoreError: It can't be opened or migrated.
    """
    tracking = absolute_uri(uri or tracking_uri())
    older = [address for address in dict.fromkeys((tracking, registry_of(tracking))) if _is_older(address)]
    for address in older:
        with mlflow_errors(address):
            import_mlflow()
            from mlflow.store.db import utils

            path = sqlite_path(address)
            with nullcontext() if path is None else FileLock(path.parent):
                engine = utils.create_sqlalchemy_engine_with_retry(address)
                utils._upgrade_db(engine)
                engine.dispose()
    return bool(older)


def _is_older(uri: str) -> bool:
    try:
        require_current_store(uri)
    except OlderStoreError:
        return True
    return False


def connect(uri: str | None = None, *, create: bool = False) -> "MlflowClient":
    """Open MLflow's client for the store at `uri`, or where runs go.

    Raises:
        StoreError: The store is unreachable, or doesn't exist and must not be created, or MLflow would migrate it.
    """
    address = absolute_uri(uri or tracking_uri())
    if not create and is_missing_sqlite(address):
        raise StoreError(
            f"there is no store {redact(address)}; train first, or name another by MLFLOW_TRACKING_URI"
        )
    require_current_store(address)  # before MLflow is imported, which takes longer
    with mlflow_errors(address):
        opened = open_client(address)
        # MLflow's artifact functions take no client; they look here.
        import_mlflow().set_tracking_uri(address)
        return opened


@contextmanager
def mlflow_errors(uri: str | None = None) -> Iterator[None]:
    """Raise MLflow's and the network's errors as `StoreError`: one line, with the store's address."""
    import requests

    mlflow = import_mlflow()
    try:
        yield
    except ServiceError:
        raise
    except (mlflow.exceptions.MlflowException, requests.RequestException, OSError) as error:
        message = describe_error(error, uri or tracking_uri())
        raise StoreError(f"{message}; {START_IT}" if message.endswith(UNREACHABLE) else message) from error


def artifact_exists(client: "MlflowClient", uri: str, path: str) -> bool:
    """Return whether a run whose artifacts are at `uri` has one at `path`.

    The client's own listing of a folder would ask for logged models too, which a server of MLflow 2 hasn't got.
    """
    folder, _, name = f"{uri}/{path}".rpartition("/")
    listed = import_mlflow().artifacts.list_artifacts(artifact_uri=folder, tracking_uri=client.tracking_uri)
    return name in [PurePosixPath(file.path).name for file in listed]


def open_repository(uri: str, tracking_uri: str) -> Any:
    """Return MLflow's artifact repository of an address that the server at `tracking_uri` gave."""
    import_mlflow()
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        return get_artifact_repository(uri, tracking_uri=tracking_uri)
    except TypeError:  # MLflow 2 knows no server but the global one
        from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
        from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

        if not uri.startswith("mlflow-artifacts:"):
            return get_artifact_repository(uri)
        return HttpArtifactRepository(MlflowArtifactsRepository.resolve_uri(uri, tracking_uri))


def pages(fetch: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield the results of a paged search; a page is requested only when the one before it is used up.

    Args:
        fetch: Returns the page with this token, the first one for None.

    Raises:
        StoreError: If MLflow doesn't give a page.
    """
    token: str | None = None
    while True:
        with mlflow_errors():
            page = fetch(token)
        yield from page
        token = page.token
        if not token:
            return


def real_stores(client: "MlflowClient") -> tuple[Any, Any]:
    """Return the tracking store and the registry store behind a client."""
    return client._tracking_client.store, client._get_registry_client().store


@contextmanager
def default_store(uri: str) -> Iterator[None]:
    """Set MLflow's global store, in which some requests look up a model instead of the client's own."""
    mlflow = import_mlflow()
    before = mlflow.get_tracking_uri()
    if before == uri:
        yield
        return
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)

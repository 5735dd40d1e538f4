"""Where MLflow begins. It loads these whenever it is imported, so they import nothing before they are called."""

import atexit
import os
import sys
from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Return the tracking store of a `durable+` address.

    Raises:
        SystemExit: A server would store into it.
    """
    if artifact_uri is not None:
        # Only a server names where artifacts go.
        raise SystemExit(
            f"Error: a server can't store into {store_uri.partition('://')[0]}://...: durable+ is for the programs "
            "that log; give the server the address without it"
        )
    from mlflow_project.tracking.plugin.store import DurableTrackingStore

    _settle_registry_uri()
    return DurableTrackingStore(store_uri)  # type: ignore[abstract]


def registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """Return the model registry of a `durable+` address."""
    from mlflow_project.tracking.plugin.registry import DurableRegistryStore

    return DurableRegistryStore(store_uri, tracking_uri)  # type: ignore[abstract]


def artifact_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """Return the artifact repository of a run or a model that a `durable+` store returned."""
    from mlflow_project.tracking.plugin.artifacts import DurableArtifactRepository

    return DurableArtifactRepository(artifact_uri, tracking_uri, registry_uri)


def _settle_registry_uri() -> None:
    """Let MLflow take the registry's address from the tracking address, as it does, without asking Spark first.

    It asks in every fluent call, and where pyspark isn't installed each time tries to import it, which takes longer
    than all the rest of a journaled call. An empty address of a registry means that of the tracking store, too.
    One that a program has named stays, also where it is that of the tracking store, which may change.
    """
    from importlib.util import find_spec

    import mlflow

    if os.environ.get("MLFLOW_REGISTRY_URI") or "pyspark" in sys.modules or find_spec("pyspark") is not None:
        return
    if mlflow.get_registry_uri() == mlflow.get_tracking_uri():
        mlflow.set_registry_uri("")


def _finish() -> None:
    lifecycle = sys.modules.get("mlflow_project.tracking.hub.lifecycle")
    if lifecycle is not None:
        lifecycle.finish()


# Before MLflow registers its own, so it is called after that has ended the active run.
atexit.register(_finish)

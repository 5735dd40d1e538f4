"""How the service speaks to MLflow while a person waits: errors are one line that says what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_project.errors import ServiceError, StoreError
from mlflow_project.journal import absolute_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient


START_IT = "start it there (mlflow-project serve), or name another store by MLFLOW_TRACKING_URI"


def tracking_uri() -> str:
    """Where runs go: MLflow's own variable, else its own default."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def client(uri: str | None = None) -> "MlflowClient":
    """MLflow's client for the store at `uri`, or where runs go."""
    from mlflow_project.remote import open_client

    address = absolute_uri(uri or tracking_uri())
    with translated(address):
        opened = open_client(address)
        import mlflow

        # MLflow's artifact functions take no client; they look here.
        mlflow.set_tracking_uri(address)
        return opened


@contextmanager
def translated(uri: str | None = None) -> Iterator[None]:
    """MLflow's and the network's errors as `StoreError`: one line, with the store's address."""
    import mlflow.exceptions
    import requests

    from mlflow_project.remote import AWAY, told

    try:
        yield
    except ServiceError:
        raise
    except (mlflow.exceptions.MlflowException, requests.RequestException, OSError) as error:
        said = told(error, uri or tracking_uri())
        raise StoreError(f"{said}; {START_IT}" if said.endswith(AWAY) else said) from error

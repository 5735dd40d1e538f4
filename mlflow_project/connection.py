"""How the service speaks to MLflow while a person waits: errors are one line that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_project.errors import ServiceError, StoreError
from mlflow_project.store_uri import START_IT, absolute_uri, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient


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

"""What tells a store from another at the same address: a tag of an experiment, made once, that moves with it.

Two processes that make it at once make two, and both are the store's.
"""

import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

STORE_TAG = "store_id."
_SET = "set"
_ALL = 3  # mlflow.entities.ViewType.ALL


def ensure_store_id(client: "MlflowClient", experiment_id: str) -> str:
    """Return the store's id by this experiment's tags; made where there is none."""
    known = [key for key in client.get_experiment(experiment_id).tags if key.startswith(STORE_TAG)]
    if known:
        return min(known).removeprefix(STORE_TAG)
    store_id = uuid.uuid4().hex
    client.set_experiment_tag(experiment_id, STORE_TAG + store_id, _SET)
    return store_id


def has_store_id(client: "MlflowClient", store_id: str) -> bool:
    """Return whether this is the store that the id was read from."""
    condition = f"tags.`{STORE_TAG}{store_id}` = '{_SET}'"
    return bool(client.search_experiments(view_type=_ALL, filter_string=condition, max_results=1))

"""The experiment that MLflow's variables name: by its id before its name, as in MLflow."""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from mlflow_project.common.errors import StoreError, UsageError
from mlflow_project.common.names import EXPERIMENT
from mlflow_project.common.store_uri import absolute_uri, is_missing_sqlite, redact, tracking_uri
from mlflow_project.tracking.delivery.client import import_mlflow, mlflow_errors, open_client

ANSWER_SECONDS = 3.0
"""How long the beginning of a run waits for a server."""

ID_VARIABLE = "MLFLOW_EXPERIMENT_ID"
_DEFAULT = "Default"  # MLflow's own experiment 0, which every store is made with


@dataclass(frozen=True)
class Experiment:
    """Where runs go. `experiment_id` only where it was named by that."""

    name: str
    experiment_id: str | None = None

    def has(self, name: str, experiment_id: str | None) -> bool:
        """Return whether a run of this experiment's name and id is in here."""
        if self.experiment_id is not None and experiment_id is not None:
            return self.experiment_id == experiment_id
        return self.name == name


def named_experiment(uri: str | None = None) -> Experiment:
    """Return the experiment of all runs of this process.

    While the store is unreachable, one named by its id has no name that is known.

    Raises:
        UsageError: The id is of no experiment, or of a deleted one.
    """
    experiment_id = os.environ.get(ID_VARIABLE)
    if not experiment_id:
        return Experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
    try:
        return Experiment(_name(absolute_uri(uri or tracking_uri()), experiment_id), experiment_id)
    except StoreError:
        return Experiment(f"experiment {experiment_id}", experiment_id)


def require_active_experiment() -> None:
    """Check, before a run begins, that the experiment which is named by its name wasn't deleted.

    A server that doesn't answer soon is not waited for: the upload says it then.

    Raises:
        UsageError: It was.
    """
    uri = absolute_uri(tracking_uri())
    if os.environ.get(ID_VARIABLE) or is_missing_sqlite(uri):
        return  # `named_experiment` checks an id
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    import_mlflow()
    deleted: list[str] = []

    def ask() -> None:
        with suppress(Exception):
            experiment = open_client(uri).get_experiment_by_name(name)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                deleted.append(str(experiment.experiment_id))

    thread = threading.Thread(target=ask, name="experiment-check", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS if uri.startswith("http") else None)
    if deleted:
        raise UsageError(
            f"the experiment {name!r} was deleted; `mlflow experiments restore -x {deleted[0]}` brings it back, "
            "or name another by MLFLOW_EXPERIMENT_NAME"
        )


def experiment_name() -> str:
    """Return the name of the experiment that MLflow's variables name; see `named_experiment`."""
    return named_experiment().name


@lru_cache
def _name(uri: str, experiment_id: str) -> str:
    missing = (
        f"{ID_VARIABLE} is {experiment_id}, and {redact(uri)} has no such experiment; name one that it has"
    )
    if is_missing_sqlite(uri):
        if experiment_id == "0":
            return _DEFAULT
        raise UsageError(missing)
    with mlflow_errors(uri):
        try:
            experiment = open_client(uri).get_experiment(experiment_id)
        except Exception as error:
            if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise UsageError(missing) from error
            raise
    if experiment.lifecycle_stage == "deleted":
        raise UsageError(
            f"the experiment {experiment.name!r} that {ID_VARIABLE} names was deleted; "
            f"`mlflow experiments restore -x {experiment_id}` brings it back"
        )
    return str(experiment.name)

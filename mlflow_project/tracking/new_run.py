"""Where a new run goes: its store, its experiment, and the run that `mlflow run` has created for it."""

import os
import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from mlflow_project.common.errors import OlderStoreError, RunError, StoreError, UsageError
from mlflow_project.common.store_uri import (
    absolute_uri,
    is_missing_sqlite,
    redact,
    sqlite_path,
    tracking_uri,
)
from mlflow_project.tracking.delivery.client import mlflow_errors, open_client
from mlflow_project.tracking.delivery.store_check import require_current_store
from mlflow_project.tracking.experiment import Experiment, named_experiment
from mlflow_project.tracking.identity.run_claim import claim_run
from mlflow_project.tracking.journal.writer import Journal, new_key

_KINDS = (
    "http",
    "https",
    "sqlite",
    "postgresql",
    "postgres",
    "mysql",
    "mssql",
    "databricks",
    "databricks-uc",
)
_INSTEAD = "unset MLFLOW_RUN_ID for a run of its own"
_RUN_ID = re.compile("[0-9a-f]{32}")

_claimed: dict[str, str] = {}
"""The keys of the journals for which this process has claimed runs; empty for a run that it resumes."""
_refused: set[str] = set()


def create_journal(
    name: str,
    run_id: str | None,
    *,
    parameters: Mapping[str, str],
    tags: Mapping[str, str] | None = None,
    experiment: str | None = None,
    key: str | None = None,
    experiment_tags: Mapping[str, str] | None = None,
    on_problem: Callable[[str], None] | None = None,
) -> Journal:
    """Create the journal of a new run in the store that MLflow's variables name.

    Args:
        name: The run's name.
        run_id: A run that exists in MLflow; it is claimed, unless `key` says that it is already.
        parameters: The run's parameters.
        tags: The tags that it is created with.
        experiment: Its name; by default the experiment that MLflow's variables name.
        key: From `claim_given_run`.
        experiment_tags: Written on the experiment where it has none of that key.
        on_problem: Called with one line when the disk fails, and when it recovers.

    Raises:
        UsageError: The variables name no store that MLflow knows, or no experiment.
        StoreError: The store can't be opened, or is of an older MLflow.
        RunError: The run that exists belongs to another process, has ended, or differs.
        JournalError: The disk doesn't take it.
    """
    uri = checked_uri()
    named = named_experiment(uri) if experiment is None else Experiment(experiment)
    if run_id is not None and key is None:
        key = claim_given_run(run_id, parameters)
    return Journal.create(
        uri,
        named.name,
        name,
        run_id,
        tags,
        key=key,
        experiment_id=named.experiment_id,
        experiment_tags=experiment_tags,
        on_problem=on_problem,
    )


def claim_given_run(run_id: str, parameters: Mapping[str, str] | None = None) -> str:
    """Claim a run that exists in MLflow for this process; return the key for its journal.

    While the store is unreachable, the claim waits for the first upload.

    Raises:
        UsageError: No run has such an ID.
        RunError: The run can't be claimed; nothing was written to it.
    """
    uri, key = absolute_uri(checked_uri()), new_key()
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"MLFLOW_RUN_ID is {run_id!r}, and a run's id is 32 hexadecimal digits; unset it for a run of its own"
        )
    _refused.add(run_id)
    try:
        if is_missing_sqlite(uri):
            raise RunError(f"run {run_id} isn't in {redact(uri)}, which isn't there")
        with mlflow_errors(uri):
            claim_run(open_client(uri), run_id, key, parameters or {})
    except StoreError:
        pass
    except RunError as error:
        raise RunError(f"{error}; {_INSTEAD}") from error
    _refused.discard(run_id)
    _claimed[run_id] = key
    return key


def note_claimed(run_id: str) -> None:
    """Note that this process resumes a run that has its journal here."""
    _claimed[run_id] = ""


def has_claimed(run_id: str) -> bool:
    """Return whether this process has claimed the run, and so may end it."""
    return run_id in _claimed


def claimed_key(run_id: str) -> str:
    """Return the key for which this process has claimed the run."""
    return _claimed[run_id]


def was_refused(run_id: str) -> bool:
    """Return whether this process has failed to claim the run."""
    return run_id in _refused


def checked_uri() -> str:
    """Return where runs go.

    Raises:
        UsageError: MLflow will never take anything there.
        StoreError: It is a SQLite file that can't be opened.
        OlderStoreError: It is a database that MLflow would migrate.
    """
    uri = _valid_uri()
    try:
        require_current_store(absolute_uri(uri))
    except OlderStoreError:
        raise
    except StoreError:
        if sqlite_path(uri) is not None:
            raise
        # Any other database may be reachable by the time there is something to upload.
    return uri


def _valid_uri() -> str:
    uri = tracking_uri()
    if uri != uri.strip():
        raise UsageError(f"MLFLOW_TRACKING_URI is {redact(uri)!r}, with blanks around it; write it without")
    if uri.startswith("databricks"):
        return uri
    scheme = uri.partition("://")[0] if "://" in uri else uri.partition(":")[0] if ":" in uri else ""
    if scheme in ("", "file"):
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"):
            return uri
        raise UsageError(
            f"MLFLOW_TRACKING_URI is {uri}, a folder, which MLflow takes no more; use sqlite:///mlflow.db or a server"
        )
    if scheme.split("+")[0] not in _KINDS and scheme not in entry_points(group="mlflow.tracking_store").names:
        raise UsageError(
            f"MLFLOW_TRACKING_URI is {redact(uri)}, a kind of store that MLflow doesn't know; "
            "it knows http://, https://, sqlite:/// and postgresql://"
        )
    return uri

"""Runs that say RUNNING although nobody runs them any more: found, and marked for what they are.

On this machine a run's lock tells exactly whether its process lives. A run of another host is known by its
heartbeat alone, so it counts as dead only after a silence longer than any heartbeat takes.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mlflow_project.common.errors import StoreError
from mlflow_project.common.names import LIVE_TAGS, STATUS_TAG
from mlflow_project.common.run_state import RunState
from mlflow_project.common.store_uri import is_missing_sqlite
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.delivery.error_policy import describe_error
from mlflow_project.tracking.delivery.heartbeat import STALE_AFTER_SECONDS, seconds_since_heartbeat
from mlflow_project.tracking.delivery.status import DeliveryStatus
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.entities import RunEnded, Tag
from mlflow_project.tracking.journal.writer import Journal

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class RemoteRun:
    """A run that MLflow calls RUNNING, and that no folder on this machine belongs to."""

    run_id: str
    name: str
    owner: str
    heartbeat: str

    @property
    def is_alive(self) -> bool:
        return seconds_since_heartbeat(self.heartbeat) < STALE_AFTER_SECONDS


def mark_killed(run: local_runs.LocalRun) -> DeliveryStatus:
    """Say of an interrupted run on this machine that it was killed, as of its last word, and deliver that.

    RunBusyError if its process lives after all.
    """
    ended = local_runs.last_time_ms(run.folder)
    journal = Journal.open(run.folder)
    try:
        if journal.ended is None:
            journal.append(
                Tag(STATUS_TAG, RunState.INTERRUPTED), RunEnded(RunState.INTERRUPTED.mlflow_status, ended)
            )
    finally:
        journal.close()
    return deliver(run.folder)


def remote_running_runs(tracking_uri: str, known: set[str]) -> list[RemoteRun]:
    """Runs with a heartbeat that say RUNNING, but for those `known` here. StoreError if the store is away."""
    if is_missing_sqlite(tracking_uri):
        return []
    try:
        client = open_client(tracking_uri)
        experiments = [str(experiment.experiment_id) for experiment in client.search_experiments()]
        runs = client.search_runs(experiments, "attributes.status = 'RUNNING' AND tags.heartbeat != ''")
    except Exception as error:
        raise StoreError(describe_error(error, tracking_uri)) from error
    return [
        RemoteRun(
            run.info.run_id,
            run.info.run_name or "",
            run.data.tags.get("owner", ""),
            run.data.tags.get("heartbeat", ""),
        )
        for run in runs
        if run.info.run_id not in known
    ]


def mark_remote_run_killed(tracking_uri: str, run: RemoteRun) -> None:
    """Say of a silent run of another host that it was killed, as of its last heartbeat; not if it spoke since."""
    try:
        client = open_client(tracking_uri)
        now = client.get_run(run.run_id)
        if (now.info.status, now.data.tags.get("heartbeat")) != ("RUNNING", run.heartbeat):
            return
        client.set_tag(run.run_id, STATUS_TAG, RunState.INTERRUPTED)
        client.set_terminated(run.run_id, RunState.INTERRUPTED.mlflow_status, _ms(run.heartbeat))
        _drop_live_tags(client, run.run_id)
    except Exception as error:
        raise StoreError(describe_error(error, tracking_uri)) from error


def _drop_live_tags(client: "MlflowClient", run_id: str) -> None:
    present = client.get_run(run_id).data.tags
    for tag in LIVE_TAGS:
        if tag in present:
            client.delete_tag(run_id, tag)


def _ms(heartbeat: str) -> int | None:
    try:
        return int(datetime.fromisoformat(heartbeat).timestamp() * 1000)
    except ValueError:
        return None

"""Runs that are RUNNING in MLflow although their process has died: found, and marked as KILLED.

On this machine a run's lock tells exactly whether its process is alive. A run of another host is known by its
heartbeat alone, so it counts as dead only `STALE_AFTER_SECONDS` after the last one.
"""

from dataclasses import dataclass
from datetime import datetime

from mlflow_project.common.names import LIVE_TAGS, STATUS_TAG
from mlflow_project.common.run_state import RunState
from mlflow_project.common.store_uri import is_missing_sqlite
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import mlflow_errors, open_client
from mlflow_project.tracking.delivery.heartbeat import STALE_AFTER_SECONDS, seconds_since_heartbeat
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.delivery_status import DeliveryStatus
from mlflow_project.tracking.journal.entities import RunEnded, Tag
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.programs.live_tags import LIVE_TAGS as PROGRAM_LIVE_TAGS


@dataclass(frozen=True)
class RemoteRun:
    """A run that is RUNNING in MLflow and has no folder on this machine."""

    run_id: str
    name: str
    owner: str
    heartbeat: str

    @property
    def is_alive(self) -> bool:
        """Return whether its last heartbeat is recent enough."""
        return seconds_since_heartbeat(self.heartbeat) < STALE_AFTER_SECONDS


def mark_killed(run: local_runs.LocalRun) -> DeliveryStatus:
    """Mark an interrupted run on this machine as killed when it last wrote, and upload that.

    Raises:
        RunBusyError: Its process is alive.
    """
    ended = local_runs.last_time_ms(run.folder)
    journal = Journal.open(run.folder)
    try:
        if journal.ended is None:
            if not journal.header.is_program:  # whose own tag that may be
                journal.append(Tag(STATUS_TAG, RunState.INTERRUPTED))
            journal.append(RunEnded(RunState.INTERRUPTED.mlflow_status, ended))
    finally:
        journal.close()
    return deliver(run.folder)


def remote_running_runs(tracking_uri: str, known: set[str]) -> list[RemoteRun]:
    """List RUNNING runs that have a heartbeat, but for those `known` here.

    Raises:
        StoreError: The store is unreachable.
    """
    if is_missing_sqlite(tracking_uri):
        return []
    with mlflow_errors(tracking_uri):
        client = open_client(tracking_uri)
        experiments = [str(experiment.experiment_id) for experiment in client.search_experiments()]
        found: dict[str, RemoteRun] = {}
        for heartbeat, owner in (LIVE_TAGS, PROGRAM_LIVE_TAGS):
            query = f"attributes.status = 'RUNNING' AND tags.`{heartbeat}` != ''"
            for run in client.search_runs(experiments, query):
                tags = run.data.tags
                found.setdefault(
                    run.info.run_id,
                    RemoteRun(
                        run.info.run_id, run.info.run_name or "", tags.get(owner, ""), tags.get(heartbeat, "")
                    ),
                )
    return [run for run in found.values() if run.run_id not in known]


def mark_remote_run_killed(tracking_uri: str, run: RemoteRun) -> None:
    """Mark a stale run of another host as killed at its last heartbeat, unless it has sent one since."""
    with mlflow_errors(tracking_uri):
        client = open_client(tracking_uri)
        now = client.get_run(run.run_id)
        ours, theirs = (now.data.tags.get(tags[0]) for tags in (LIVE_TAGS, PROGRAM_LIVE_TAGS))
        if now.info.status != "RUNNING" or run.heartbeat not in (ours, theirs):
            return
        if theirs is None:
            client.set_tag(run.run_id, STATUS_TAG, RunState.INTERRUPTED)
        client.set_terminated(run.run_id, RunState.INTERRUPTED.mlflow_status, _ms(run.heartbeat))
        tags = client.get_run(run.run_id).data.tags
        for tag in PROGRAM_LIVE_TAGS if theirs is not None else LIVE_TAGS:
            if tag in tags:
                client.delete_tag(run.run_id, tag)


def _ms(heartbeat: str) -> int | None:
    try:
        return int(datetime.fromisoformat(heartbeat).timestamp() * 1000)
    except ValueError:
        return None

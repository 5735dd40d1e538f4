"""The heartbeat by which a run on another host is known to be alive."""

import os
import socket
from datetime import UTC, datetime

from mlflow_project.common.names import LIVE_TAGS, STATUS_TAG
from mlflow_project.common.run_state import RunState
from mlflow_project.tracking.delivery.client import import_mlflow
from mlflow_project.tracking.delivery.session import DeliverySession

HEARTBEAT_SECONDS = 30.0
STALE_AFTER_SECONDS = 150.0
"""A run on another host without a heartbeat for so long is taken for dead; clocks may differ by a minute."""


def send_heartbeat(session: DeliverySession) -> None:
    """Tag the run as alive in this process; it is RUNNING again if it was taken for dead meanwhile."""
    tag = import_mlflow().entities.RunTag
    client, run_id = session.client, session.open_run()
    run = client.get_run(run_id)
    tags = [tag(key, text) for key, text in zip(LIVE_TAGS, heartbeat_texts(), strict=True)]
    if run.data.tags.get(STATUS_TAG) == RunState.INTERRUPTED:
        tags.append(tag(STATUS_TAG, RunState.STARTED))
    client.log_batch(run_id, tags=tags)
    # A process that was suspended, or whose server was unreachable, sent no heartbeat and isn't dead.
    if run.info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")


def heartbeat_texts() -> tuple[str, str]:
    """Return the values of the tags of a run that is alive: now, and who has it."""
    return datetime.now(UTC).isoformat(timespec="seconds"), owner()


def owner() -> str:
    """Return host and process ID, the content of the tag."""
    return f"{socket.gethostname()} {os.getpid()}"


def seconds_since_heartbeat(heartbeat: str) -> float:
    """Return the seconds since a heartbeat, infinite for one that can't be read."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(heartbeat)).total_seconds()
    except (ValueError, TypeError):
        return float("inf")

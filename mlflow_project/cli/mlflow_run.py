"""What can be set right only after `mlflow run` itself has ended.

MLflow 3.17.2 marks a run FAILED whenever it is itself stopped, or the program that it started ends with a status
other than 0, also where that program has said KILLED or FINISHED already. A small process of its own session
outlives it and says that again.
"""

import os
import sys
import time

from mlflow_project.common.names import REASON_TAG, STATUS_TAG
from mlflow_project.common.run_state import RunState
from mlflow_project.common.store_uri import absolute_uri, tracking_uri
from mlflow_project.tracking.journal import local_runs

PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_CORRECTED = (RunState.INTERRUPTED, RunState.COMPLETED)


def restore_status(run_id: str) -> None:
    """Sees to it that the run still says KILLED or FINISHED when the `mlflow run` above this process has ended."""
    # Not by `subprocess`, which complains of a process that is left behind; this one shall be.
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", __name__, run_id, str(os.getppid())],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in range(3)],
        setsid=True,
    )


def main(run_id: str, parent: int) -> None:
    """Waits for the parent's end, for so long at most, and mends the run's state where it was overwritten."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _alive(parent) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    from mlflow_project.tracking.delivery.client import connect

    store = connect()
    run = store.get_run(run_id)
    local_runs = run.data.tags.get(STATUS_TAG)
    if run.info.status == RunState.FAILED.mlflow_status and local_runs in _CORRECTED:
        store.set_terminated(run_id, RunState(local_runs).mlflow_status, run.info.end_time)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def mark_failed(run_id: str, reason: str) -> None:
    """Say of a run that was made for this process, and that has no journal, why it failed. Best effort.

    It is taken before, so that nobody else's run is ever ended.
    """
    from mlflow_project.tracking import new_run
    from mlflow_project.tracking.delivery.client import open_client
    from mlflow_project.tracking.identity.run_claim import release_claim

    if new_run.was_refused(run_id) or _has_journal(run_id):
        return
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    try:
        if not new_run.has_claimed(run_id):
            new_run.claim_given_run(run_id)
        client = open_client(absolute_uri(tracking_uri()))
        if client.get_run(run_id).info.status == RunState.STARTED.mlflow_status:
            client.set_tag(run_id, STATUS_TAG, RunState.FAILED)
            client.set_tag(run_id, REASON_TAG, reason[:5000])
            client.set_terminated(run_id, RunState.FAILED.mlflow_status)
        release_claim(client, client.get_run(run_id), new_run.claimed_key(run_id))
    except Exception:
        pass


def _has_journal(run_id: str) -> bool:
    for folder in local_runs.folders():
        try:
            if local_runs.local_run(folder).run_id == run_id:
                return True
        except Exception:
            continue
    return False


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

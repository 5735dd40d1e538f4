"""A run that somebody else has made is taken once, by one process of all machines, and only while it is empty.

Each claimant sets a tag of its own and reads the run again: who is alone then has the run, and its journal's key
goes onto it. Whoever is not alone takes the claim back and tries again, so two that come at once may both wait, but
never both have the run. The winner's claim comes off with its first upload: until then it says who has the run, so
that one whose process was killed can be taken by another.
"""

import os
import random
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlflow_project.common.errors import RunError
from mlflow_project.common.names import CLAIM_TAG, KEY_TAG
from mlflow_project.common.text import same_value
from mlflow_project.tracking.journal import format, state_dir
from mlflow_project.tracking.journal.owner_file import is_process_alive, process_start_time

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ATTEMPTS = 6
PAUSE_SECONDS = 0.5
STALE_AFTER_SECONDS = 600.0
"""A claim takes seconds; one of another host that is older belongs to a process that died. Clocks may differ."""


def claim_run(
    client: "MlflowClient",
    run_id: str,
    key: str,
    parameters: Mapping[str, str],
    begun_ms: int | None = None,
) -> "Run":
    """Take a run for the journal of this key.

    Args:
        client: Of the store that has the run.
        run_id: The run.
        key: The journal's key.
        parameters: Those that the journal will give the run.
        begun_ms: When the journal began, where it could not ask the store then: `mlflow run` may have ended its run
            since, which is ours all the same while nobody has logged a metric.

    Raises:
        RunError: The run is somebody else's, has ended, or has other parameters; it is as it was then.
    """
    tag = CLAIM_TAG + key
    for _ in range(ATTEMPTS):
        if _rivals(_get_free(client, run_id, key, parameters, begun_ms), tag):
            time.sleep(random.uniform(0, PAUSE_SECONDS))
            continue
        client.set_tag(run_id, tag, _own_claim())
        won = False
        try:
            run = _get_free(client, run_id, key, parameters, begun_ms)
            if not _rivals(run, tag):
                client.set_tag(run_id, KEY_TAG, key)
                won = True
        finally:
            if not won:
                client.delete_tag(run_id, tag)
        if won:
            for left in _claims(run, tag):
                client.delete_tag(run_id, left)
            return run
        time.sleep(random.uniform(0, PAUSE_SECONDS))
    rivals = _rivals(client.get_run(run_id), tag)
    who = f" ({', '.join(rivals.values())})" if rivals else ""
    raise RunError(
        f"run {run_id} is being taken by another process{who}; if that has died, on another host, the run is free "
        f"{STALE_AFTER_SECONDS / 60:.0f} minutes after its claim"
    )


def release_claim(client: "MlflowClient", run: "Run", key: str) -> None:
    """Remove the claim of a journal whose run is known to be its own."""
    if CLAIM_TAG + key in run.data.tags:
        client.delete_tag(run.info.run_id, CLAIM_TAG + key)


def _get_free(
    client: "MlflowClient", run_id: str, key: str, parameters: Mapping[str, str], begun_ms: int | None
) -> "Run":
    """Return the run if it is there for the taking."""
    try:
        run = client.get_run(run_id)
    except Exception as error:
        if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise RunError(f"run {run_id} isn't in the store") from error
    if reason := _obstacle(run, key, parameters, begun_ms):
        raise RunError(f"run {run_id} {reason}")
    return run


def _obstacle(run: "Run", key: str, parameters: Mapping[str, str], begun_ms: int | None) -> str | None:
    """Describe why the run can't be taken; None where it can."""
    holder = run.data.tags.get(KEY_TAG)
    if run.info.lifecycle_stage != "active":
        return "was deleted"
    if holder not in (None, key) and not _is_abandoned(run, holder):
        return f"belongs to another process already, that of journal {holder}"
    ended_since = (
        begun_ms is not None and (run.info.end_time or 0) >= begun_ms and not run.data.metrics
    ) or holder == key
    if run.info.status != "RUNNING" and not ended_since:
        return f"is {run.info.status} and not RUNNING, so it is no run to write to"
    for name, value in parameters.items():
        before = run.data.params.get(name)
        if before is not None and not same_value(before, value):
            return f"has the parameter {name}={before}, and this one would be {value}"
    return None


def _is_abandoned(run: "Run", holder: str) -> bool:
    """Return whether the holder's process was killed here before it had a journal."""
    claim = run.data.tags.get(CLAIM_TAG + holder)
    journal = state_dir.runs_folder() / holder / format.JOURNAL
    return claim is not None and _died_here(claim) and not journal.exists()


def _rivals(run: "Run", own: str) -> dict[str, str]:
    """Return the claims of others that may be alive."""
    return {tag: claim for tag, claim in _claims(run, own).items() if not _is_stale(claim)}


def _claims(run: "Run", own: str) -> dict[str, str]:
    return {tag: claim for tag, claim in run.data.tags.items() if tag.startswith(CLAIM_TAG) and tag != own}


def _own_claim() -> str:
    pid = os.getpid()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"{socket.gethostname()} {pid} {now} {process_start_time(pid)}"


def _died_here(claim: str) -> bool:
    """Return whether the claim is of a process of this host that is dead."""
    host, pid, _, started = (claim.split(" ") + [""] * 4)[:4]
    return host == socket.gethostname() and pid.isdigit() and not is_process_alive(int(pid), started)


def _is_stale(claim: str) -> bool:
    if claim.startswith(f"{socket.gethostname()} "):
        return _died_here(claim)
    try:
        begun = datetime.fromisoformat(claim.split(" ")[2])
    except (IndexError, ValueError):
        return True  # of an earlier version, whose claims were as short
    return (datetime.now(UTC) - begun).total_seconds() > STALE_AFTER_SECONDS

"""A run that somebody else has made is taken once, by one process of all machines, and only while it is empty.

Each claimant sets a tag of its own and reads the run again: who is alone then has the run, and its journal's key
goes onto it before the claim comes off. Whoever is not alone takes the claim back and tries again, so two that come
at once may both wait, but never both have the run.
"""

import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow_project.common.errors import RunError
from mlflow_project.common.names import CLAIM_TAG, KEY_TAG
from mlflow_project.common.text import same_value

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ATTEMPTS = 6
PAUSE_SECONDS = 0.5


def claim_run(
    client: "MlflowClient",
    run_id: str,
    key: str,
    owner: str,
    parameters: Mapping[str, str],
    begun_ms: int | None = None,
) -> "Run":
    """Take a run for the journal of this key.

    Args:
        client: Of the store that has the run.
        run_id: The run.
        key: The journal's key.
        owner: Who takes it, for people to read.
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
        client.set_tag(run_id, tag, owner)
        try:
            run = _get_free(client, run_id, key, parameters, begun_ms)
            rivals = _rivals(run, tag)
            if not rivals:
                client.set_tag(run_id, KEY_TAG, key)
        finally:
            client.delete_tag(run_id, tag)
        if not rivals:
            return run
        time.sleep(random.uniform(0, PAUSE_SECONDS))
    rivals = _rivals(client.get_run(run_id), tag)
    who = f" ({', '.join(rivals.values())})" if rivals else ""
    raise RunError(f"run {run_id} is being taken by another process{who}")


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
    if holder not in (None, key):
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


def _rivals(run: "Run", own: str) -> dict[str, str]:
    return {tag: owner for tag, owner in run.data.tags.items() if tag.startswith(CLAIM_TAG) and tag != own}

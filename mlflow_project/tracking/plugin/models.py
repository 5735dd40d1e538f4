"""Logged models of a program: created in the journal of their run, read from the server or from there."""

from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.utils.name_utils import _generate_random_name

from mlflow_project.tracking.hub.hub import Hub
from mlflow_project.tracking.hub.reachability import Unreachable, rejection
from mlflow_project.tracking.journal.entities import now_ms
from mlflow_project.tracking.plugin import answers, runs
from mlflow_project.tracking.programs import ids
from mlflow_project.tracking.programs.calls import pairs
from mlflow_project.tracking.programs.ids import Promise, find_provisional, is_provisional

VERSIONS_TAG = "mlflow.modelVersions"


def create(
    hub: Hub,
    experiment_id: str,
    name: str | None,
    source_run_id: str | None,
    tags: Any,
    params: Any,
    model_type: str | None,
) -> Any:
    """Create a logged model; its ID is provisional where the server doesn't give one in time.

    Raises:
        MlflowException: The server refuses it.
    """
    from mlflow.utils.validation import _validate_logged_model_name

    _validate_logged_model_name(name)
    log = runs.log_of(hub, source_run_id) if source_run_id else hub.registry_log
    provisional = ids.new_model_id()
    arguments = {
        "id": provisional,
        "experiment_id": experiment_id,
        "name": name or _generate_random_name(),
        "source_run_id": source_run_id,
        "tags": pairs(tags),
        "params": pairs(params),
        "model_type": model_type,
    }
    start = log.call("create_logged_model", arguments, watch=True)
    log.record.models[provisional].created_ms = now_ms()
    hub.know_model(provisional, log, provisional)
    hub.wait(lambda: log.outcome(start) is not None)
    outcome = log.outcome(start)
    log.unwatch(start)
    if isinstance(outcome, Exception):
        raise rejection(outcome) from outcome
    real = log.real_id(provisional)
    if real is None:
        hub.promise(provisional, log)
    else:
        hub.know_model(real, log, provisional)
    return local(hub, real or provisional)


def call(hub: Hub, method: str, model_id: str, arguments: dict[str, Any]) -> None:
    """Journal a call that concerns a model, where the model is."""
    owned = hub.find_model(model_id, to_write=True)
    log = owned[0] if owned is not None else hub.registry_log
    tags = arguments.get("tags") or ()
    if owned is not None and any(key == VERSIONS_TAG or find_provisional(value) for key, value in tags):
        # It names a version, and what belongs to no run may wait for a run, but not the other way round.
        provisional = owned[1]
        owned[0].record.models[provisional].tags |= dict(tags)
        after = hub.positions(log)
        hub.registry_log.call(method, {"model_id": model_id, **arguments, "after": after})
        return
    known = owned[1] if owned is not None else model_id
    log.call(method, {"model_id": known, **arguments})


def local(hub: Hub, model_id: str) -> Any:
    """Return a model as its journal knows it, None where this process hasn't created it."""
    owned = hub.find_model(model_id)
    if owned is None:
        return None
    log, provisional = owned
    record = log.record.models.get(provisional)
    if record is None:
        return None
    with log.guard:
        return answers.model_of(record, model_id, record.source_run_id, hub.uri)


def local_models(hub: Hub, name: str) -> list[Any]:
    """Return the models of a name that this process has created, as their journals know them."""
    found = [local(hub, model_id) for model_id in hub.own_models()]
    return [model for model in found if model is not None and model.name == name]


def get(hub: Hub, model_id: str, **more: Any) -> Any:
    """Return a model with all that this process has logged of it."""
    owned = hub.find_model(model_id)
    if owned is not None and not hub.deliver(owned[0]):
        return local(hub, model_id)
    try:
        real = real_model_id(hub, model_id)
        return answers.with_our_addresses(
            hub.ask(lambda: hub.tracking.get_logged_model(real, **more)), hub.uri
        )
    except Unreachable:
        known = local(hub, model_id)
        if known is None:
            raise
        return known


def real_model_id(hub: Hub, model_id: str) -> str:
    """Return the ID of a model in MLflow, or the provisional one while it isn't known."""
    if not is_provisional(model_id):
        return model_id
    real = hub.real_id(model_id)
    if real is not None:
        return real
    from mlflow_project.tracking.delivery.program_session import find_real_id
    from mlflow_project.tracking.journal.format import Cursor
    from mlflow_project.tracking.journal.state_dir import runs_folder

    promise = Promise.load(model_id)
    found = Cursor.load(runs_folder() / promise.key).models.get(model_id) if promise is not None else None
    found = found or hub.ask(lambda: find_real_id(hub.connect(), model_id))
    if found is None:
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

        raise MlflowException(f"Logged model with ID '{model_id}' not found.", RESOURCE_DOES_NOT_EXIST)
    hub.note_real(model_id, found)
    return found

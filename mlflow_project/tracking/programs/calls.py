"""The calls that are journaled under their names in MLflow's stores, and how each is made there.

Making one again, because its answer was lost, changes nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from mlflow_project.common.names import KEY_TAG
from mlflow_project.tracking.programs.ids import MODEL_TAG, VERSION_TAG

BARRIERS = frozenset({"finalize_logged_model", "create_model_version"})
"""Calls that come after the files before them; all others overtake files."""

_MISSING, _PRESENT = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"

HISTORY_TAG = "mlflow.log-model.history"


@dataclass(kw_only=True)
class Target:
    """Where calls go. `models` and `versions` take the real IDs of what is created, by their provisional ones."""

    mlflow: ModuleType
    tracking: Any
    registry: Any
    run_id: str
    key: str
    models: dict[str, str]
    versions: dict[str, str]
    repeated: bool = False
    """Whether the call may have been made before."""

    @property
    def entities(self) -> Any:
        return self.mlflow.entities


def make_call(target: Target, method: str, arguments: Mapping[str, Any]) -> Any:
    """Make a journaled call; return what the store returns. Raises what the store raises."""
    return _HANDLERS[method](target, **arguments)


def pairs(tags: Sequence[Any] | None) -> list[list[Any]] | None:
    """Return tags or parameters as they are journaled."""
    return None if tags is None else [[tag.key, tag.value] for tag in tags]


def dataset_inputs(entities: Any, datasets: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return MLflow's entities of journaled data sets."""
    return [
        entities.DatasetInput(
            entities.Dataset(**item["dataset"]),
            [entities.InputTag(key, value) for key, value in item["tags"]],
        )
        for item in datasets
    ]


def _unless(code: str, action: Callable[[], Any], otherwise: Callable[[], Any] = lambda: None) -> Any:
    """Return what an action does or, where the store answers it with this code, what is done otherwise."""
    try:
        return action()
    except Exception as error:
        if getattr(error, "error_code", None) != code:
            raise
    return otherwise()


def _delete_tag(to: Target, key: str) -> None:
    _unless(_MISSING, lambda: to.tracking.delete_tag(to.run_id, key))


def _update_run(
    to: Target, status: str | None = None, name: str | None = None, end_time: int | None = None
) -> None:
    run_status = to.entities.RunStatus.from_string(status) if status else None
    to.tracking.update_run_info(to.run_id, run_status, end_time, name)


def _log_inputs(
    to: Target, datasets: Sequence[Mapping[str, Any]] | None = None, models: Sequence[str] | None = None
) -> None:
    known: set[str] = set()
    if models:
        inputs = to.tracking.get_run(to.run_id).inputs
        known = {item.model_id for item in (inputs.model_inputs if inputs else [])}
    new = [to.entities.LoggedModelInput(model) for model in models or () if model not in known]
    more = {"models": new} if new else {}
    to.tracking.log_inputs(to.run_id, dataset_inputs(to.entities, datasets or ()), **more)


def _log_outputs(to: Target, models: Sequence[Mapping[str, Any]]) -> None:
    outputs = to.tracking.get_run(to.run_id).outputs if to.repeated else None
    known = {(item.model_id, item.step) for item in (outputs.model_outputs if outputs else [])}
    new = [
        to.entities.LoggedModelOutput(item["model_id"], item["step"])
        for item in models
        if (item["model_id"], item["step"]) not in known
    ]
    if new:
        to.tracking.log_outputs(to.run_id, new)


def _record_logged_model(to: Target, model: Mapping[str, Any]) -> None:
    text = to.tracking.get_run(to.run_id).data.tags.get(HISTORY_TAG)
    history = json.loads(text) if text else []
    if model not in history:
        to.tracking.set_tag(to.run_id, to.entities.RunTag(HISTORY_TAG, json.dumps([*history, model])))


def _create_logged_model(
    to: Target,
    id: str,
    experiment_id: str,
    name: str | None,
    source_run_id: str | None,
    tags: Sequence[tuple[str, str]] | None,
    params: Sequence[tuple[str, str]] | None,
    model_type: str | None,
) -> Any:
    if id in to.models:
        return to.tracking.get_logged_model(to.models[id])
    model = None
    if to.repeated:
        found = to.tracking.search_logged_models(
            [experiment_id], filter_string=f"tags.`{MODEL_TAG}` = '{id}'"
        )
        model = min(found, key=lambda each: (each.creation_timestamp, each.model_id), default=None)
    if model is None:
        own = [[KEY_TAG, f"{to.key}/{id}"], [MODEL_TAG, id]]
        model = to.tracking.create_logged_model(
            experiment_id,
            name,
            source_run_id,
            [to.entities.LoggedModelTag(key, value) for key, value in [*(tags or ()), *own]],
            [to.entities.LoggedModelParameter(key, value) for key, value in params or ()],
            model_type,
        )
    to.models[id] = str(model.model_id)
    return model


def _finalize_logged_model(to: Target, model_id: str, status: str) -> Any:
    return to.tracking.finalize_logged_model(model_id, to.entities.LoggedModelStatus(status))


def _log_logged_model_params(to: Target, model_id: str, params: Sequence[tuple[str, str]]) -> None:
    known = to.tracking.get_logged_model(model_id).params if to.repeated else {}
    new = [to.entities.LoggedModelParameter(key, value) for key, value in params if key not in known]
    if new:
        to.tracking.log_logged_model_params(model_id, new)


def _set_logged_model_tags(to: Target, model_id: str, tags: Sequence[tuple[str, str]]) -> None:
    to.tracking.set_logged_model_tags(
        model_id, [to.entities.LoggedModelTag(key, value) for key, value in tags]
    )


def _delete_logged_model_tag(to: Target, model_id: str, key: str) -> None:
    _unless(_MISSING, lambda: to.tracking.delete_logged_model_tag(model_id, key))


def _create_experiment(
    to: Target, name: str, artifact_location: str | None, tags: Sequence[tuple[str, str]] | None
) -> str:
    made = [to.entities.ExperimentTag(key, value) for key, value in tags or ()]
    return str(
        _unless(
            _PRESENT,
            lambda: to.tracking.create_experiment(name, artifact_location, made),
            lambda: to.tracking.get_experiment_by_name(name).experiment_id,
        )
    )


def _set_experiment_tag(to: Target, experiment_id: str, key: str, value: str) -> None:
    to.tracking.set_experiment_tag(experiment_id, to.entities.ExperimentTag(key, value))


def _create_registered_model(
    to: Target,
    name: str,
    tags: Sequence[tuple[str, str]] | None = None,
    description: str | None = None,
    **more: Any,
) -> Any:
    made = [_registry_entities(to).RegisteredModelTag(key, value) for key, value in tags or ()]

    def create() -> Any:
        return to.registry.create_registered_model(name, made, description, **more)

    if not to.repeated:
        return create()
    return _unless(_PRESENT, create, lambda: to.registry.get_registered_model(name))


def _create_model_version(
    to: Target,
    id: str,
    name: str,
    source: str,
    run_id: str | None,
    tags: Sequence[tuple[str, str]] | None,
    run_link: str | None,
    description: str | None,
    model_id: str | None,
) -> Any:
    if to.repeated:
        for version in to.registry.search_model_versions(f"name = '{name}'", max_results=200):
            if version.tags.get(VERSION_TAG) == id:
                to.versions[id] = f"{name}/{version.version}"
                return version
    tag = _registry_entities(to).ModelVersionTag
    more = {"model_id": model_id} if model_id is not None else {}
    version = to.registry.create_model_version(
        name, source, run_id, [tag(key, value) for key, value in [*(tags or ()), [VERSION_TAG, id]]],
        run_link, description, **more,
    )  # fmt: skip
    to.versions[id] = f"{name}/{version.version}"
    return version


def _set_registered_model_tag(to: Target, name: str, key: str, value: str) -> None:
    to.registry.set_registered_model_tag(name, _registry_entities(to).RegisteredModelTag(key, value))


def _set_model_version_tag(to: Target, name: str, version: str, key: str, value: str) -> None:
    to.registry.set_model_version_tag(name, version, _registry_entities(to).ModelVersionTag(key, value))


def _registry_entities(to: Target) -> Any:
    return to.mlflow.entities.model_registry


def _of_registry(method: str) -> Callable[..., Any]:
    """Return the handler of a call that the registry takes as it is; a deletion of nothing is one already made."""

    def make(to: Target, **arguments: Any) -> Any:
        if not method.startswith("delete"):
            return getattr(to.registry, method)(**arguments)
        return _unless(_MISSING, lambda: getattr(to.registry, method)(**arguments))

    return make


_HANDLERS: dict[str, Callable[..., Any]] = {
    "delete_tag": _delete_tag,
    "update_run": _update_run,
    "log_inputs": _log_inputs,
    "log_outputs": _log_outputs,
    "record_logged_model": _record_logged_model,
    "create_logged_model": _create_logged_model,
    "finalize_logged_model": _finalize_logged_model,
    "log_logged_model_params": _log_logged_model_params,
    "set_logged_model_tags": _set_logged_model_tags,
    "delete_logged_model_tag": _delete_logged_model_tag,
    "create_experiment": _create_experiment,
    "set_experiment_tag": _set_experiment_tag,
    "create_registered_model": _create_registered_model,
    "create_model_version": _create_model_version,
    "set_registered_model_tag": _set_registered_model_tag,
    "set_model_version_tag": _set_model_version_tag,
    **{
        method: _of_registry(method)
        for method in (
            "update_registered_model", "update_model_version", "transition_model_version_stage",
            "delete_registered_model_tag", "delete_model_version_tag", "set_registered_model_alias",
            "delete_registered_model_alias",
        )
    },
}  # fmt: skip

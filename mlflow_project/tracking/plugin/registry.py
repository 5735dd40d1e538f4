"""MLflow's model registry for `durable+` addresses: what is registered is journaled, and sent after the runs."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.utils import validation

from mlflow_project.tracking.hub.lifecycle import hub_of
from mlflow_project.tracking.hub.reachability import Unreachable, rejection
from mlflow_project.tracking.journal.entities import now_ms
from mlflow_project.tracking.plugin import answers, models
from mlflow_project.tracking.plugin.delegation import complete, real_call
from mlflow_project.tracking.programs import ids
from mlflow_project.tracking.programs.addresses import parse
from mlflow_project.tracking.programs.calls import pairs
from mlflow_project.tracking.programs.ids import is_provisional

VERSION_SECONDS = 10.0
"""How long a new version waits for the upload of its model, while the server answers."""


class DurableRegistryStore(AbstractStore):
    """A registry that nothing is lost on the way to."""

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        super().__init__(store_uri, tracking_uri)  # type: ignore[no-untyped-call]
        self._store_uri = store_uri
        self._pending: dict[tuple[str, str], ModelVersion] = {}
        self._known: dict[str, RegisteredModel] = {}
        self._aliases: dict[tuple[str, str], str] = {}

    @property
    def _hub(self) -> Any:
        return hub_of(self._store_uri)

    # Registered models.

    def create_registered_model(
        self, name: str, tags: Any = None, description: str | None = None, deployment_job_id: Any = None
    ) -> RegisteredModel:
        validation._validate_model_name(name)
        arguments: dict[str, Any] = {"name": name, "tags": pairs(tags), "description": description}
        if deployment_job_id:
            arguments["deployment_job_id"] = deployment_job_id
        made = self._outcome("create_registered_model", arguments)
        if made is None:
            made = RegisteredModel(name, now_ms(), now_ms(), description, tags=list(tags or ()))
        self._known[name] = made
        return cast(RegisteredModel, made)

    def get_registered_model(self, name: str) -> RegisteredModel:
        hub = self._hub
        delivered = hub.deliver(hub.registry_log)
        try:
            self._known[name] = hub.ask(lambda: hub.registry.get_registered_model(name))
        except MlflowException as error:
            # It may wait for the files of a version before it.
            if name not in self._known or (delivered and not isinstance(error, Unreachable)):
                raise
        return self._known[name]

    def get_latest_versions(self, name: str, stages: Any = None) -> list[ModelVersion]:
        hub = self._hub
        hub.deliver(hub.registry_log)
        try:
            return cast(list[ModelVersion], hub.ask(lambda: hub.registry.get_latest_versions(name, stages)))
        except Unreachable:
            own = [version for (known, _), version in self._pending.items() if known == name]
            if not own:
                raise
            return own[-1:]

    def get_model_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        hub = self._hub
        own = self._aliases.get((name, alias))
        if not hub.deliver(hub.registry_log) and own is not None:
            # The files of a large model may take long, and the alias comes after them.
            return self.get_model_version(name, own)
        try:
            return cast(ModelVersion, hub.ask(lambda: hub.registry.get_model_version_by_alias(name, alias)))
        except Unreachable:
            if own is None:
                raise
            return self._pending_version(name, own)

    def update_registered_model(
        self, name: str, description: str, deployment_job_id: Any = None
    ) -> RegisteredModel:
        made = self._outcome("update_registered_model", {"name": name, "description": description})
        return made if made is not None else RegisteredModel(name, description=description)

    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        validation._validate_model_name(name)
        validation._validate_registered_model_tag(tag.key, tag.value)
        self._call("set_registered_model_tag", {"name": name, "key": tag.key, "value": tag.value})

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        self._call("delete_registered_model_tag", {"name": name, "key": key})

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        validation._validate_model_name(name)
        validation._validate_model_alias_name(alias)
        self._aliases[name, alias] = str(version)
        self._call("set_registered_model_alias", {"name": name, "alias": alias, "version": str(version)})

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self._aliases.pop((name, alias), None)
        self._call("delete_registered_model_alias", {"name": name, "alias": alias})

    # Versions.

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> ModelVersion:
        validation._validate_model_name(name)
        hub = self._hub
        provisional = ids.new_version()
        after: dict[str, int] = {}
        place = parse(source)
        for run in filter(None, (run_id, place.owner if place and place.kind == "runs" else None)):
            after |= hub.positions(hub.find_log(run))
        known = model_id or (source.removeprefix("models:/") if source.startswith("models:/m-") else None)
        owned = hub.find_model(known) if known else None
        if owned is not None:
            after |= hub.positions(owned[0])
        arguments = {
            "id": provisional,
            "name": name,
            "source": source,
            "run_id": run_id,
            "tags": pairs(tags),
            "run_link": run_link,
            "description": description,
            "model_id": model_id,
            "after": after,
        }
        made = self._outcome("create_model_version", arguments, VERSION_SECONDS)
        if made is not None:
            return cast(ModelVersion, made)
        hub.promise(provisional, hub.registry_log)
        version = ModelVersion(
            name,
            provisional,
            now_ms(),
            description=description,
            source=source,
            run_id=run_id,
            status="PENDING_REGISTRATION",
            tags=list(tags or ()),
            run_link=run_link,
        )
        self._pending[name, provisional] = version
        self._known.setdefault(name, RegisteredModel(name))
        return version

    def _await_model_version_creation(self, mv: ModelVersion, await_creation_for: int) -> None:
        # It was waited for already; one that is pending is delivered some time.
        if not is_provisional(str(mv.version)):
            super()._await_model_version_creation(mv, await_creation_for)  # type: ignore[no-untyped-call]

    def update_model_version(self, name: str, version: str, description: str) -> ModelVersion:
        arguments = {"name": name, "version": str(version), "description": description}
        made = self._outcome("update_model_version", arguments)
        return made if made is not None else self._pending_version(name, version, description=description)

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> ModelVersion:
        arguments = {
            "name": name,
            "version": str(version),
            "stage": stage,
            "archive_existing_versions": archive_existing_versions,
        }
        made = self._outcome("transition_model_version_stage", arguments)
        return made if made is not None else self._pending_version(name, version, current_stage=stage)

    def set_model_version_tag(self, name: str, version: str, tag: Any) -> None:
        validation._validate_model_name(name)
        validation._validate_model_version_tag(tag.key, tag.value)
        arguments = {"name": name, "version": str(version), "key": tag.key, "value": tag.value}
        self._call("set_model_version_tag", arguments)

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        self._call("delete_model_version_tag", {"name": name, "version": str(version), "key": key})

    def get_model_version(self, name: str, version: str) -> ModelVersion:
        hub = self._hub
        hub.deliver(hub.registry_log)
        real = self._real_version(name, str(version))
        if real is None:
            return self._pending_version(name, version)
        return cast(ModelVersion, hub.ask(lambda: hub.registry.get_model_version(name, real)))

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        hub = self._hub
        hub.deliver(hub.registry_log)
        real = self._real_version(name, str(version))
        if real is None:
            source = str(self._pending_version(name, version).source)
            if not source.startswith("models:/"):
                return source
            return str(models.get(hub, source.removeprefix("models:/")).artifact_location)
        return answers.our_address(
            str(hub.ask(lambda: hub.registry.get_model_version_download_uri(name, real))), hub.uri
        )

    def _pending_version(self, name: str, version: str, **more: Any) -> ModelVersion:
        known = self._pending.get((name, str(version)))
        if known is not None:
            return known
        return ModelVersion(name, str(version), now_ms(), status="PENDING_REGISTRATION", **more)

    def _real_version(self, name: str, version: str) -> str | None:
        """Return the number of a version in MLflow, None while it has none."""
        if not is_provisional(version):
            return version
        from mlflow_project.tracking.journal.format import Cursor
        from mlflow_project.tracking.journal.state_dir import runs_folder
        from mlflow_project.tracking.programs.ids import Promise

        promise = Promise.load(version)
        key = promise.key if promise is not None else self._hub.registry_log.header.key
        found = Cursor.load(runs_folder() / key).versions.get(version)
        if found is None:
            return None
        return found.rsplit("/", 1)[1]

    # How a call is journaled.

    def _call(self, method: str, arguments: Mapping[str, Any]) -> None:
        self._hub.registry_log.call(method, arguments)

    def _outcome(self, method: str, arguments: Mapping[str, Any], seconds: float = 2.0) -> Any:
        """Journal a call and return what comes of it, None where it isn't made in time.

        Raises:
            MlflowException: The server refuses it.
        """
        hub = self._hub
        log = hub.registry_log
        start = log.call(method, arguments, watch=True)
        hub.wait(lambda: log.outcome(start) is not None, seconds)
        outcome = log.outcome(start)
        log.unwatch(start)
        if isinstance(outcome, Exception):
            raise rejection(outcome) from outcome
        return outcome

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._hub.registry, name)


def _straight(name: str) -> Callable[..., Any]:
    """Return a method that the server's own registry carries out, once it has what was registered before."""

    def method(self: DurableRegistryStore, *arguments: Any, **named: Any) -> Any:
        hub = self._hub
        hub.deliver_for_search() if name.startswith("search") else hub.deliver()
        call = real_call(hub, name, arguments, named)
        return hub.ask(lambda: call(hub.registry))

    return method


# MLflow reads the signature of `create_model_version`.
complete(DurableRegistryStore, AbstractStore, lambda hub: hub.registry, _straight, ("create_model_version",))

"""MLflow's tracking store for `durable+` addresses: writes are journaled, reads are delivered before."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from mlflow.entities import Metric, Run, RunInfo, RunStatus, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.async_logging.run_operations import RunOperations
from mlflow.utils.validation import _validate_experiment_name, _validate_param, _validate_tag

from mlflow_project.tracking.hub.lifecycle import hub_of
from mlflow_project.tracking.hub.reachability import Unreachable
from mlflow_project.tracking.journal import entities
from mlflow_project.tracking.journal.entities import Param, RunEnded, RunResumed, Tag
from mlflow_project.tracking.plugin import answers, checks, models, runs
from mlflow_project.tracking.plugin.delegation import complete, real_call
from mlflow_project.tracking.programs import ids
from mlflow_project.tracking.programs.calls import pairs
from mlflow_project.tracking.programs.ids import Promise


class DurableTrackingStore(AbstractStore):
    """A store that nothing is lost on the way to. What it doesn't journal goes to the server as it is."""

    def __init__(self, store_uri: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        checks.check_address(store_uri)
        self._store_uri = store_uri

    @property
    def _hub(self) -> Any:
        return hub_of(self._store_uri)  # another one after a fork

    # Experiments.

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:
        _validate_experiment_name(name)
        hub = self._hub
        repeated = False

        def create() -> str:
            nonlocal repeated
            try:
                return str(hub.tracking.create_experiment(name, artifact_location, tags or []))
            except MlflowException as error:
                # The first attempt may have created it, though its answer was lost.
                if repeated and error.error_code == "RESOURCE_ALREADY_EXISTS":
                    return str(hub.tracking.get_experiment_by_name(name).experiment_id)
                repeated = True
                raise

        try:
            real = str(hub.ask(create))
            made = answers.experiment_of(
                real, name, artifact_location, {tag.key: tag.value for tag in tags or ()}
            )
            runs.remember_experiment(
                hub, made
            )  # MLflow asks for it at once, and the server may be gone by then
            return real
        except Unreachable:
            promise = Promise(
                tracking_uri=hub.uri,
                experiment=name,
                experiment_location=artifact_location or None,
                experiment_tags={tag.key: tag.value for tag in tags or ()},
            )
            provisional = ids.experiment_id_of(hub.uri, name)
            promise.save(provisional)
            hub.experiments[provisional] = promise
            arguments = {"name": name, "artifact_location": artifact_location, "tags": pairs(tags)}
            hub.registry_log.call("create_experiment", arguments)
            return provisional

    def get_experiment(self, experiment_id: str) -> Any:
        hub = self._hub
        hub.deliver_experiments()
        promise = hub.promised_experiment(experiment_id)
        try:
            if promise is None:
                found = hub.ask(lambda: hub.tracking.get_experiment(experiment_id))
                runs.remember_experiment(hub, found)
                return found
            found = hub.ask(lambda: hub.tracking.get_experiment_by_name(promise.experiment))
            if found is not None:
                return runs.shown_experiment(hub, found)
        except Unreachable:
            known = runs.known_experiment(hub, experiment_id)
            if promise is None and known is not None:
                return known
            if promise is None:
                raise
        return answers.experiment_of(
            experiment_id, promise.experiment, promise.experiment_location, dict(promise.experiment_tags)
        )

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        hub = self._hub
        hub.deliver_experiments()
        try:
            found = hub.ask(lambda: hub.tracking.get_experiment_by_name(experiment_name))
            if found is not None:
                runs.remember_experiment(hub, found)
                return runs.shown_experiment(hub, found)
        except Unreachable:
            known = runs.known_experiment_by_name(hub, experiment_name)
            if known is not None:
                return known
        provisional = ids.experiment_id_of(hub.uri, experiment_name)
        promised = hub.promised_experiment(provisional)
        return None if promised is None else self.get_experiment(provisional)

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        from mlflow.utils.validation import _validate_experiment_tag

        _validate_experiment_tag(tag.key, tag.value)
        arguments = {"experiment_id": str(experiment_id), "key": tag.key, "value": tag.value}
        self._hub.registry_log.call("set_experiment_tag", arguments)

    # Runs.

    def create_run(
        self, experiment_id: str, user_id: str, start_time: int, tags: Sequence[Any], run_name: str | None
    ) -> Run:
        return runs.create(self._hub, str(experiment_id), start_time, list(tags or ()), run_name)

    def get_run(self, run_id: str) -> Run:
        return runs.get(self._hub, run_id)

    def update_run_info(
        self, run_id: str, run_status: Any, end_time: int | None = None, run_name: str | None = None
    ) -> RunInfo:
        hub = self._hub
        log = runs.log_of(hub, run_id)
        status = RunStatus.to_string(run_status) if isinstance(run_status, int) else run_status
        updates: list[entities.Entity] = []
        if run_name:
            updates.append(entities.Call("update_run", {"name": run_name}))
        if status in entities.END_STATES:
            updates.append(RunEnded(status, end_time or entities.now_ms()))
        elif status == "RUNNING":
            updates.append(RunResumed())
        elif status:
            updates.append(entities.Call("update_run", {"status": status, "end_time": end_time}))
        log.append(*updates)
        log.sync()
        return runs.local_run(hub, log, run_id).info

    def delete_run(self, run_id: str) -> None:
        _straight("delete_run")(self, run_id)
        self._hub.deleted_runs |= runs.ids_of(self._hub, run_id)

    def restore_run(self, run_id: str) -> None:
        _straight("restore_run")(self, run_id)
        self._hub.deleted_runs -= runs.ids_of(self._hub, run_id)

    def log_metric(self, run_id: str, metric: Metric) -> None:
        checks.check_metric(metric)
        runs.log_of(self._hub, run_id).append(_point(metric))

    def log_param(self, run_id: str, param: Any) -> None:
        param = _validate_param(param.key, param.value) or param
        log = runs.log_of(self._hub, run_id)
        with log.guard:
            new = checks.check_unchanged(run_id, [param], log.record.params, one=True)
            log.append(*(Param(each.key, each.value) for each in new))

    def set_tag(self, run_id: str, tag: Any) -> None:
        tag = _validate_tag(tag.key, tag.value) or tag
        runs.log_of(self._hub, run_id).append(Tag(tag.key, tag.value))

    def delete_tag(self, run_id: str, key: str) -> None:
        log = runs.log_of(self._hub, run_id)
        if key not in log.record.tags and log.header.origin == "program":
            from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

            raise MlflowException(f"No tag with name: {key} in run with id {run_id}", RESOURCE_DOES_NOT_EXIST)
        log.call("delete_tag", {"key": key})

    def log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        metrics, params, tags = checks.check_batch(run_id, metrics or (), params or (), tags or ())
        log = runs.log_of(self._hub, run_id)
        with log.guard:
            new = checks.check_unchanged(run_id, params, log.record.params, one=False)
            log.append(
                *(Param(param.key, param.value) for param in new),
                *(_point(metric) for metric in metrics),
                *(Tag(tag.key, tag.value) for tag in tags),
            )

    def log_batch_async(self, run_id: str, metrics: Any, params: Any, tags: Any) -> RunOperations:
        # On disk at once, so there is nothing to wait for.
        self.log_batch(run_id, metrics, params, tags)
        return RunOperations([])

    def log_inputs(self, run_id: str, datasets: Any = None, models: Any = None) -> None:
        from mlflow.utils.validation import _validate_dataset_inputs

        if datasets is not None:
            if not isinstance(datasets, list):
                raise TypeError(f"Argument 'datasets' should be a list, got '{type(datasets)}'")
            _validate_dataset_inputs(datasets)
        arguments = {
            "datasets": [answers.journaled_dataset(item) for item in datasets or ()],
            "models": [item.model_id for item in models or ()],
        }
        runs.log_of(self._hub, run_id).call("log_inputs", arguments)

    def log_outputs(self, run_id: str, models: Any) -> None:
        arguments = {"models": [{"model_id": item.model_id, "step": item.step} for item in models]}
        runs.log_of(self._hub, run_id).call("log_outputs", arguments)

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        runs.log_of(self._hub, run_id).call("record_logged_model", {"model": mlflow_model.get_tags_dict()})

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> Any:
        hub = self._hub
        log = hub.find_log(run_id)
        if page_token is None and log is not None and not hub.deliver(log):
            return PagedList(runs.local_history(log, metric_key, run_id), None)
        real = runs.real_run_id(hub, run_id)
        try:
            return hub.ask(lambda: hub.tracking.get_metric_history(real, metric_key, max_results, page_token))
        except Unreachable:
            if log is None or page_token is not None:
                raise
            return PagedList(runs.local_history(log, metric_key, run_id), None)

    def search_runs(self, experiment_ids: Any, *arguments: Any, **named: Any) -> Any:
        hub = self._hub
        hub.deliver_for_search()
        real = [runs.real_experiment_id(hub, str(each)) for each in experiment_ids]
        # A filter may name a parent run.
        rest = [runs.with_real_ids(hub, value) for value in arguments]
        named = {key: runs.with_real_ids(hub, value) for key, value in named.items()}
        return self._from_server(lambda store: store.search_runs(real, *rest, **named))

    def _search_runs(self, *arguments: Any, **named: Any) -> Any:
        return self._from_server(lambda store: store._search_runs(*arguments, **named))

    def search_experiments(self, view_type: int = ViewType.ACTIVE_ONLY, *arguments: Any, **named: Any) -> Any:
        return self._from_server(lambda store: store.search_experiments(view_type, *arguments, **named))

    # Logged models.

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Any = None,
        params: Any = None,
        model_type: str | None = None,
    ) -> Any:
        return models.create(self._hub, str(experiment_id), name, source_run_id, tags, params, model_type)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> Any:
        more = {"allow_deleted": True} if allow_deleted else {}
        return models.get(self._hub, model_id, **more)

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        hub = self._hub
        value = status.value if hasattr(status, "value") else str(status)
        models.call(hub, "finalize_logged_model", model_id, {"status": value})
        return models.local(hub, model_id) or models.get(hub, model_id)

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        models.call(self._hub, "set_logged_model_tags", model_id, {"tags": pairs(tags)})

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        models.call(self._hub, "delete_logged_model_tag", model_id, {"key": key})

    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        models.call(self._hub, "log_logged_model_params", model_id, {"params": pairs(params)})

    def search_logged_models(
        self, experiment_ids: Any, filter_string: str | None = None, *rest: Any, **named: Any
    ) -> Any:
        hub = self._hub
        # What MLflow asks before it reads `runs:/<run ID>/<name>`, or makes a model of this name the active one.
        named_so = re.fullmatch(r"name ?= ?'([^']*)'", filter_string or "")
        hub.deliver() if named_so else hub.deliver_for_search()
        try:
            real = [runs.real_experiment_id(hub, str(each)) for each in experiment_ids]
            wanted = runs.with_real_ids(hub, filter_string)
            return self._from_server(lambda store: store.search_logged_models(real, wanted, *rest, **named))
        except Unreachable:
            if named_so is None:
                raise
            return PagedList(models.local_models(hub, named_so[1]), None)

    # What is the server's alone.

    def _from_server(self, ask: Callable[[Any], Any]) -> Any:
        hub = self._hub
        return answers.with_our_addresses(hub.ask(lambda: ask(hub.tracking)), hub.uri)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._hub.tracking, name)


def _point(metric: Metric) -> entities.Metric:
    return entities.Metric(
        metric.key,
        metric.value,
        int(metric.step),
        int(metric.timestamp),
        getattr(metric, "model_id", None),
        getattr(metric, "dataset_name", None),
        getattr(metric, "dataset_digest", None),
    )


def _straight(name: str) -> Callable[..., Any]:
    """Return a method that the server's own store carries out, once it has what was logged before."""

    def method(self: DurableTrackingStore, *arguments: Any, **named: Any) -> Any:
        hub = self._hub
        hub.deliver()
        return self._from_server(real_call(hub, name, arguments, named))

    return method


_LOCAL = ("log_metric_async", "log_param_async", "set_tag_async", "end_async_logging", "flush_async_logging",
          "shut_down_async_logging", "set_model_versions_tags")  # fmt: skip
complete(DurableTrackingStore, AbstractStore, lambda hub: hub.tracking, _straight, _LOCAL)

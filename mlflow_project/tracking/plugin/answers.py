"""MLflow's entities from what journals say, and the server's with addresses of ours."""

import inspect
from typing import Any, TypeVar

from mlflow.entities import (
    Experiment,
    ExperimentTag,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunStatus,
    RunTag,
)

from mlflow_project.tracking.journal import entities
from mlflow_project.tracking.programs.addresses import address, address_of_uri
from mlflow_project.tracking.programs.calls import dataset_inputs
from mlflow_project.tracking.programs.record import ModelRecord, RunRecord

Answer = TypeVar("Answer")

_ACTIVE = "active"
# MLflow 2 wants the ID twice.
_WANTS_UUID = "run_uuid" in inspect.signature(RunInfo.__init__).parameters


def run_of(record: RunRecord, run_id: str, uri: str) -> Run:
    """Return the run of a record."""
    twice = {"run_uuid": run_id} if _WANTS_UUID else {}
    info = RunInfo(
        run_id=run_id,
        experiment_id=record.experiment_id,
        user_id=record.user,
        status=record.status,
        start_time=record.start_ms,
        end_time=record.end_ms,
        lifecycle_stage=_ACTIVE,
        artifact_uri=address(uri, "runs", run_id),
        run_name=record.name,
        **twice,
    )
    data = RunData(
        metrics=[metric_of(point) for point in record.metrics.values()],
        params=[Param(key, value) for key, value in record.params.items()],
        tags=[RunTag(key, value) for key, value in record.tags.items()],
    )
    import mlflow.entities

    inputs: dict[str, Any] = {"dataset_inputs": dataset_inputs(mlflow.entities, record.datasets)}
    if not hasattr(mlflow.entities, "LoggedModelOutput"):
        return Run(info, data, RunInputs(**inputs))
    inputs["model_inputs"] = [mlflow.entities.LoggedModelInput(each) for each in record.model_inputs]
    outputs = [
        mlflow.entities.LoggedModelOutput(each["model_id"], each["step"]) for each in record.model_outputs
    ]
    return Run(info, data, RunInputs(**inputs), mlflow.entities.RunOutputs(outputs) if outputs else None)


def record_of(run: Run) -> RunRecord:
    """Return the record of a run that the server knows, to which this process adds."""
    info, data = run.info, run.data
    record = RunRecord(
        str(info.experiment_id),
        info.run_name or "",
        info.start_time,
        info.user_id,
        RunStatus.to_string(info.status) if isinstance(info.status, int) else info.status,
        info.end_time,
        dict(data.params),
        dict(data.tags),
    )
    for metric in data._metric_objs:
        record.apply(entities.Metric(metric.key, metric.value, metric.step, metric.timestamp))
    if run.inputs:
        for item in run.inputs.dataset_inputs:
            record.datasets.append(journaled_dataset(item))
        record.model_inputs += [item.model_id for item in getattr(run.inputs, "model_inputs", None) or ()]
    outputs = getattr(run, "outputs", None)
    if outputs:
        record.model_outputs += [
            {"model_id": item.model_id, "step": item.step} for item in outputs.model_outputs
        ]
    return record


def journaled_dataset(item: Any) -> dict[str, Any]:
    """Return a data set with its tags as it is journaled."""
    names = ("name", "digest", "source_type", "source", "schema", "profile")
    return {
        "dataset": {name: getattr(item.dataset, name) for name in names},
        "tags": [[tag.key, tag.value] for tag in item.tags],
    }


def metric_of(point: entities.Metric, run_id: str | None = None) -> Metric:
    """Return MLflow's metric of a journaled point."""
    more = {
        name: value
        for name in ("model_id", "dataset_name", "dataset_digest")
        if (value := getattr(point, name)) is not None
    }
    if run_id is not None:
        more["run_id"] = run_id
    return Metric(point.key, point.value, point.timestamp_ms, point.step, **more)


def model_of(record: ModelRecord, model_id: str, source_run_id: str | None, uri: str) -> Any:
    """Return the logged model of a record."""
    from mlflow.entities import LoggedModel, LoggedModelStatus

    return LoggedModel(
        experiment_id=record.experiment_id,
        model_id=model_id,
        name=record.name,
        artifact_location=address(uri, "models", model_id),
        creation_timestamp=record.created_ms,
        last_updated_timestamp=record.created_ms,
        model_type=record.model_type,
        source_run_id=source_run_id,
        status=LoggedModelStatus(record.status),
        tags=dict(record.tags),
        params=dict(record.params),
    )


def experiment_of(experiment_id: str, name: str, location: str | None, tags: dict[str, str]) -> Experiment:
    """Return an experiment that no server has yet."""
    return Experiment(
        experiment_id,
        name,
        location or "",
        _ACTIVE,
        [ExperimentTag(key, value) for key, value in tags.items()],
    )


def with_our_addresses(value: Answer, uri: str) -> Answer:
    """Return what the server answered, with addresses that lead to us: runs and models, or lists of them."""
    _set_addresses(value, uri)
    return value


def _set_addresses(value: Any, uri: str) -> None:
    if isinstance(value, Run):
        _set_addresses(value.info, uri)
    elif isinstance(value, RunInfo):
        value._artifact_uri = address(uri, "runs", value.run_id)
    elif type(value).__name__ == "LoggedModel":
        value._artifact_location = address(uri, "models", value.model_id)
    elif isinstance(value, list):
        for item in value:
            _set_addresses(item, uri)


def our_address(real: str, uri: str) -> str:
    """Return the address under which a program can load what the server has at `real`."""
    return address_of_uri(uri, real) if real.startswith("mlflow-artifacts:") else real

"""All that a tracking server holds, read through its own interface."""

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Run, ViewType

from tests.faults.any_program.recorded import Point

TEXT_BYTES = 2_000_000
"""A smaller file that is UTF-8 is kept as text: there may be IDs in it."""


@dataclass
class Stored:
    """A run or a logged model."""

    name: str
    experiment: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    points: list[Point]
    files: dict[str, bytes]
    """Text, or the digest of what isn't."""
    digests: dict[str, str]
    start: int | None = None
    end: int | None = None
    latest: dict[str, float] = field(default_factory=dict)
    """The value of each metric that a page of runs shows."""
    datasets: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    """IDs of models."""
    source: str | None = None
    """Of a model: the run's ID."""
    kind: str | None = None
    is_model: bool = False


@dataclass
class Version:
    """One version of a registered model."""

    status: str
    source: str
    run_id: str | None
    model_id: str | None
    description: str | None
    tags: dict[str, str]
    aliases: list[str]


@dataclass
class Registered:
    """A registered model."""

    description: str | None
    tags: dict[str, str]
    versions: dict[str, Version]


@dataclass
class Content:
    """Runs and models by ID, experiments' tags by name and names by ID, registered models by name."""

    experiments: dict[str, dict[str, str]]
    experiment_ids: dict[str, str]
    runs: dict[str, Stored]
    models: dict[str, Stored]
    registered: dict[str, Registered]


def take_snapshot(uri: str) -> Content:
    """Read a whole store, deleted runs too."""
    client = MlflowClient(uri, registry_uri=uri)
    experiments = {e.experiment_id: e for e in client.search_experiments(ViewType.ALL)}
    used, runs, models = set(), {}, {}
    for experiment_id, experiment in experiments.items():
        for found in client.search_runs([experiment_id], run_view_type=ViewType.ALL, max_results=1000):
            run = client.get_run(found.info.run_id)
            runs[run.info.run_id] = _read_run(client, run, experiment.name)
            used.add(experiment_id)
        for model in client.search_logged_models([experiment_id]):
            used.add(experiment_id)
            models[model.model_id] = Stored(
                model.name,
                experiment.name,
                str(model.status),
                dict(model.params),
                dict(model.tags),
                [_point(metric) for metric in model.metrics or ()],
                *_read_files(client, model.artifact_location),
                source=model.source_run_id,
                kind=model.model_type,
                is_model=True,
            )
    kept = [e for e in experiments.values() if e.name != "Default" or e.experiment_id in used]
    return Content(
        {e.name: dict(e.tags) for e in kept},
        {e.experiment_id: e.name for e in kept},
        runs,
        models,
        {each.name: _read_registered(client, each.name) for each in client.search_registered_models()},
    )


def _read_run(client: MlflowClient, run: Run, experiment: str) -> Stored:
    run_id = run.info.run_id
    points = [_point(metric) for key in run.data.metrics for metric in client.get_metric_history(run_id, key)]
    datasets = [
        f"{entry.dataset.name} {entry.dataset.digest} {entry.dataset.source_type} "
        f"{sorted((tag.key, tag.value) for tag in entry.tags)} {entry.dataset.schema} {entry.dataset.profile}"
        for entry in run.inputs.dataset_inputs
    ]
    return Stored(
        run.info.run_name,
        experiment,
        run.info.status if run.info.lifecycle_stage == "active" else "deleted",
        dict(run.data.params),
        dict(run.data.tags),
        points,
        *_read_files(client, run.info.artifact_uri),
        start=run.info.start_time,
        end=run.info.end_time,
        latest=dict(run.data.metrics),
        datasets=sorted(datasets),
        inputs=[entry.model_id for entry in run.inputs.model_inputs or ()],
        outputs=[f"{entry.model_id} {entry.step}" for entry in run.outputs.model_outputs or ()],
    )


def _read_registered(client: MlflowClient, name: str) -> Registered:
    model = client.get_registered_model(name)
    versions = {}
    for found in client.search_model_versions(f"name = '{name}'"):
        version = client.get_model_version(name, found.version)
        versions[str(version.version)] = Version(
            version.status,
            version.source,
            version.run_id,
            version.model_id,
            version.description,
            dict(version.tags),
            sorted(version.aliases),
        )
    return Registered(model.description, dict(model.tags), versions)


def _point(metric: Metric) -> Point:
    return metric.key, metric.value, metric.step, metric.timestamp


def _read_files(client: MlflowClient, location: str) -> tuple[dict[str, bytes], dict[str, str]]:
    files, digests = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            root = Path(download_artifacts(location, dst_path=folder, tracking_uri=client.tracking_uri))
        except Exception as error:
            if "No such" in str(error) or "404" in str(error) or isinstance(error, OSError):
                return {}, {}
            raise
        for path in sorted(root.rglob("*")):
            if path.is_file():
                content, name = path.read_bytes(), path.relative_to(root).as_posix()
                digests[name] = hashlib.sha256(content).hexdigest()
                files[name] = content if _is_text(content) else digests[name].encode()
    return files, digests


def _is_text(content: bytes) -> bool:
    if len(content) > TEXT_BYTES:
        return False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True

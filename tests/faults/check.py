"""Whether what lies in MLflow is exactly what an undisturbed run says: nothing missing, nothing twice."""

import hashlib
import math
import tempfile
from collections import Counter
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import ViewType

from mlflow_project.common.names import KEY_TAG
from tests.faults import play


def differences(client: MlflowClient, key: str, seed: int, epochs: int) -> list[str]:
    """What is wrong with the run of this journal, a line each."""
    experiment = client.get_experiment_by_name(play.EXPERIMENT)
    if experiment is None:
        return ["there is no experiment"]
    runs = client.search_runs([experiment.experiment_id], f"tags.{KEY_TAG} = '{key}'", ViewType.ACTIVE_ONLY)
    if len(runs) != 1:
        return [f"{len(runs)} runs instead of one"]
    run = runs[0]
    run_id = run.info.run_id
    wrong = []
    if run.info.status != "FINISHED":
        wrong.append(f"the run is {run.info.status}")
    if run.data.params != play.parameters(seed):
        wrong.append(f"parameters are {run.data.params}")
    status = {"status": "completed", "mlflow.loggedImages": "True"}
    if {tag: run.data.tags.get(tag) for tag in status} != status or "heartbeat" in run.data.tags:
        wrong.append(f"tags are {run.data.tags}")
    wrong += _points(client, run_id, seed, epochs)
    wrong += _artifacts(client, run_id, seed)
    wrong += _model(client, experiment.experiment_id, key, run_id, seed)
    if len(client.get_run(run_id).inputs.dataset_inputs) != 1:
        wrong.append("not one data set")
    return wrong


def _points(client: MlflowClient, run_id: str, seed: int, epochs: int) -> list[str]:
    expected = [point for epoch in range(1, epochs + 1) for point in play.points(seed, epoch)]
    found = [
        (metric.key, metric.step, metric.value)
        for key in sorted({key for key, _, _ in expected})
        for metric in client.get_metric_history(run_id, key)
    ]
    count, wanted = (Counter((key, step) for key, step, _ in points) for points in (found, expected))
    wrong = []
    if lost := wanted - count:
        wrong.append(f"{lost.total()} points lost, such as {next(iter(lost))}")
    if more := count - wanted:
        wrong.append(f"{more.total()} points twice, such as {next(iter(more))}")
    values = {(key, step): value for key, step, value in expected}
    for key, step, value in found:
        right = values.get((key, step), math.inf)
        if not (value == right or (math.isnan(value) and math.isnan(right))):
            wrong.append(f"{key} at {step} is {value}, not {right}")
    return wrong


def _artifacts(client: MlflowClient, run_id: str, seed: int) -> list[str]:
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(client.download_artifacts(run_id, "", folder))
        for path, content in play.files(seed).items():
            if not (root / path).is_file():
                wrong.append(f"{path} is missing")
            elif hashlib.sha256((root / path).read_bytes()).digest() != hashlib.sha256(content).digest():
                wrong.append(f"{path} has other bytes")
        images = sorted(path.suffix for path in (root / "images").glob("*"))
        if images != [".png", ".webp"]:
            wrong.append(f"logged images are {images}")
    return wrong


def _model(client: MlflowClient, experiment_id: str, key: str, run_id: str, seed: int) -> list[str]:
    models = client.search_logged_models([experiment_id], filter_string=f"tags.{KEY_TAG} = '{key}/model'")
    if [str(model.status) for model in models] != ["READY"]:
        return [f"logged models are {models}"]
    (model,) = models
    versions = client.search_model_versions(f"name = '{play.REGISTERED}' and run_id = '{run_id}'")
    wrong = []
    if [version.source for version in versions] != [f"models:/{model.model_id}"]:
        wrong.append(f"registered versions are {versions}")
    elif str(client.get_registered_model(play.REGISTERED).aliases.get(f"s{seed}")) != str(
        versions[0].version
    ):
        wrong.append("the alias points elsewhere")
    outputs = [output.model_id for output in client.get_run(run_id).outputs.model_outputs]
    if set(outputs) != {model.model_id}:
        wrong.append(f"the run's outputs are {outputs}")
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        place, tracking = model.artifact_location, client.tracking_uri
        root = Path(mlflow.artifacts.download_artifacts(place, dst_path=folder, tracking_uri=tracking))
        if (root / "data" / "model.pt2").read_bytes() != play.weights(seed):
            wrong.append("the model's weights have other bytes")
        if model.model_id not in (root / "MLmodel").read_text(encoding="utf-8"):
            wrong.append("MLmodel doesn't name its model")
    return wrong

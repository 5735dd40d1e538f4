"""What a program logs, and what a store has of it."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import Model

Run = dict[str, Any]


class Flavor:
    """A kind of model that needs nothing."""

    @staticmethod
    def save_model(path: str, mlflow_model: Model, **more: object) -> None:
        folder = Path(path)
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "weights.bin").write_bytes(b"weights")
        mlflow_model.add_flavor("tests", data="data")
        mlflow_model.save(str(folder / "MLmodel"))


def log_model(**more: Any) -> Any:
    return Model.log(None, Flavor, name="model", **more)


def log_everything(folder: Path) -> str:
    """Log something of every kind; the run's ID, as the program knows it."""
    mlflow.set_experiment("everything")
    with mlflow.start_run(run_name="parent", tags={"given": "at the start"}) as run:
        mlflow.log_params({"lr": 0.1, "layers": 3})
        for step, loss in ((0, 1.0), (2, 0.5), (1, 0.7), (2, 0.4)):
            mlflow.log_metric("loss", loss, step=step, timestamp=1000 + step)
        mlflow.log_metrics({"nan": float("nan"), "infinite": float("inf")}, timestamp=5, step=0)
        mlflow.set_tags({"kept": "1", "dropped": "1"})
        mlflow.delete_tag("dropped")
        mlflow.log_text("text", "texts/a.txt")
        mlflow.log_dict({"a": 1}, "d.json")
        part = folder / "parts" / "deep"
        part.mkdir(parents=True)
        (part / "one.bin").write_bytes(b"1" * 100)
        mlflow.log_artifacts(str(folder / "parts"), "parts")
        mlflow.log_input(
            mlflow.data.from_numpy(__import__("numpy").zeros(3), name="zeros"), context="training"
        )
        log_model(registered_model_name="doubling")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("inner", 1, step=0, timestamp=7)
    return str(run.info.run_id)


OURS = ("journal_key", "durable.")


def runs_in(uri: str, experiment: str = "everything") -> dict[str, Run]:
    """The runs of a store by name, in terms that two stores share."""
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    return {run.info.run_name: _describe(client, run, names) for run in runs}


def _describe(client: mlflow.MlflowClient, run: Any, names: dict[str, str]) -> Run:
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith(OURS)}
    if "mlflow.parentRunId" in tags:
        tags["mlflow.parentRunId"] = names[tags["mlflow.parentRunId"]]
    run_id = run.info.run_id
    history = {
        key: sorted(
            (point.step, point.timestamp, repr(point.value))
            for point in client.get_metric_history(run_id, key)
        )
        for key in run.data.metrics
    }
    inputs = [
        (item.dataset.name, item.dataset.digest, [(tag.key, tag.value) for tag in item.tags])
        for item in run.inputs.dataset_inputs
    ]
    root = Path(run.info.artifact_uri.removeprefix("file://"))
    files = {
        file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()
    }
    models = []
    for output in run.outputs.model_outputs:
        model = client.get_logged_model(output.model_id)
        folder = Path(model.artifact_location.removeprefix("file://"))
        assert model.source_run_id == run_id
        names_of_files = sorted(
            file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
        )
        card = (folder / "MLmodel").read_text(encoding="utf-8")
        assert "durable+" not in card
        assert f"model_id: {model.model_id}" in card
        assert f"run_id: {run_id}" in card
        models.append((model.name, str(model.status), names_of_files))
    return {
        "status": run.info.status,
        "params": run.data.params,
        "tags": tags,
        "history": history,
        "inputs": inputs,
        "files": files,
        "models": models,
    }

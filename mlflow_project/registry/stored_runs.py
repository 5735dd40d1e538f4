"""Completed runs as MLflow keeps them, and their artifacts."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_project.common.errors import RunError, StoreError
from mlflow_project.tracking.delivery.client import import_mlflow, mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.comparison.model_predictions import ModelPredictions

_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class DatasetInputInfo:
    """Images that went into a run, and what for: training, validation or test."""

    context: str
    name: str
    source: str
    images: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A completed run as MLflow keeps it, under the name by which it is spoken of here."""

    name: str
    run_id: str
    artifact_uri: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    data: tuple[DatasetInputInfo, ...] = ()


def download_artifacts(
    client: "MlflowClient", wanted: Iterable[tuple[RunRecord, str]], folder: Path
) -> dict[tuple[str, str], Path | None]:
    """Downloads artifacts side by side, by run id and path; None for one that the run hasn't got.

    StoreError where the store can't say.
    """
    items = list(dict.fromkeys((run.run_id, run.artifact_uri, path) for run, path in wanted))

    def one(item: tuple[str, str, str]) -> Path | None:
        run_id, uri, path = item
        return download(client, run_id, uri, path, folder / run_id)

    with ThreadPoolExecutor(_THREADS) as threads:
        files = threads.map(one, items)
        return {(run_id, path): file for (run_id, _, path), file in zip(items, files, strict=True)}


def download(client: "MlflowClient", run_id: str, uri: str, path: str, folder: Path) -> Path | None:
    mlflow = import_mlflow()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with mlflow_errors():
            return Path(
                mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{path}", dst_path=str(folder))
            )
    except StoreError:
        # MLflow's artifact stores say "not there" in as many ways as there are stores.
        if path in artifact_paths(client, run_id, str(Path(path).parent)):
            raise
        return None


def artifact_paths(client: "MlflowClient", run_id: str, folder: str = ".") -> list[str]:
    """The paths of a run's artifacts in a folder."""
    with mlflow_errors():
        found = client.list_artifacts(run_id, None if folder == "." else folder)
    return [item.path for item in found]


PREDICTIONS = "predictions/test.parquet"


def stored_predictions(client: "MlflowClient", runs: Sequence[RunRecord]) -> "list[ModelPredictions]":
    """What each run has predicted for its test images, in the order of the runs."""
    from hw2.comparison.model_predictions import ModelPredictions
    from hw2.evaluation.predictions import read_predictions

    models = []
    with tempfile.TemporaryDirectory(prefix="compare-") as scratch:
        files = download_artifacts(client, ((run, PREDICTIONS) for run in runs), Path(scratch))
        for run in runs:
            file = files[run.run_id, PREDICTIONS]
            if file is None:
                raise RunError(
                    f"run {run.run_id} ({run.name}) has no {PREDICTIONS}; if it is not delivered yet: "
                    "mlflow-project sync, else train it again"
                )
            size = run.metrics.get("model_size_bytes")
            models.append(
                ModelPredictions.of(
                    run.name,
                    run.parameters,
                    read_predictions(file),
                    run.metrics.get("train_seconds"),
                    None if size is None else int(size),
                )
            )
    return models

"""Completed runs as MLflow stores them, and their artifacts."""

import json
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import RunError, StoreError
from mlflow_project.common.names import CONTEXT_TAG, PREDICTIONS
from mlflow_project.tracking.delivery.client import artifact_exists, import_mlflow, mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.comparison.model_predictions import ModelPredictions

_THREADS = 8
GONE, NO_ID = "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"
"""MLflow's error codes for what isn't there, and for what can't be an id."""


def fetch_or_none(fetch: Callable[[], Any], codes: Collection[str] = (GONE,)) -> Any | None:
    """Return what MLflow answers; None where it answers with one of these error codes."""
    with mlflow_errors():
        try:
            return fetch()
        except import_mlflow().exceptions.MlflowException as error:
            if error.error_code in codes:
                return None
            raise


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
    """A completed run as MLflow stores it; name: how it is called in tables and messages."""

    name: str
    run_id: str
    artifact_uri: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    data: tuple[DatasetInputInfo, ...] = ()

    @classmethod
    def from_mlflow(cls, run: Any) -> "RunRecord":
        """Read MLflow's own run."""
        return cls(
            name=run.info.run_name or run.info.run_id,
            run_id=run.info.run_id,
            artifact_uri=run.info.artifact_uri,
            parameters=dict(run.data.params),
            metrics=dict(run.data.metrics),
            tags=dict(run.data.tags),
            data=tuple(_dataset_inputs(run)),
        )


def _dataset_inputs(run: Any) -> Iterator[DatasetInputInfo]:
    for used in run.inputs.dataset_inputs if run.inputs else ():
        try:
            profile = json.loads(used.dataset.profile or "{}")
            yield DatasetInputInfo(
                context=next((tag.value for tag in used.tags if tag.key == CONTEXT_TAG), ""),
                name=used.dataset.name,
                source=json.loads(used.dataset.source or "{}").get("uri", ""),
                images=int(profile["pictures"]),
                sha256=str(profile["sha256"]),
            )
        except (ValueError, KeyError, AttributeError):
            continue  # logged by another program


def download_artifacts(
    client: "MlflowClient", artifacts: Iterable[tuple[RunRecord, str]], folder: Path
) -> dict[tuple[str, str], Path | None]:
    """Download artifacts side by side, by run id and path.

    Returns:
        The file of each; None for one that the run hasn't got.

    Raises:
        StoreError: The store can't say.
    """
    items = list(dict.fromkeys((run.run_id, run.artifact_uri, path) for run, path in artifacts))

    with ThreadPoolExecutor(_THREADS) as threads:
        files = threads.map(lambda item: download(client, item[0], item[1], item[2], folder / item[0]), items)
        return {(run_id, path): file for (run_id, _, path), file in zip(items, files, strict=True)}


def download(client: "MlflowClient", run_id: str, uri: str, path: str, folder: Path) -> Path | None:
    """Download one artifact of a run whose artifacts are at `uri`; None where the run hasn't got it."""
    mlflow = import_mlflow()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with mlflow_errors():
            return Path(
                mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{path}", dst_path=str(folder))
            )
    except StoreError:
        # MLflow's artifact stores say "not there" in as many ways as there are stores.
        with mlflow_errors():
            exists = artifact_exists(client, uri, path)
        if exists:
            raise
        return None


def stored_predictions(client: "MlflowClient", runs: Sequence[RunRecord]) -> "list[ModelPredictions]":
    """Read what each run has predicted for its test images, in the order of the runs.

    Raises:
        RunError: A run has no predictions, or they can't be read.
    """
    from hw2.common.errors import Hw2Error
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
                    "mlflow-project sync, else train it again, or of another program log_predictions"
                )
            try:
                frame = read_predictions(file)
            except Hw2Error as error:
                raise RunError(
                    f"run {run.run_id} ({run.name}) has no readable {PREDICTIONS} "
                    f"({str(error).removeprefix(f'{file}: ')})"
                ) from error
            size = run.metrics.get("model_size_bytes")
            models.append(
                ModelPredictions.of(
                    run.name,
                    run.parameters,
                    frame,
                    run.metrics.get("train_seconds"),
                    None if size is None else int(size),
                )
            )
    return models

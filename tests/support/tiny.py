"""A data set that trains in a moment, and what sweeps over it left in MLflow."""

import csv
import errno
import os
import shutil
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

TRAIN, TEST, VALIDATION = 600, 200, 100
FIGURES = {
    "loss_curve",
    "confusion_matrix",
    "outlier_predictions",
    "dataset_examples",
    "reliability",
    "outlier_scores",
}
"""Of every run, at the top of its artifacts."""


def make_tiny(folder: Path) -> Path:
    """IDX files of ten patterns under noise: an epoch is 8 batches of 64."""
    random = np.random.default_rng(5)
    raw = folder / "raw"
    raw.mkdir(parents=True)
    patterns = random.integers(0, 255, (10, 28, 28))
    for stem, n in (("train", TRAIN), ("t10k", TEST)):
        labels = random.integers(0, 10, n).astype(np.uint8)
        images = (patterns[labels] / 2 + random.integers(0, 128, (n, 28, 28))).astype(np.uint8)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, n, 28, 28) + images.tobytes()
        )
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + labels.tobytes())
    return folder


def options(data: Path) -> list[str]:
    """By which a command trains on that data, on one thread."""
    return ["--dataset", str(data), "--validation-size", str(VALIDATION), "--threads", "1"]


def train_command(data: Path, lr: float = 0.03, epochs: int = 1) -> list[str]:
    """The command of a training on that data, for a process of its own."""
    training = ["train", "--lr", str(lr), "--epochs", str(epochs), *options(data)]
    return [sys.executable, "-m", "mlflow_project", *training]


@dataclass(frozen=True)
class RunRecord:
    """A run as MLflow has it."""

    run_id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]

    @property
    def trial(self) -> str:
        """What tells it from the other trials of a grid."""
        return " ".join(f"{key}={self.params[key]}" for key in ("lr", "epochs", "seed"))


def only_run(store: str) -> Run:
    """The one run of our experiment."""
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("mnist-base-cnn")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def full(*_: object) -> None:
    """What a full disk answers, whatever it is asked."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sweep_runs(uri: str) -> tuple[list[RunRecord], list[RunRecord]]:
    """The parents and the trials in a store, oldest first."""
    client = MlflowClient(uri, registry_uri=uri)
    stored_runs = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        order_by=["attributes.start_time ASC"],
    )
    runs = [
        RunRecord(r.info.run_id, r.info.status, dict(r.data.tags), dict(r.data.params), dict(r.data.metrics))
        for r in stored_runs
    ]
    return [run for run in runs if "sweep_sha256" in run.tags], [run for run in runs if run.params]


def weights(uri: str) -> dict[str, str]:
    """The SHA-256 of every trial's weights; fails where a trial has two runs, or a run isn't complete."""
    _, trials = sweep_runs(uri)
    names = [run.trial for run in trials]
    assert len(names) == len(set(names)), names
    assert {run.status for run in trials} == {"FINISHED"}, [(run.trial, run.status) for run in trials]
    return {run.trial: run.tags["weights_sha256"] for run in trials}


def table(uri: str, run_id: str) -> list[dict[str, str]]:
    """The parent's table of all trials."""
    from mlflow.artifacts import download_artifacts

    with open(
        download_artifacts(run_id=run_id, artifact_path="tables/sweep.csv", tracking_uri=uri),
        encoding="utf-8",
    ) as file:
        return list(csv.DictReader(file))


def move(folder: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Works in a new folder with a fresh store and state from now on; the store's address."""
    import mlflow

    folder.mkdir()
    shutil.copyfile(migrated_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_PROJECT_STATE", str(folder / "state"))
    mlflow.set_tracking_uri(uri)  # MLflow keeps the last address that it was given, and writes the variable
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri

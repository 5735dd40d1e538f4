"""Runs as trainings leave them in MLflow, made by hand: with predictions of a known number of mistakes."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag

from hw2.evaluation.predictions import LOGIT_COLUMNS, write_predictions
from hw2.figures.style import png

IMAGES = 200
SHA = "a1" * 32
DATA = "d0" * 32
NAME = "mnist-base-cnn"


def frame(wrong: Sequence[int], sha256: str = SHA, images: int = IMAGES) -> pd.DataFrame:
    """Predictions of digits in turn, right but for the images at `wrong`, which are taken for the next digit."""
    labels = np.arange(images) % 10
    predicted = labels.copy()
    predicted[list(wrong)] = (labels[list(wrong)] + 1) % 10
    made = pd.DataFrame(np.eye(10, dtype=np.float32)[predicted], columns=LOGIT_COLUMNS)
    made.insert(0, "index", np.arange(images))
    made.insert(1, "label", labels)
    made.insert(2, "predicted", predicted)
    made["outlier_score"] = 0.0
    made["rejected"] = pd.array([False] * images, dtype="boolean")
    made.attrs = {"name": "mnist", "sha256": sha256}
    return made


def answers(model: str, rejected: int) -> pd.DataFrame:
    """Ten garments, all taken for 0, as a figure's table has them; so many are rejected."""
    return pd.DataFrame(
        {
            "model": model, "label": range(10), "class": [f"garment {n}" for n in range(10)],
            "predicted": [0] * 10, "predicted_class": ["garment 0"] * 10,
            "matches": [n == 0 for n in range(10)], "confidence": 0.75,
            "rejected": [n < rejected for n in range(10)],
        }
    )  # fmt: skip


class StoredRuns:
    """A store, and how runs get into it."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri, registry_uri=uri)
        self.experiment = self.client.create_experiment("mnist-base-cnn")
        self.started = 0

    def training(
        self,
        wrong: Sequence[int] | None,
        *,
        status: str = "completed",
        sha256: str = SHA,
        data: str = DATA,
        identity: str | None = None,
        alias: str | None = None,
        files: bool = False,
        tags: Mapping[str, str] | None = None,
        name: str | None = None,
        **params: Any,
    ) -> str:
        """A run's id. wrong: None for one without predictions; params: its parameters where not the default."""
        parameters = {
            "lr": 0.1, "epochs": 5, "batch_size": 64, "optimizer": "sgd", "momentum": 0.0, "seed": 0,
            "dataset": "mnist", "validation_size": 0,
        } | params  # fmt: skip
        run_name = name or f"lr={parameters['lr']} epochs={parameters['epochs']}"
        about = {
            "status": status,
            "configuration_sha256": identity or json.dumps(parameters),
            "dataset": "mnist",
            "dataset_sha256": data,
        }
        run_id = self._begin(run_name, about | dict(tags or {}))
        for key, value in parameters.items():
            self.client.log_param(run_id, key, value)
        metrics = {"train_seconds": 100.0 * parameters["epochs"], "model_size_bytes": 579_605.0}
        for key, number in (metrics | {"train_accuracy": 0.99, "test_seconds": 1.5}).items():
            self.client.log_metric(run_id, key, number)
        for context, n in (("training", 60_000), ("test", IMAGES)):
            self._data(run_id, "mnist", context, n)
        with tempfile.TemporaryDirectory() as scratch:
            if wrong is not None:
                write_predictions(Path(scratch) / "test.parquet", frame(wrong, sha256))
                self.client.log_artifact(run_id, str(Path(scratch) / "test.parquet"), "predictions")
            if files:
                epochs = range(1, parameters["epochs"] + 1)
                history = pd.DataFrame({"epoch": epochs, "train_loss": 0.5, "train_accuracy": 0.9})
                self.figure(run_id, "loss_curve", history)
                shown = pd.DataFrame(
                    {"index": range(10), "label": range(10), "class": [*map(str, range(10))]}
                )
                self.figure(run_id, "dataset_examples", shown)
                self.figure(run_id, "outlier_predictions", answers("model", 7))
        self.client.set_terminated(run_id, "FINISHED")
        if alias is not None:
            self._register(run_id, alias)
        return run_id

    def sweep(self, rows: Sequence[Mapping[str, str]] | None) -> str:
        """A sweep's run with its table of trials, or without one."""
        run_id = self._begin("sweep the grid", {"sweep_sha256": "5", "status": "completed"})
        if rows is not None:
            self.table(run_id, "sweep", pd.DataFrame(rows))
        return run_id

    def outlier_test(self, *models: str, rejected: int = 9) -> str:
        """Ten garments shown to these aliases, as an outlier test leaves it; one prediction's number matches."""
        versions = {
            alias: f"models:/{NAME}/{self.client.get_model_version_by_alias(NAME, alias).version}"
            for alias in models
        }
        tags = {"status": "completed", "dataset_sha256": DATA, "versions": json.dumps(versions)}
        run_id = self._begin(f"outliers: {', '.join(models)} on fashion-mnist", tags)
        for key, value in (("models", ",".join(models)), ("outliers", "fashion-mnist")):
            self.client.log_param(run_id, key, value)
        self._data(run_id, "fashion-mnist", "outliers", 10)
        self.client.log_metric(run_id, "matched", 1)
        self.client.log_metric(run_id, "answers", 10 * len(models))
        for model in models:
            self.figure(run_id, f"outlier_predictions_fashion-mnist_{model}", answers(model, rejected))
        rows = [
            {
                "outliers": "fashion-mnist", "model": model, "score": "outlier_score", "auroc": 0.99999,
                "auroc_low": 0.9, "auroc_high": 1.0, "outliers_accepted": 0.01,
            }
            for model in models
        ]  # fmt: skip
        self.table(run_id, "outlier_measures", pd.DataFrame(rows))
        metrics = {"digits_kept": 0.955, "accuracy_on_kept": 0.98, "outliers_rejected": rejected / 10}
        ends = {
            f"{name}_{end}": {"low": 0.5, "high": 1.0}[end] for name in metrics for end in ("low", "high")
        }
        counts = {"pictures": 10, "digits": IMAGES, **metrics, **ends}
        rows = [{"outliers": "fashion-mnist", "model": model, **counts} for model in models]
        self.table(run_id, "thresholds", pd.DataFrame(rows))
        return run_id

    def figure(self, run_id: str, stem: str, table: pd.DataFrame) -> None:
        """A small figure and its table."""
        self.table(run_id, stem, table)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"{stem}.png"
            path.write_bytes(png(Figure(figsize=(0.1, 0.1))))
            self.client.log_artifact(run_id, str(path))

    def table(self, run_id: str, stem: str, table: pd.DataFrame) -> None:
        """A table under `tables/`."""
        with tempfile.TemporaryDirectory() as scratch:
            table.to_csv(Path(scratch) / f"{stem}.csv", index=False)
            self.client.log_artifact(run_id, str(Path(scratch) / f"{stem}.csv"), "tables")

    def _begin(self, name: str, tags: Mapping[str, str]) -> str:
        self.started += 1
        run = self.client.create_run(self.experiment, self.started * 1000, dict(tags), name)
        return str(run.info.run_id)

    def _data(self, run_id: str, name: str, context: str, images: int) -> None:
        profile = json.dumps({"pictures": images, "sha256": context[0] * 64})
        dataset = Dataset(name, context, "local", json.dumps({"uri": "data"}), profile=profile)
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def _register(self, run_id: str, alias: str) -> None:
        if not self.client.search_registered_models(f"name = '{NAME}'"):
            self.client.create_registered_model(NAME)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
        version = self.client.create_model_version(NAME, source, run_id)
        self.client.set_registered_model_alias(NAME, alias, version.version)

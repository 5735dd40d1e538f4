"""A store with runs that `compare` can compare, made by hand: predictions of models that never were."""

from pathlib import Path

import numpy as np
import pandas as pd

from hw2.common.types import IntArray
from hw2.evaluation.predictions import LOGIT_COLUMNS, write_predictions

LEAST, MOST = 0.96, 0.99
"""Accuracies of the models, evenly between."""


def store_of_models(store: str, count: int, predictions: int, folder: Path) -> list[str]:
    """Ids of so many completed runs, each with its file of predictions, which also stays in `folder`."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(store, registry_uri=store)
    experiment = client.create_experiment("mnist-base-cnn", (folder / "artifacts").as_uri())
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 10, predictions)
    ids = []
    for number, accuracy in enumerate(np.linspace(LEAST, MOST, count)):
        path = folder / f"{number:04}.parquet"
        write_predictions(path, _frame(labels, chance, float(accuracy)))
        tags = {"status": "completed", "configuration_sha256": str(number), "dataset": "mnist"}
        run = client.create_run(experiment, number, tags, f"lr=0.1 epochs=8 seed={number}")
        parameters = [Param("lr", "0.1"), Param("epochs", "8"), Param("seed", str(number))]
        metrics = [
            Metric("train_seconds", 100.0, number, 0),
            Metric("model_size_bytes", 579_605.0, number, 0),
        ]
        client.log_batch(run.info.run_id, metrics, parameters)
        own = folder / "test.parquet"
        path.replace(own)  # the name that the artifact gets is the file's
        client.log_artifact(run.info.run_id, str(own), "predictions")
        own.replace(path)
        client.set_terminated(run.info.run_id, "FINISHED", number)
        ids.append(str(run.info.run_id))
    return ids


def _frame(labels: IntArray, chance: np.random.Generator, accuracy: float) -> pd.DataFrame:
    """Predictions with about that accuracy, each mistake the next digit."""
    wrong = chance.random(len(labels)) > accuracy
    predicted = (labels + wrong) % 10
    logits = chance.standard_normal((len(labels), 10), dtype=np.float32)
    logits[np.arange(len(labels)), predicted] += 8
    frame = pd.DataFrame(logits, columns=LOGIT_COLUMNS)
    frame.insert(0, "index", np.arange(len(labels)))
    frame.insert(1, "label", labels)
    frame.insert(2, "predicted", predicted)
    frame["outlier_score"] = chance.random(len(labels))
    frame["rejected"] = (frame["outlier_score"] > 0.95).astype("boolean")
    frame.attrs = {"name": "mnist", "sha256": "a1" * 32}
    return frame

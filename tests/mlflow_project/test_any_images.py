"""Any small images go from training through comparison, report, outlier test and prediction to serving."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from hw2.evaluation.predictions import read_predictions
from tests.mlflow_project.any_images import KINDS, carry_out

SHORT = ("--batch-size", "20", "--threads", "1", "--precision", "float32", "--epochs", "1", "--warmup", "0")
QUICK = ("8 x 8 digits in an npz", "30 and 300 images")
"""With an outlier score and without; the others are campaigns."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.campaign) for kind in KINDS]
)
@pytest.mark.usefixtures("store")
def test_a_set_goes_through_every_command(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    expected = KINDS[kind]
    path, image = expected.write(tmp_path)
    name = f"{expected.name}-base-cnn"
    for lr in (0.02, 0.05):
        options = ("--dataset", path, "--lr", lr, *expected.options, *SHORT)
        (row,) = json.loads(carry_out(capsys, "train", *options, "--format", "json"))
        assert ("outlier_auroc" in row) == expected.scored
        assert ("test_top5_accuracy" in row) == (len(expected.classes) > 10)
        assert ("test_balanced_accuracy" in row) == (kind == "30 and 300 images")
    assert_stored(row["run_id"], expected.classes, tmp_path)
    compared = carry_out(capsys, "compare", "--models", "1,2", "--name", name)
    assert "digit" not in compared
    outliers = json.loads(carry_out(capsys, "outliers", "--models", 2, "--name", name, "--format", "json"))
    assert {row["outliers"] for row in outliers} == {"inverted", "noise", "patches"}
    assert any(row["score"] == "outlier_score" for row in outliers) == expected.scored
    carry_out(capsys, "report", "--models", "1,2", "--name", name, "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert expected.classes[-1] in page
    assert f"with its label</th><td>{math.prod(expected.shape) + 1:,}</td>" in page
    if expected.classes != tuple("0123456789"):
        assert "digit" not in page.lower()
    assert ("too few images" in page) != expected.scored
    (answer,) = json.loads(
        carry_out(capsys, "predict", image, "--model", 2, "--name", name, "--format", "json")
    )
    assert answer["class"] in expected.classes
    assert ("none_of_these_classes" in answer) == expected.scored
    assert_served(name, expected.shape, expected.classes, answer)


def assert_stored(run_id: str, classes: tuple[str, ...], folder: Path) -> None:
    """The run's predictions and tables name the classes."""
    client = MlflowClient()
    stored = read_predictions(
        Path(client.download_artifacts(run_id, "predictions/test.parquet", str(folder)))
    )
    assert stored.classes == classes
    assert stored.logits.shape[1] == len(classes)
    shown = pd.read_csv(client.download_artifacts(run_id, "tables/outlier_predictions.csv", str(folder)))
    assert shown["class"].nunique() > 1
    tables = {item.path for item in client.list_artifacts(run_id, "tables")}
    named = {"tables/class_accuracy.csv", "tables/largest_confusions.csv"}
    assert tables & named == (set() if classes == tuple("0123456789") else named)


def assert_served(
    name: str, shape: tuple[int, ...], classes: tuple[str, ...], answer: dict[str, Any]
) -> None:
    """The registered model takes raw bytes, grey ones with a channel, too, and answers as `predict` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, of its type hints
        import mlflow.pyfunc
    loaded = mlflow.pyfunc.load_model(f"models:/{name}/2")
    images = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    table = loaded.predict(images)
    assert set(table.columns) == set(answer) - {"image", "p_value", "in_words", "notes"}
    assert set(table["class"]) <= set(classes)
    if len(shape) == 2:
        assert loaded.predict(images[:, None]).equals(table)
    with pytest.raises(mlflow.exceptions.MlflowException, match="expected images"):
        loaded.predict(images[:, :-1])

"""`log_predictions`: what any program stores with a run, and what it is told when that can't be right."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch

from hw2.data.image_set import ImageSet
from hw2.evaluation.predictions import Predictions, labels_sha256, read_predictions
from mlflow_project.common.errors import RunError, UsageError
from mlflow_project.tracking import log_predictions
from mlflow_project.tracking.predictions import hash_test_set

LABELS = np.array([0, 1, 2, 1, 0])
LOGITS = np.array([[3, 1, 0], [0, 2, 1], [0, 4, 1], [0.5, 1, 0], [9, 0, 0]], dtype=np.float32)
IMAGES = np.arange(5 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(5, 28, 28)


def logged(*arguments: Any, **options: Any) -> tuple[mlflow.entities.Run, Predictions]:
    """The run and what our own reader finds in its file."""
    with mlflow.start_run() as run:
        log_predictions(*arguments, **options)
    path = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="predictions/test.parquet"
    )
    return mlflow.get_run(run.info.run_id), read_predictions(Path(path))


def test_what_was_logged_is_read_again() -> None:
    run, stored = logged(LABELS, LOGITS, classes=["cat", "dog", "owl"])
    np.testing.assert_array_equal(stored.labels, LABELS)
    np.testing.assert_array_equal(stored.logits, LOGITS)
    assert stored.predicted.tolist() == [0, 1, 1, 1, 0]
    assert stored.classes == ("cat", "dog", "owl")
    assert stored.labels_only
    assert run.data.tags["test_sha256"] == stored.sha256 == labels_sha256(LABELS)


def test_predictions_alone_will_do() -> None:
    _, stored = logged(LABELS.tolist(), predicted=[0, 0, 0, 0, 4])
    assert stored.logits is None
    assert stored.predicted.tolist() == [0, 0, 0, 0, 4]


def test_tensors_are_taken_as_a_training_leaves_them() -> None:
    logits = torch.from_numpy(LOGITS).to(torch.bfloat16).requires_grad_()
    _, stored = logged(torch.from_numpy(LABELS), logits)
    np.testing.assert_array_equal(stored.logits, LOGITS)


def test_the_test_set_is_known_by_the_sha256_of_ours() -> None:
    ours = ImageSet("x", "test", torch.from_numpy(IMAGES), torch.from_numpy(LABELS), ("a", "b", "c"), "here")
    _, stored = logged(LABELS, LOGITS, images=IMAGES)
    assert stored.sha256 == ours.sha256
    assert not stored.labels_only


def test_the_layout_of_the_images_is_no_matter() -> None:
    color = np.stack([IMAGES, IMAGES // 2, IMAGES // 3], axis=3)
    for images, same in (
        (IMAGES, (IMAGES[:, None], IMAGES[..., None], torch.from_numpy(IMAGES))),
        (color, (np.moveaxis(color, 3, 1),)),
    ):
        assert {hash_test_set(LABELS, each) for each in same} == {hash_test_set(LABELS, images)}
    assert hash_test_set(LABELS, IMAGES) != hash_test_set(LABELS, IMAGES[::-1])
    assert hash_test_set(LABELS, IMAGES) != hash_test_set(LABELS + 1, IMAGES)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "neither": ({}, "neither logits nor predicted is given"),
    "fewer predicted": ({"predicted": [0, 1]}, "found 5 labels and 2 predicted; expected as many of both"),
    "fewer logits": ({"logits": LOGITS[:4]}, "logits are float32 of shape (4, 3); expected (5, K)"),
    "a row of logits": ({"logits": LOGITS[:, 0]}, "logits are float32 of shape (5,); expected (5, K)"),
    "one class": ({"logits": LOGITS[:, :1]}, "logits are float32 of shape (5, 1); expected (5, K)"),
    "text as logits": ({"logits": np.full((5, 3), "a")}, "logits are <U1 of shape (5, 3)"),
    "NaN": (
        {"logits": np.where(LABELS[:, None] == 1, np.nan, LOGITS)},
        "logits of 2 of 5 images are NaN or infinite (the first is 1); expected finite numbers",
    ),
    "too large": (
        {"logits": LOGITS.astype(np.float64) * 1e300},
        "logits of 5 of 5 images are NaN or infinite",
    ),
    "a label too large": ({"logits": LOGITS[:, :2]}, "labels go from 0 to 2; expected classes 0 to 1"),
    "a label below 0": (
        {"labels": LABELS - 1, "predicted": LABELS},
        "labels go from -1 to 1; expected classes 0",
    ),
    "a class nobody knows": (
        {"logits": LOGITS, "predicted": LABELS + 1},
        "predicted go from 1 to 3; expected classes 0 to 2",
    ),
    "text as labels": (
        {"labels": ["a"] * 5, "predicted": LABELS},
        "labels are <U1 of shape (5,); expected one whole",
    ),
    "labels in two dimensions": (
        {"labels": LABELS[None], "predicted": LABELS},
        "labels are int64 of shape (1, 5); expected one whole",
    ),
    "no labels": ({"labels": [], "predicted": []}, "labels are empty; expected the class of each test image"),
    "too few names": ({"logits": LOGITS, "classes": ["a", "b"]}, "classes names 2 classes; expected 3"),
    "scaled images": (
        {"logits": LOGITS, "images": IMAGES / 255},
        "images are float64 of shape (5, 28, 28); expected",
    ),
    "fewer images": (
        {"logits": LOGITS, "images": IMAGES[1:]},
        "images are uint8 of shape (4, 28, 28); expected",
    ),
    "images in a row": (
        {"logits": LOGITS, "images": IMAGES.reshape(5, 784)},
        "images are uint8 of shape (5, 784)",
    ),
}


@pytest.mark.parametrize(("options", "problem"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_one_line_and_nothing_is_logged(options: dict[str, Any], problem: str) -> None:
    with mlflow.start_run() as run, pytest.raises(UsageError, match=re.escape(problem)) as caught:
        log_predictions(**({"labels": LABELS} | options))
    assert "\n" not in str(caught.value)
    assert mlflow.MlflowClient().list_artifacts(run.info.run_id) == []
    assert "test_sha256" not in mlflow.get_run(run.info.run_id).data.tags


def test_without_an_active_run_none_is_begun() -> None:
    with pytest.raises(
        RunError, match="no MLflow run is active to log predictions to; call log_predictions within"
    ):
        log_predictions(LABELS, LOGITS)
    assert mlflow.search_runs(experiment_ids=["0"], output_format="list") == []


def test_a_program_without_mlflow_is_told_so_and_needs_no_torch() -> None:
    program = (
        "import sys; from mlflow_project.tracking import log_predictions\n"
        "try: log_predictions([0, 1], predicted=[0, 1])\n"
        "except Exception as error: print(error)\n"
        "print(*{'torch', 'hw2', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    told, modules = done.stdout.splitlines()
    assert told.startswith("no MLflow run is active")
    assert modules == ""

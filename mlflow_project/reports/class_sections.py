"""The report's section about classes: which are mistaken for which, and how accurate each is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hw2.common.constants import DIGITS
from hw2.common.formatting import join_names
from hw2.common.types import IntArray
from hw2.evaluation.metrics import (
    class_accuracy_table,
    confusion_matrix,
    confusion_table,
    largest_confusions_table,
)
from mlflow_project.reports.elements import (
    Column,
    ReportFigure,
    Table,
    columns,
    count,
    draw,
    frame_table,
    share,
)
from mlflow_project.reports.model_sections import ReportData

if TYPE_CHECKING:
    from hw2.comparison.model_predictions import ModelPredictions

MOST_CLASSES = 20
"""Whose confusion matrix is also a table."""


def confusion(data: ReportData) -> ReportFigure:
    """Draw the confusion matrices of the grid's models on one scale."""
    from hw2 import figures
    from hw2.comparison.findings import grid_models

    models = grid_models(data.comparison.models)
    # One that was never asked for the last classes names fewer.
    classes = max((model.classes for model in models), key=len)
    tables = {m.name: confusion_table(_matrix(m, classes), classes, classes) for m in models}
    names = list(tables)
    caption = (
        f"Confusion matrices of {join_names(names)}, on one scale: labels in rows, predictions in columns"
    )
    alt = " ".join(_confusion_caption(model) for model in models)
    return draw(
        figures.confusion_matrices(list(tables.items())),
        caption,
        alt,
        *(
            frame_table(f"{name}: labels in rows, predictions in columns", frame)
            for name, frame in tables.items()
            if len(frame) <= MOST_CLASSES
        ),
        *(_largest_confusions(model) for model in models if model.classes != DIGITS),
        *(_class_accuracies(model) for model in models if model.classes != DIGITS),
    )


def _matrix(model: "ModelPredictions", classes: Sequence[str] = ()) -> IntArray:
    return confusion_matrix(model.labels, model.predicted, len(classes or model.classes))


def _largest_confusions(model: "ModelPredictions") -> Table:
    shown = [
        *columns("label", "predicted"),
        Column("images", "Images", count),
        Column("share", "Share of the label’s images", share),
    ]
    frame = largest_confusions_table(_matrix(model), model.classes)
    return frame_table(f"{model.name}: what is mistaken most often", frame, shown)


def _class_accuracies(model: "ModelPredictions") -> Table:
    shown = [
        Column("class"),
        Column("images", "Test images", count),
        Column("right", "Correct", count),
        Column("accuracy", "Accuracy", share),
        Column("low", "From", share),
        Column("high", "To", share),
    ]
    frame = class_accuracy_table(model.labels, model.predicted, model.classes)
    return frame_table(f"{model.name}: accuracy of each class with its 95 % interval", frame, shown)


def _confusion_caption(model: "ModelPredictions") -> str:
    matrix = _matrix(model)
    diagonal = f"{model.name}: {int(matrix.trace()):,} of {model.n:,} on the diagonal"
    np.fill_diagonal(matrix, 0)
    if not matrix.any():
        return f"{diagonal}, none misclassified."
    label, predicted = np.unravel_index(int(matrix.argmax()), matrix.shape)
    most = int(matrix.max())
    times = "once" if most == 1 else f"{most:,} times"
    pair = f"{model.classes[label]} predicted as {model.classes[predicted]}"
    return f"{diagonal}; its most frequent mistake is {pair}, {times}."

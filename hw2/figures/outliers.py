"""Figures of models that are shown images which are no digits; each is drawn from its table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hw2.common.constants import IMAGE_SIZE
from hw2.common.formatting import format_percent
from hw2.figures import style

if TYPE_CHECKING:  # a figure can be drawn again from its table without PyTorch
    from hw2.data.image_set import ImageSet


@style.with_style
def outlier_predictions(table: pd.DataFrame, image_set: ImageSet) -> Figure:
    """The images of one model's `outlier_table`, five in a row, with label, prediction and confidence."""
    columns = min(5, len(table))
    rows = -(-len(table) // columns)
    wide, high, image = 1.72, 2.05, 1.2
    left = max(0.12, (7.6 - columns * wide) / 2)
    figure = style.new_figure(max(columns * wide + 0.24, 7.6), 0.72 + rows * high)
    up = figure.get_size_inches()[1]
    down, across = round(IMAGE_SIZE * high / image), round(IMAGE_SIZE * wide / image)
    images = [image_set.images[int(index)].numpy() for index in table["index"]]
    whole = style.image_grid([images[i : i + columns] for i in range(0, len(images), columns)], down, across)
    tall = whole.shape[0] / IMAGE_SIZE * image
    axes = style.axes_at(
        figure, left + (wide - image) / 2, up - 0.72 - tall, whole.shape[1] / IMAGE_SIZE * image, tall
    )
    axes.imshow(whole, cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.axis("off")
    for place, row in enumerate(table.to_dict("records")):
        x = (place % columns) * across + IMAGE_SIZE / 2
        y = (place // columns) * down + IMAGE_SIZE
        prediction = f"taken for {row['predicted']}"
        if isinstance(row["predicted_class"], str) and row["predicted_class"] != str(row["predicted"]):
            prediction += f" ({row['predicted_class']})"
        lines = [prediction, f"{format_percent(row['confidence'])} sure"]
        if isinstance(row["rejected"], bool):
            lines[1] += "; " + ("rejected" if row["rejected"] else "accepted")
        axes.text(x, y + 3.6, str(row["class"]), ha="center", va="baseline", fontsize=9, fontweight="bold")
        axes.text(x, y + 10.8, "\n".join(lines), ha="center", va="baseline", fontsize=8)
    matches, model = int(table["matches"].sum()), table["model"].iloc[0]
    title = f"{image_set.name} shown to {model}: {matches} of {len(table)} predictions are the class's number"
    note = "bold: what it is; below: the digit it is taken for, the class of that number, and the confidence"
    known = table["rejected"].dropna().astype(bool)
    if len(known):
        title += f", {int(known.sum())} of {len(known)} rejected"
    style.set_title(figure, title, note)
    return figure


@style.with_style
def probability_vectors(table: pd.DataFrame) -> Figure:
    """The ten probabilities of each image of an `outlier_table`, the models side by side."""
    models = table["model"].unique().tolist()
    count = len(table) // len(models)
    cell, names, gap = 0.36, 1.5, 0.3
    panel = 10 * cell
    figure = style.new_figure(names + len(models) * (panel + gap) + 0.8, 1.4 + count * cell)
    columns = [column for column in table if str(column).startswith("probability_")]
    for place, model in enumerate(models):
        rows_of_model = table[table["model"] == model]
        values = rows_of_model[columns].to_numpy(dtype=np.float64)
        axes = style.axes_at(figure, names + place * (panel + gap), 0.5, panel, count * cell)
        axes.imshow(values, cmap=style.MATRIX_COLORS, vmin=0, vmax=1, aspect="auto")
        for i, j in zip(*np.nonzero(values >= 0.005), strict=True):
            text = f"{100 * values[i, j]:.0f}"
            axes.text(
                j, i, text, ha="center", va="center", fontsize=7.5,
                color=style.text_color_on(float(values[i, j])),
            )  # fmt: skip
        axes.set_xticks(range(10))
        axes.set_yticks(range(count), rows_of_model["class"].tolist() if place == 0 else [""] * count)
        axes.set_xlabel("digit")
        axes.set_title(
            f"{model}: mean confidence {format_percent(float(rows_of_model['confidence'].mean()), 0)}",
            fontsize=9,
        )
        style.hide_frame(axes)
    scale = (names + len(models) * (panel + gap) - 0.1, 0.5, 0.12, count * cell)
    style.color_scale(figure, scale, Normalize(0, 1), "probability", format=style.plain_percent)
    agree = sum(rows_of_model.nunique() == 1 for _, rows_of_model in table.groupby("index")["predicted"])
    title = f"Probabilities in percent; the models agree on {agree} of {count} images"
    style.set_title(
        figure,
        title if len(models) > 1 else "Probabilities in percent",
        "a row for each image; an empty cell is less than 0.5 %",
    )
    return figure


@style.with_style
def outlier_matrix(table: pd.DataFrame, model: str = "") -> Figure:
    """Which digit each class is taken for, from an `outlier_matrix_table`."""
    counts = table.drop(columns="label").to_numpy(dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = len(counts)
    figure = style.new_figure(7.6, 1.35 + 0.46 * rows)
    axes = style.axes_at(figure, 1.3, 0.5, 5.0, 0.46 * rows)
    axes.imshow(
        np.where(counts == 0, np.nan, shares), cmap=style.MATRIX_COLORS, vmin=0, vmax=1, aspect="auto"
    )
    for i, j in zip(*np.nonzero(counts), strict=True):
        color = style.text_color_on(float(shares[i, j]))
        axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=8.5, color=color)
    axes.set_xticks(range(10))
    axes.set_yticks(range(rows), table["label"].astype(str).tolist())
    style.cell_borders(axes, rows, 10)
    style.hide_frame(axes)
    axes.set_xlabel("taken for digit")
    scale = (6.5, 0.5, 0.14, 0.46 * rows)
    style.color_scale(figure, scale, Normalize(0, 1), "share of the class", format=style.plain_percent)
    i, j = np.unravel_index(shares.argmax(), shares.shape)
    strongest = (
        f"strongest: {table['label'].iloc[int(i)]}, {format_percent(float(shares[i, j]), 0)} taken for {j}"
    )
    style.set_title(
        figure, f"Which digit each class is taken for{' by ' + model if model else ''}", strongest
    )
    return figure

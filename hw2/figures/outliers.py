"""Figures of models that are shown images which are no digits; each is drawn from its table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from hw2.common.constants import DIGITS
from hw2.common.formatting import format_percent
from hw2.figures import style

if TYPE_CHECKING:  # a figure can be drawn again from its table without PyTorch
    from hw2.data.image_set import ImageSet


def _is_probability(column: object) -> bool:
    return str(column).startswith("probability_")


@style.with_style
def outlier_predictions(table: pd.DataFrame, image_set: ImageSet) -> Figure:
    """The images of one model's `outlier_table`, five in a row, with label, prediction and confidence."""
    digits = "matches" in table
    columns = min(5, len(table))
    rows = -(-len(table) // columns)
    wide, high, image = 1.72, 2.05, 1.2
    left = max(0.12, (7.6 - columns * wide) / 2)
    figure = style.new_figure(max(columns * wide + 0.24, 7.6), 0.72 + rows * high)
    up = figure.get_size_inches()[1]
    side = style.side_of(image_set)
    unit = side / 28  # distances below are in pixels of 28
    down, across = round(side * high / image), round(side * wide / image)
    images = [image_set.images[int(index)].numpy() for index in table["index"]]
    whole = style.image_grid(
        [images[i : i + columns] for i in range(0, len(images), columns)], down, across, side
    )
    tall = whole.shape[0] / side * image
    axes = style.axes_at(
        figure, left + (wide - image) / 2, up - 0.72 - tall, whole.shape[1] / side * image, tall
    )
    axes.imshow(whole, cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.axis("off")
    for place, row in enumerate(table.to_dict("records")):
        x = (place % columns) * across + side / 2
        y = (place // columns) * down + side
        prediction = f"taken for {row['predicted']}"
        named = isinstance(row["predicted_class"], str)
        if not digits:
            prediction = f"taken for {style.shorten(row['predicted_class'], 12)}"
        elif named and row["predicted_class"] != str(row["predicted"]):
            prediction += f" ({row['predicted_class']})"
        lines = [prediction, f"{format_percent(row['confidence'])} sure"]
        if isinstance(row["rejected"], bool):
            lines[1] += "; " + ("rejected" if row["rejected"] else "accepted")
        axes.text(
            x,
            y + 3.6 * unit,
            style.shorten(row["class"]),
            ha="center",
            va="baseline",
            fontsize=9,
            fontweight="bold",
        )
        axes.text(x, y + 10.8 * unit, "\n".join(lines), ha="center", va="baseline", fontsize=8)
    model = table["model"].iloc[0]
    title = f"{image_set.name} shown to {model}"
    note = "bold: what it is; below: the class it is taken for, and the confidence"
    if digits:
        title += f": {int(table['matches'].sum())} of {len(table)} predictions are the class's number"
        note = (
            "bold: what it is; below: the digit it is taken for, the class of that number, and the confidence"
        )
    known = table["rejected"].dropna().astype(bool)
    if len(known):
        title += f", {int(known.sum())} of {len(known)} rejected"
    style.set_title(figure, title, note)
    return figure


@style.with_style
def probability_vectors(table: pd.DataFrame) -> Figure:
    """The probabilities of each image of an `outlier_table`, the models side by side."""
    models = table["model"].unique().tolist()
    count = len(table) // len(models)
    classes = [str(column).removeprefix("probability_") for column in table if _is_probability(column)]
    cell, names, gap = 0.36, 1.5, 0.3
    panel = min(len(classes), 20) * cell
    numbered = len(classes) <= style.NUMBERED_CLASSES
    figure = style.new_figure(names + len(models) * (panel + gap) + 0.8, 1.4 + count * cell)
    columns = [column for column in table if _is_probability(column)]
    for place, model in enumerate(models):
        rows_of_model = table[table["model"] == model]
        values = rows_of_model[columns].to_numpy(dtype=np.float64)
        axes = style.axes_at(figure, names + place * (panel + gap), 0.5, panel, count * cell)
        axes.imshow(values, cmap=style.MATRIX_COLORS, vmin=0, vmax=1, aspect="auto")
        for i, j in zip(*np.nonzero(values >= 0.005), strict=True) if numbered else ():
            text = f"{100 * values[i, j]:.0f}"
            axes.text(
                j, i, text, ha="center", va="center", fontsize=7.5,
                color=style.text_color_on(float(values[i, j])),
            )  # fmt: skip
        style.name_columns(axes, classes)
        shown = [style.shorten(name) for name in rows_of_model["class"]]
        axes.set_yticks(range(count), shown if place == 0 else [""] * count)
        axes.set_xlabel("digit" if "matches" in table else "class")
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
    """Which class of the model each class is taken for, from an `outlier_matrix_table`."""
    classes = [str(column).removeprefix("predicted_") for column in table if str(column) != "label"]
    digits = classes == list(DIGITS)
    counts = table.drop(columns="label").to_numpy(dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = len(counts)
    row_height = 0.46 if rows <= style.NUMBERED_CLASSES else 6.0 / rows
    below = 0.5 if digits else 1.25
    figure = style.new_figure(7.6, below + 0.85 + row_height * rows)
    axes = style.axes_at(figure, 1.3, below, 5.0, row_height * rows)
    axes.imshow(
        np.where(counts == 0, np.nan, shares), cmap=style.MATRIX_COLORS, vmin=0, vmax=1, aspect="auto"
    )
    numbered = max(counts.shape) <= style.NUMBERED_CLASSES
    for i, j in zip(*np.nonzero(counts), strict=True) if numbered else ():
        color = style.text_color_on(float(shares[i, j]))
        axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=8.5, color=color)
    style.name_columns(axes, classes)
    style.name_rows(axes, table["label"].astype(str).tolist())
    if numbered:
        style.cell_borders(axes, rows, len(classes))
    style.hide_frame(axes)
    axes.set_xlabel("taken for digit" if digits else "taken for")
    scale = (6.5, below, 0.14, row_height * rows)
    style.color_scale(figure, scale, Normalize(0, 1), "share of the class", format=style.plain_percent)
    i, j = np.unravel_index(shares.argmax(), shares.shape)
    label, share = table["label"].iloc[int(i)], format_percent(float(shares[i, j]), 0)
    strongest = f"strongest: {label}, {share} taken for {classes[int(j)]}"
    style.set_title(
        figure,
        f"Which {'digit' if digits else 'class'} each class is taken for{' by ' + model if model else ''}",
        strongest,
    )
    return figure

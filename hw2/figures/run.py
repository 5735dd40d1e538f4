"""Figures of a training, a data set, and what a model makes of it; each is drawn from its table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from hw2.common.formatting import format_percent
from hw2.common.types import IntArray
from hw2.figures import style

if TYPE_CHECKING:  # a figure can be drawn again from its table without PyTorch
    from hw2.data.image_set import ImageSet

# Mistakes are colored by their share of the label's images, on one scale in every figure, so that two runs
# can be compared by eye: 1 in 1,000 is visible, 10 % and more is darkest.
MISTAKES = PowerNorm(0.5, vmin=0.0, vmax=0.10, clip=True)


@style.with_style
def loss_curve(history: pd.DataFrame) -> Figure:
    """Loss and accuracy by epoch, from epoch, train_loss, train_accuracy and, where there, validation_*."""
    figure = style.new_figure(8.4, 3.5)
    last = history.iloc[-1]
    for left, measure in ((0.72, "loss"), (4.92, "accuracy")):
        axes = style.axes_at(figure, left, 0.5, 3.3, 2.25)
        parts = [part for part in ("train", "validation") if _has(history, f"{part}_{measure}")]
        for place, part in enumerate(parts):
            axes.plot(
                history["epoch"], history[f"{part}_{measure}"],
                label=f"{part} {_short(float(last[f'{part}_{measure}']))}", color=style.SERIES[place],
                marker=style.MARKERS[place], linestyle=style.DASHES[place],
            )  # fmt: skip
        if measure == "loss" and _spans_decades(history[[f"{part}_loss" for part in parts]]):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(style.plain_number)
            axes.yaxis.set_minor_formatter(NullFormatter())
        elif measure == "loss":
            axes.set_ylim(bottom=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel("mean cross-entropy (nats)" if measure == "loss" else "accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(float(history["epoch"].min()) - 0.3, float(history["epoch"].max()) + 0.3)
        axes.grid(axis="y")
        style.legend_above(axes, 2)
    epochs = int(last["epoch"])
    reached = [
        f"{part} {format_percent(float(last[column]), 2)}"
        for part in ("train", "validation")
        if _has(history, column := f"{part}_accuracy")
    ]
    style.set_title(figure, f"After {epochs} epoch{'s' if epochs > 1 else ''}: accuracy {', '.join(reached)}")
    return figure


def _has(table: pd.DataFrame, column: str) -> bool:
    return column in table and bool(table[column].notna().any())


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _spans_decades(losses: pd.DataFrame) -> bool:
    positive = losses.to_numpy(dtype=np.float64)
    positive = positive[np.isfinite(positive) & (positive > 0)]
    return positive.size > 0 and bool(positive.max() > 10 * positive.min())


@style.with_style
def confusion_matrix(table: pd.DataFrame) -> Figure:
    """Labels against predictions, from a `confusion_table`; colors show mistakes only.

    With all counts, and above 20 classes without: see the table of the largest confusions.
    """
    counts = _counts(table)
    below, left = (0.6, 0.95) if _has_short_names(table) else (1.3, 1.5)
    figure = style.new_figure(left + 6.65, below + 6.0)
    axes = style.axes_at(figure, left, below, 5.1, 5.1)
    _draw_confusion(axes, table, font=9 if len(counts) <= 10 else 7)
    if len(counts) <= style.NUMBERED_CLASSES:
        for row, (right, total) in enumerate(zip(counts.diagonal(), counts.sum(axis=1), strict=True)):
            share = format_percent(right / total) if total else "none"
            axes.text(len(counts) - 0.35, row, share, va="center", fontsize=8, color=style.QUIET)
        axes.text(len(counts) - 0.35, -0.75, "right", va="center", fontsize=8, color=style.QUIET)
    _mistake_scale(figure, left + 5.9, below, 5.1)
    right, total = int(counts.trace()), int(counts.sum())
    style.set_title(
        figure,
        f"{right:,} of {total:,} right ({format_percent(right / total, 2)})",
        _worst_mistake(table, counts),
    )
    return figure


@style.with_style
def confusion_matrices(tables: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Several confusion matrices, two in a row, on one scale; each with its title."""
    rows = -(-len(tables) // 2)
    side, step = 3.7, 4.7
    short = all(_has_short_names(table) for _, table in tables)
    bottom_margin, left_margin = (0.62, 0.75) if short else (1.2, 1.15)
    step += bottom_margin - 0.62
    figure = style.new_figure(9.9 + 2 * (left_margin - 0.75), 0.75 + rows * step)
    up = figure.get_size_inches()[1]
    for place, (title, table) in enumerate(tables):
        counts = _counts(table)
        bottom = up - 0.75 - (place // 2 + 1) * step + bottom_margin
        axes = style.axes_at(figure, left_margin + (place % 2) * (3.65 + left_margin), bottom, side, side)
        _draw_confusion(axes, table, font=7.5 if len(counts) <= 10 else 5)
        right, total = int(counts.trace()), int(counts.sum())
        axes.set_title(f"{title}: {right:,} of {total:,} right", fontsize=9)
    _mistake_scale(figure, 9.1 + 2 * (left_margin - 0.75), 0.62, up - 0.75 - 0.62 - 0.38)
    style.set_title(figure, "Confusion matrices", "grey: right; colored: mistakes, one scale for all")
    return figure


def _mistake_scale(figure: Figure, left: float, bottom: float, height: float) -> None:
    style.color_scale(
        figure, (left, bottom, 0.14, height), MISTAKES, "mistaken, share of the label's images",
        ticks=[0, 0.001, 0.005, 0.01, 0.02, 0.04, 0.07, 0.10], format=style.plain_percent, extend="max",
    )  # fmt: skip


def _counts(table: pd.DataFrame) -> IntArray:
    return table.drop(columns="label").to_numpy(dtype=np.int64)


def _draw_confusion(axes: Axes, table: pd.DataFrame, font: float) -> None:
    counts = _counts(table)
    n = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mistakes = np.where((counts == 0) | np.eye(n, dtype=bool), np.nan, shares)
    axes.imshow(np.where(np.eye(n, dtype=bool), 0.5, np.nan), cmap="Greys", vmin=0, vmax=4)
    axes.imshow(mistakes, cmap=style.MATRIX_COLORS, norm=MISTAKES)
    numbered = n <= style.NUMBERED_CLASSES
    for row, column in zip(*np.nonzero(counts), strict=True) if numbered else ():
        on_diagonal = row == column
        axes.text(
            column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=font,
            color=style.INK if on_diagonal else style.text_color_on(float(MISTAKES(shares[row, column]))),
            fontweight="bold" if on_diagonal else "normal",
        )  # fmt: skip
    style.name_columns(axes, _predicted_names(table))
    style.name_rows(axes, table["label"].astype(str).tolist())
    if numbered:
        style.cell_borders(axes, n, n)
    style.hide_frame(axes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")


def _predicted_names(table: pd.DataFrame) -> list[str]:
    return [str(column).removeprefix("predicted_") for column in table if str(column) != "label"]


def _has_short_names(table: pd.DataFrame) -> bool:
    return max(map(len, _predicted_names(table))) <= 2


def _worst_mistake(table: pd.DataFrame, counts: IntArray) -> str:
    mistakes = counts * (1 - np.eye(len(counts), dtype=np.int64))
    if not mistakes.any():
        return "no mistake; grey: right"
    row, column = np.unravel_index(mistakes.argmax(), mistakes.shape)
    often = int(mistakes[row, column])
    times = "once" if often == 1 else f"{often:,} times"
    predicted = _predicted_names(table)[int(column)]
    return (
        f"most frequent mistake: {table['label'].iloc[int(row)]} taken for {predicted}, {times}; grey: right"
    )


@style.with_style
def dataset_examples(table: pd.DataFrame, image_set: ImageSet) -> Figure:
    """The images that an `examples_table` names, a column for each class."""
    classes = list(dict.fromkeys(zip(table["label"], table["class"], strict=True)))
    columns = min(10, len(classes))
    rows = int(table.groupby("label").size().max())
    bands = -(-len(classes) // columns)
    side = style.side_of(image_set)
    cell, names, step = 0.84, 0.3, side + max(2, side // 14)
    band_height = rows * cell + names
    figure = style.new_figure(max(columns * cell + 0.24, 5.2), 0.76 + bands * band_height)
    up = figure.get_size_inches()[1]
    for band in range(bands):
        shown = classes[band * columns : (band + 1) * columns]
        indices = [table.loc[table["label"] == label, "index"].tolist() for label, _ in shown]
        images = [
            [None if index is None else image_set.images[index].numpy() for index in row]
            for row in zip_longest(*indices)
        ]
        whole = style.image_grid(images, step, step, side)
        high, wide = (length / step * cell for length in whole.shape[:2])
        axes = style.axes_at(figure, 0.12, up - 0.66 - band * band_height - names - high, wide, high)
        axes.imshow(whole, cmap="gray", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(
            [column * step + side / 2 for column in range(len(shown))],
            [style.shorten(n, 13) for _, n in shown],
        )
        axes.set_yticks([])
        axes.xaxis.tick_top()
        if max(len(str(n)) for _, n in shown) > 9:
            axes.tick_params(axis="x", labelsize=6.5)
        style.hide_frame(axes)
    style.set_title(
        figure,
        f"{image_set.name}: {rows} examples of each of {len(classes)} classes",
        f"the first of each class among the {len(image_set):,} images of the {image_set.split} part",
    )
    return figure


@style.with_style
def reliability(table: pd.DataFrame) -> Figure:
    """Confidence against accuracy with intervals, and each bin's images, from a `reliability_table`."""
    figure = style.new_figure(6.2, 6.0)
    filled = table[table["count"] > 0]
    total = int(filled["count"].sum())
    weight = filled["count"] / total
    gap = filled["accuracy"] - filled["confidence"]
    error, bias = float((weight * gap.abs()).sum()), float((weight * gap).sum())

    axes = style.axes_at(figure, 0.8, 2.15, 5.1, 3.05)
    axes.plot([0, 1], [0, 1], color=style.QUIET, linestyle="--", linewidth=1, label="perfect calibration")
    axes.errorbar(
        filled["confidence"], filled["accuracy"],
        yerr=[filled["accuracy"] - filled["accuracy_low"], filled["accuracy_high"] - filled["accuracy"]],
        color=style.SERIES[0], marker="o", linestyle="none", elinewidth=1.4, capsize=2.5,
        label="images of a bin, with 95 % interval",
    )  # fmt: skip
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.04), ylabel="accuracy")
    axes.tick_params(labelbottom=False)
    axes.grid()
    style.legend_above(axes, 2)

    below = style.axes_at(figure, 0.8, 0.5, 5.1, 1.4)
    width = table["high"] - table["low"]
    below.bar(
        table["low"], table["count"], width, align="edge", color=style.SERIES[3], edgecolor="white",
        linewidth=1,
    )  # fmt: skip
    below.set_yscale("symlog", linthresh=1)
    below.set(xlim=(0, 1.02), ylim=(0, max(10.0, 8.0 * float(table["count"].max()))))
    below.set(xlabel="confidence (largest probability)", ylabel="images")
    below.set_yticks([0, 1, 10, 100, 1000, 10_000][: 2 + len(str(int(table["count"].max())))])
    below.yaxis.set_major_formatter(style.plain_number)
    for _, row in filled.iterrows():
        middle = (row["low"] + row["high"]) / 2
        below.text(middle, row["count"] * 1.25, f"{int(row['count']):,}", ha="center", fontsize=7.5)
    too = "overconfident" if bias < 0 else "underconfident"
    style.set_title(
        figure,
        f"Expected calibration error {error:.4f} over {len(table)} bins, {total:,} images",
        f"on average {abs(bias) * 100:.2f} points {too}; points below the line: surer than right",
    )
    return figure

"""Figures of a comparison of models; each is drawn from the comparison's table of accuracies."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hw2.common.formatting import format_percent
from hw2.figures import style


@style.with_style
def accuracy_intervals(table: pd.DataFrame) -> Figure:
    """Each model's accuracy with its 95 % Wilson interval; where there, `study_accuracy` beside it."""
    rows = len(table)
    left = 0.35 + 0.075 * int(table["model"].astype(str).str.len().max())
    figure = style.new_figure(left + 6.0, 1.35 + 0.36 * rows)
    axes = style.axes_at(figure, left, 0.55, 4.3, 0.36 * rows)
    places = np.arange(rows)
    errors = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
    axes.errorbar(
        table["accuracy"], places, xerr=errors, color=style.SERIES[0], marker=style.MARKERS[0], linestyle="none",
        capsize=3, label="accuracy with 95 % Wilson interval",
    )  # fmt: skip
    if "study_accuracy" in table and table["study_accuracy"].notna().any():
        axes.plot(
            table["study_accuracy"], places, color=style.SERIES[1], marker=style.MARKERS[3], markersize=7,
            markerfacecolor="none", markeredgewidth=1.8, linestyle="none", label="the study's",
        )  # fmt: skip
    for place, (accuracy, images) in enumerate(zip(table["accuracy"], table["pictures"], strict=True)):
        text = f"{format_percent(float(accuracy), 2)} of {int(images):,}"
        axes.annotate(
            text, (1, place), xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points",
            va="center", fontsize=8.5,
        )  # fmt: skip
    axes.set_yticks(places, table["model"].astype(str).tolist())
    axes.set_ylim(rows - 0.4, -0.6)
    axes.xaxis.set_major_formatter(style.plain_percent)
    axes.set_xlabel("share of the test images right")
    axes.grid(axis="x")
    style.legend_above(axes)
    best = table.iloc[int(table["accuracy"].argmax())]
    style.set_title(figure, f"Most accurate: {best['model']}, {format_percent(float(best['accuracy']), 2)}")
    return figure


@style.with_style
def seed_accuracies(table: pd.DataFrame) -> Figure:
    """Each configuration's accuracies, a dot a seed, and the mean with its 95 % interval beside them.

    table: a row a seed: configuration, seed, accuracy (NaN: didn't train), mean, low, high (the same in all its rows).
    """
    groups = list(table.groupby("configuration", sort=False))
    left = 0.35 + 0.075 * max(len(str(name)) for name, _ in groups)
    figure = style.new_figure(left + 6.4, 1.35 + 0.5 * len(groups))
    axes = style.axes_at(figure, left, 0.55, 4.3, 0.5 * len(groups))
    for place, (_, rows) in enumerate(groups):
        labels = ("a seed", "mean with 95 % interval") if place == 0 else (None, None)
        trained = rows["accuracy"].dropna()
        axes.plot(
            trained, np.full(len(trained), place - 0.14), color=style.SERIES[1], marker=style.MARKERS[0],
            markersize=4.5, linestyle="none", alpha=0.8, label=labels[0],
        )  # fmt: skip
        first = rows.iloc[0]
        ends = [[first["mean"] - first["low"]], [first["high"] - first["mean"]]]
        axes.errorbar(
            [first["mean"]], [place + 0.16], xerr=None if np.isnan(first["low"]) else ends, color=style.SERIES[0],
            marker=style.MARKERS[1], linestyle="none", capsize=3, label=labels[1],
        )  # fmt: skip
        failed = int(rows["accuracy"].isna().sum())
        mean = "" if np.isnan(first["mean"]) else format_percent(float(first["mean"]), 2)
        notes = [mean, f"{failed} of {len(rows)} didn't train" if failed else ""]
        axes.annotate(
            ", ".join(filter(None, notes)), (1, place), xycoords=("axes fraction", "data"), xytext=(8, 0),
            textcoords="offset points", va="center", fontsize=8.5,
        )  # fmt: skip
    axes.set_yticks(range(len(groups)), [str(name) for name, _ in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(style.plain_percent)
    axes.set_xlabel("share of the test images right")
    axes.grid(axis="x")
    style.legend_above(axes)
    means = table.groupby("configuration", sort=False)["mean"].first()
    if means.notna().any():
        text = f"{means.idxmax()}, {format_percent(float(means.max()), 2)}"
        style.set_title(figure, f"Most accurate over its seeds: {text}")
    return figure


@style.with_style
def pareto(table: pd.DataFrame) -> Figure:
    """Accuracy against training time, and model size where sizes differ; the Pareto front is filled."""
    costs = [("train_seconds", "training time (s)", 1.0)]
    sizes = table["model_size_bytes"].dropna().unique()
    if len(sizes) > 1:
        costs.append(("model_size_bytes", "model size (KiB)", 1024.0))
    figure = style.new_figure(0.4 + 4.75 * max(len(costs), 1.5), 3.95)
    on_front = table["pareto"].to_numpy(dtype=bool)
    for panel, (column, label, unit) in enumerate(costs):
        axes = style.axes_at(figure, 0.85 + panel * 4.75, 0.55, 3.75 if len(costs) > 1 else 5.9, 2.5)
        axes.margins(x=0.15, y=0.12)
        parts = ((on_front, "on the Pareto front", 0), (~on_front, "not on it", 1))
        for chosen, name, place in parts:
            part = table[chosen]
            axes.errorbar(
                part[column].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan) / unit,
                part["accuracy"], yerr=[part["accuracy"] - part["low"], part["high"] - part["accuracy"]],
                color=style.SERIES[place], marker=style.MARKERS[place],
                markerfacecolor=style.SERIES[place] if place == 0 else style.PAPER, markersize=7,
                linestyle="none", elinewidth=0.9, label=name,
            )  # fmt: skip
        axes.set(xlabel=label, ylabel="share of the test images right")
        axes.yaxis.set_major_formatter(style.plain_percent)
        axes.xaxis.set_major_formatter(style.plain_number)
        axes.grid()
        _name_points(axes, table[column].astype("Float64") / unit, table)
        if panel == 0:
            style.legend_above(axes)
    front = ", ".join(table.loc[on_front, "model"].astype(str))
    same = f"; every model has {int(sizes[0]) / 1024:,.0f} KiB" if len(sizes) == 1 else ""
    style.set_title(
        figure,
        f"Best for its training time{'' if same else ' and size'}: {front}",
        f"no other model is at least as good in everything and better in something{same}",
    )
    return figure


def _name_points(axes: Axes, cost: pd.Series[float], table: pd.DataFrame) -> None:
    """Each point's model beside it, above or below where another name is near."""
    taken: list[tuple[float, float]] = []
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    places = cost.to_numpy(dtype=np.float64, na_value=np.nan)
    for x, y, model in zip(places, table["accuracy"], table["model"].astype(str), strict=True):
        if np.isnan(x):
            continue
        across, up = float((x - left) / (right - left)), float((y - bottom) / (top - bottom))
        free = (
            lift
            for lift in (0.0, 0.06, -0.06, 0.12, -0.12)
            if all(abs(across - a) > 0.22 or abs(up + lift - b) > 0.055 for a, b in taken)
        )
        lift = next(free, 0.0)
        taken.append((across, up + lift))
        inward = -0.022 if across > 0.75 else 0.022
        axes.text(
            across + inward, up + lift, model, transform=axes.transAxes, va="center",
            ha="right" if inward < 0 else "left", fontsize=8.5,
        )  # fmt: skip

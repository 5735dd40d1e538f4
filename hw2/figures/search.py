"""Figures of a search: how its trials learnt, what their parameters did, and what it was spent on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from hw2.common.formatting import format_percent
from hw2.figures import style

_ENDS = ("stopped", "complete", "failed")
LEAST_ERROR = 1e-4
"""No mistake at all is drawn here: a logarithmic axis has no 0."""
LOWEST = 0.5
"""A validation accuracy below it is drawn there, so that those at the top can be told apart."""


@style.with_style
def search_curves(table: pd.DataFrame) -> Figure:
    """Validation error of each trial by epoch, both logarithmic; from trial, epoch, validation_accuracy, end."""
    figure = style.new_figure(7.6, 4.2)
    axes = style.axes_at(figure, 0.85, 0.55, 6.5, 2.9)
    # Before anything is drawn: limits of one's own, since those of a single point would be equal.
    errors = (1 - table["validation_accuracy"]).clip(lower=LEAST_ERROR)
    axes.set(xscale="log", yscale="log")
    axes.set_xlim(float(table["epoch"].min()) / 1.15, float(table["epoch"].max()) * 1.15)
    axes.set_ylim(float(errors.min()) / 1.3, float(errors.max()) * 1.3)
    seen: set[str] = set()
    for _, curve in table.groupby("trial", sort=True):
        end = str(curve["end"].iloc[0])
        place = _ENDS.index(end)
        axes.plot(
            curve["epoch"], (1 - curve["validation_accuracy"]).clip(lower=LEAST_ERROR), color=style.SERIES[place],
            marker=style.MARKERS[place], linestyle=style.DASHES[place], alpha=1.0 if end == "complete" else 0.55,
            linewidth=1.8 if end == "complete" else 1.0, markersize=3.5, label=None if end in seen else end,
        )  # fmt: skip
        seen.add(end)
    for axis in (axes.yaxis, axes.xaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(style.plain_percent)
    ticks = sorted(table.groupby("trial")["epoch"].max().unique())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlabel="epochs", ylabel="validation images wrong")
    axes.grid(axis="y")
    style.legend_above(axes)
    trials, best = table["trial"].nunique(), table["validation_accuracy"].max()
    style.set_title(
        figure, f"{trials} trials; the best has {format_percent(float(best), 2)} of the validation images"
    )
    return figure


@style.with_style
def search_parameters(table: pd.DataFrame) -> Figure:
    """Validation accuracy against each parameter; from trial, epochs, validation_accuracy and the parameters."""
    names = [name for name in table.columns if name not in ("trial", "epochs", "validation_accuracy")]
    figure = style.new_figure(0.5 + 3.9 * max(len(names), 1.4), 3.7)
    rungs = sorted(table["epochs"].unique())
    best = table.iloc[int(table["validation_accuracy"].argmax())]
    shown = table["validation_accuracy"].clip(lower=min(LOWEST, float(best["validation_accuracy"]) / 2))
    for panel, name in enumerate(names):
        axes = style.axes_at(figure, 0.85 + panel * 3.9, 0.55, 3.0, 2.4)
        for place, rung in enumerate(rungs):
            part = table["epochs"] == rung
            axes.plot(
                table.loc[part, name], shown[part], color=style.SERIES[place % len(style.SERIES)],
                marker=style.MARKERS[place % len(style.MARKERS)], linestyle="none",
                label=f"{rung} epoch{'' if rung == 1 else 's'}",
            )  # fmt: skip
        _set_values(axes, table[name])
        axes.set_xlabel(name)
        axes.yaxis.set_major_formatter(style.plain_percent)
        axes.grid()
        if panel == 0:
            axes.set_ylabel("validation accuracy")
            style.legend_above(axes, 5)
    values = ", ".join(f"{name} {best[name]:g}" for name in names)
    style.set_title(figure, f"Validation accuracy against each parameter; the best has {values}")
    return figure


def _set_values(axes: Axes, values: pd.Series[float]) -> None:
    distinct = sorted(values.unique())
    if distinct[0] > 0 and distinct[-1] >= 4 * distinct[0]:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(style.plain_number)
    if len(distinct) <= 6:
        axes.set_xticks(distinct, [style.plain_number(float(value)) for value in distinct])


@style.with_style
def search_importance(table: pd.DataFrame) -> Figure:
    """How much each parameter explains; from parameter and importance, a share of 1."""
    ordered = table.sort_values("importance")
    figure = style.new_figure(6.0, 1.3 + 0.4 * len(ordered))
    axes = style.axes_at(figure, 1.2, 0.55, 4.0, 0.4 * len(ordered))
    bars = axes.barh(ordered["parameter"], ordered["importance"], color=style.SERIES[0], height=0.6)
    axes.bar_label(
        bars, [f" {format_percent(float(share), 0)}" for share in ordered["importance"]], fontsize=8.5
    )
    axes.set_xlim(0, 1.0)
    axes.xaxis.set_major_formatter(style.plain_percent)
    axes.set_xlabel("share of the variance of the validation accuracy")
    top = ordered.iloc[-1]
    style.set_title(
        figure, f"Most depends on {top['parameter']}", "functional ANOVA over all trials at the first rung"
    )
    return figure


@style.with_style
def search_spending(table: pd.DataFrame) -> Figure:
    """Epochs spent up to each rung; from epochs, trials, epochs_trained, seconds."""
    figure = style.new_figure(6.8, 3.4)
    axes = style.axes_at(figure, 0.8, 0.55, 5.6, 2.1)
    places = np.arange(len(table))
    bars = axes.bar(places, table["epochs_trained"], color=style.SERIES[0], width=0.6)
    labels = [
        f"{int(trials)} trial{'' if trials == 1 else 's'}, {seconds:,.0f} s"
        for trials, seconds in zip(table["trials"], table["seconds"], strict=True)
    ]
    axes.bar_label(bars, labels, fontsize=8.5)
    axes.set_xticks(places, [f"to {int(epochs)}" for epochs in table["epochs"]])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.15)
    axes.set(xlabel="trained to this epoch", ylabel="epochs trained")
    axes.grid(axis="y")
    total, seconds = int(table["epochs_trained"].sum()), float(table["seconds"].sum())
    style.set_title(figure, f"{total} epochs in {seconds:,.0f} s of training")
    return figure

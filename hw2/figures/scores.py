"""Figures of how well scores tell outliers from digits, and sure answers from unsure ones."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hw2.common.constants import TARGET_RECALL
from hw2.common.formatting import format_percent, format_ratio
from hw2.figures import style


@style.with_style
def outlier_scores(table: pd.DataFrame) -> Figure:
    """Score histograms of digits and outliers with the threshold, from an `outlier_scores_table`."""
    lines = -(-(table.shape[1] - 3) // 2)
    figure = style.new_figure(7.6, 3.4 + 0.2 * lines)
    axes = style.axes_at(figure, 0.75, 0.55, 6.6, 2.3)
    edges = np.append(table["low"], table["high"].iloc[-1])
    names = [str(name) for name in table.columns[3:]]
    rejected = table["rejected"].to_numpy(dtype=bool)
    hatches = ("", "///", "\\\\\\", "...")
    shares = {}
    for place, name in enumerate(names):
        counts = table[name].to_numpy(dtype=np.float64)
        shares[name] = counts[rejected].sum() / counts.sum()
        axes.stairs(
            counts / counts.sum(), edges, fill=False, color=style.SERIES[place], linewidth=1.8,
            linestyle=style.DASHES[place % len(style.DASHES)],
            label=f"{name}, {int(counts.sum()):,} images: {format_percent(shares[name])} rejected",
        )  # fmt: skip
        axes.stairs(
            counts / counts.sum(), edges, fill=True, facecolor=(*style.SERIES[place], 0.22),
            hatch=hatches[place % len(hatches)], edgecolor=(*style.SERIES[place], 0.5), linewidth=0,
        )  # fmt: skip
    threshold = float(table.loc[table["rejected"], "low"].iloc[0])
    axes.axvline(threshold, color=style.INK, linewidth=1.2)
    to_the_right = threshold < edges.mean()
    axes.annotate(
        f"threshold {threshold:.3g}, right of it rejected", (threshold, 0.97),
        xycoords=("data", "axes fraction"), xytext=(6 if to_the_right else -6, 0),
        textcoords="offset points", ha="left" if to_the_right else "right", va="top", fontsize=8.5,
    )  # fmt: skip
    axes.set(xlim=(edges[0], edges[-1]), xlabel="outlier score (larger = more of an outlier)")
    axes.set_ylabel("share of the set's images")
    axes.yaxis.set_major_formatter(style.plain_percent)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    style.legend_above(axes, 2)
    caught = ", ".join(f"{format_percent(shares[name])} of {name}" for name in names[1:])
    style.set_title(
        figure, f"The threshold rejects {format_percent(shares[names[0]])} of {names[0]}, {caught}"
    )
    return figure


@style.with_style
def roc_curves(table: pd.DataFrame) -> Figure:
    """ROC curves on a logarithmic axis, with both 95 % points marked, from a `roc_table`."""
    figure = style.new_figure(7.4, 5.4)
    axes = style.axes_at(figure, 0.8, 0.55, 4.5, 4.05)
    floor = 1e-4
    for place, (name, part) in enumerate(table.groupby("score", sort=False)):
        color, marker = style.SERIES[place % len(style.SERIES)], style.MARKERS[place % len(style.MARKERS)]
        axes.plot(
            part["digits_rejected"].clip(lower=floor), part["outliers_rejected"], color=color,
            linestyle=style.DASHES[place % len(style.DASHES)], marker=marker,
            markevery=np.flatnonzero(part["point"].fillna("") != "").tolist(), markersize=8,
            markerfacecolor="white", markeredgewidth=1.8, clip_on=False, zorder=3,
            label=f"{name}\nAUROC {format_ratio(part['auroc'].iloc[0])}",
        )  # fmt: skip
    axes.axvline(1 - TARGET_RECALL, color=style.QUIET, linewidth=1, linestyle=":")
    axes.axhline(TARGET_RECALL, color=style.QUIET, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(style.plain_percent)
    axes.yaxis.set_major_formatter(style.plain_percent)
    axes.set(xlim=(floor, 1), ylim=(0, 1.02))
    axes.set(
        xlabel="share of inliers rejected (logarithmic; the left edge is 0.01 % or less)",
        ylabel="share of outliers rejected",
    )
    axes.grid()
    axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1.0), labelspacing=0.8, handlelength=3.2)
    style.set_title(
        figure,
        "Outliers rejected, against inliers rejected",
        "markers: 95 % of inliers are accepted (on the vertical line), 95 % of outliers rejected (on the other)",
    )
    return figure


@style.with_style
def accuracy_against_coverage(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy on the surest share of the images, from a `coverage_table` for each model, by name."""
    figure = style.new_figure(6.6, 3.9)
    axes = style.axes_at(figure, 0.8, 0.55, 5.5, 2.45)
    lowest = 1.0
    for place, (name, table) in enumerate(tables.items()):
        color = style.SERIES[place % len(style.SERIES)]
        axes.fill_between(
            table["coverage"], table["accuracy_low"], table["accuracy_high"], color=color, alpha=0.15,
            linewidth=0,
        )  # fmt: skip
        axes.plot(
            table["coverage"], table["accuracy"], color=color,
            linestyle=style.DASHES[place % len(style.DASHES)],
            marker=style.MARKERS[place % len(style.MARKERS)], markevery=(place * 3, 12), label=name,
        )  # fmt: skip
        later = table["coverage"] >= 0.1
        lowest = min(lowest, float(table.loc[later, "accuracy_low"].min()))
    axes.set(xlim=(0, 1.01), ylim=(lowest - 0.05 * (1 - lowest), 1 + 0.04 * (1 - lowest)))
    axes.set(xlabel="share of images answered, the surest first", ylabel="accuracy of those")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(style.plain_percent)
    axes.grid()
    style.legend_above(axes, 3)
    name, table = next(iter(tables.items()))
    nearest = table.iloc[(table["coverage"] - 0.9).abs().argmin()]
    style.set_title(
        figure,
        f"{name}: {format_percent(float(nearest['accuracy']), 2)} right where the least sure "
        f"{format_percent(1 - float(nearest['coverage']), 0)} go unanswered",
        f"all answered: {format_percent(float(table['accuracy'].iloc[-1]), 2)}; bands: 95 % Wilson intervals",
    )
    return figure

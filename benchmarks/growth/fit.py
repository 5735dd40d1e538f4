"""How measured values grow with a size: exponents, and in words where that is no straight line."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.common import Cell

Values = dict[str, float]
WORK, PROCESS, CPU, MEMORY = "work, s", "process, s", "process, CPU s", "peak memory, MB"
KEPT = {"journal.jsonl": "journal, KB", "checkpoint.pt": "checkpoint, KB"}
ABOVE = "above the start, MB"
COLUMNS = (WORK, PROCESS, CPU, MEMORY, ABOVE, *KEPT.values())
COSTS = {
    WORK: "ms of work",
    PROCESS: "ms",
    CPU: "ms of CPU",
    MEMORY: "KB of memory",
    KEPT["journal.jsonl"]: "bytes of journal",
    KEPT["checkpoint.pt"]: "bytes of checkpoint",
}
"""What a thousandth of each unit is called."""
STRAIGHT = 1.1
"""The largest exponent that still passes for a straight line: two timings of the same differ by so much."""
NOISE = 0.1
"""What is above its start by less than this share of it, at the largest size, is a constant."""
LARGER = 3
"""The exponent is that of the larger half of the sizes, of so many at least: there what is fixed weighs least."""


@dataclass(frozen=True)
class Series:
    """What was measured at each size.

    start: the same for a process that has nothing to do; empty where there is none. parts: what there is more of
    than in proportion to the size, by name, and how many at a size.
    """

    name: str
    measured: Mapping[int, Values]
    start: Values = field(default_factory=dict)
    parts: tuple[str, Callable[[int], float]] | None = None

    def above(self, column: str) -> dict[int, float]:
        """A column's values less the start; empty where it has none, or where they hardly grow."""
        start = self.start.get(column, 0.0)
        values = {size: each[column] - start for size, each in self.measured.items() if column in each}
        return values if values and values[max(values)] > NOISE * start else {}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """The b of value = a * size^b by least squares in logarithms, over the larger sizes; None for one point or none.

    sizes ascend and are positive; values that aren't positive have no logarithm and are left out.
    """
    points = [(math.log(s), math.log(v)) for s, v in zip(sizes, values, strict=True) if v > 0]
    points = points[-max(LARGER, math.ceil(len(points) / 2)) :]
    if len(points) < 2:
        return None
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def rows(series: Series) -> list[dict[str, Cell]]:
    """A row a size, then one with the exponents. Every column is there, empty where nothing was measured."""
    made: list[dict[str, Cell]] = []
    for size, values in series.measured.items():
        shown = dict(values)
        if MEMORY in series.start:
            shown[ABOVE] = values[MEMORY] - series.start[MEMORY]
        cells = {column: _rounded(shown[column]) if column in shown else "" for column in COLUMNS}
        made.append({"against": series.name, "size": size, **cells})
    slopes: dict[str, Cell] = {}
    for column in COLUMNS:
        # Of memory, the exponent is that of what is above the start, and stands where that is shown.
        measured = {ABOVE: MEMORY, MEMORY: ABOVE}.get(column, column) if series.start else column
        slopes[column] = _slope(series, measured)
    return [*made, {"against": series.name, "size": "exponent", **slopes}]


def _slope(series: Series, column: str) -> Cell:
    if not any(column in values for values in series.measured.values()):
        return ""
    above = series.above(column)
    if not above:
        return "constant"
    slope = exponent(list(above), list(above.values()))
    return "" if slope is None else round(slope, 2) + 0.0  # no -0.0


def notes(result: Sequence[Series]) -> list[str]:
    """What each further one costs, and every column that is steeper than a straight line."""
    messages, steep = [], []
    for series in result:
        costs = []
        for column, unit in COSTS.items():
            above = series.above(column)
            if len(above) < 2:
                continue
            (before, low), (after, high) = list(above.items())[-2:]
            costs.append(f"{_rounded(1000 * (high - low) / (after - before)):,} {unit}")
            steep += _steep(series, column, above)
        if costs:
            messages.append(
                f"{series.name}: from {before:,} to {after:,}, each further one takes {', '.join(costs)}."
            )
    return [*messages, *(steep or [f"Nothing is steeper than a straight line (exponent above {STRAIGHT})."])]


def _steep(series: Series, column: str, above: Mapping[int, float]) -> list[str]:
    slope = exponent(list(above), list(above.values()))
    if slope is None or slope <= STRAIGHT:
        return []
    (before, low), (after, high) = list(above.items())[-2:]
    grown = f" it grows times {high / low:.1f}" if low > 0 else " it begins to grow"
    text = (
        f"{series.name}, {column}: STEEPER than a straight line, exponent {slope:.2f}; from {before:,} to {after:,} "
        f"(times {after / before:.1f}){grown}"
    )
    if series.parts is not None:
        name, count = series.parts
        against = exponent([count(size) for size in above], list(above.values()))
        if against is not None:
            judged = "a straight line or less" if against <= STRAIGHT else "steeper there too"
            text += (
                f". Against {name} ({count(after):,.0f} at {after:,}) the exponent is {against:.2f}, {judged}"
            )
    return [f"{text}."]


def _rounded(value: float) -> float:
    """To three digits, and from 100 on whole."""
    return round(value) if abs(value) >= 100 else float(f"{value:.3g}")

"""A comparison of models as text."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlflow_project.common.tables import FORMATS, render

if TYPE_CHECKING:
    import pandas as pd

    from hw2.comparison.compare import Comparison

_COLUMNS = {
    "accuracy": ("model", "right", "accuracy", "low", "high", "train_seconds", "KiB", "pareto"),
    "pairs": (
        *("first", "second", "only_first_right", "only_second_right", "same_answer", "difference"),
        "verdict",
    ),
    "seeds": ("configuration", "seeds", "mean", "sd", "least", "most"),
    "seed_pairs": ("first", "second", "seeds", "difference", "low", "high", "verdict"),
}
TABLES = tuple(_COLUMNS)


def render_comparison(comparison: "Comparison", format_: str = FORMATS[0], table: str | None = None) -> str:
    """Render the comparison in one of the formats; table: only this one."""
    if format_ == "csv" or (table and format_ == "json"):
        return render(frame_rows(getattr(comparison, table or TABLES[0])), format_)
    if format_ == "json":
        return _json(comparison)
    if table:
        return _table(comparison, table)
    return "\n\n".join(filter(None, (*_sections(comparison), _front(comparison))))


def frame_rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return a frame's rows as plain values, None for what is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]


def _sections(comparison: "Comparison") -> Sequence[str]:
    first = comparison.models[0]
    parts = [
        f"{len(comparison.models)} models, all evaluated on the same {first.n:,} test images "
        f"(SHA-256 {first.images_sha256[:12]})\n" + _table(comparison, "accuracy"),
        f"Pairs\n{_table(comparison, 'pairs')}",
        f"Overall: {comparison.overall_verdict}",
    ]
    if (comparison.seeds["models"] > 1).any():
        parts.append(f"Over seeds\n{_table(comparison, 'seeds')}")
        if len(comparison.seed_pairs):
            parts.append(f"Pairs over seeds\n{_table(comparison, 'seed_pairs')}")
    return parts


def _table(comparison: "Comparison", name: str) -> str:
    table = frame_rows(getattr(comparison, name))
    for row in table:
        if name == "accuracy":
            size = row["model_size_bytes"]
            row |= {"KiB": None if size is None else round(size / 1024), "pareto": "*" * bool(row["pareto"])}
        if "difference" in row:
            row["difference"] = f"{100 * row['difference']:+.2f} points"
    return render(table, "table", _COLUMNS[name])


def _front(comparison: "Comparison") -> str:
    front = ", ".join(comparison.accuracy.loc[comparison.accuracy["pareto"], "model"])
    return (
        f"Pareto front (*): {front}; no other model is at least as accurate, as fast to train and as small, "
        "and better in one of these"
    )


def _json(comparison: "Comparison") -> str:
    tables = {name: json.loads(render(frame_rows(getattr(comparison, name)), "json")) for name in TABLES}
    overall = comparison.overall._asdict() | {"verdict": comparison.overall_verdict}
    first = comparison.models[0]
    about = {"pictures": first.n, "images_sha256": first.images_sha256}
    return json.dumps(about | {"overall": overall} | tables, indent=2)

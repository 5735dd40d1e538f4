"""A comparison of models as text."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlflow_project.common.tables import FORMATS, render

if TYPE_CHECKING:
    import pandas as pd

    from hw2.comparison.compare import Comparison

TABLES = ("accuracy", "pairs", "seeds", "seed_pairs")
_ACCURACY = ("model", "right", "accuracy", "low", "high", "train_seconds", "KiB", "pareto")
_PAIRS = ("first", "second", "only_first_right", "only_second_right", "same_answer", "difference", "verdict")
_SEEDS = ("configuration", "seeds", "mean", "sd", "least", "most")
_SEED_PAIRS = ("first", "second", "seeds", "difference", "low", "high", "verdict")


def render_comparison(found: "Comparison", format_: str = FORMATS[0], table: str | None = None) -> str:
    """The comparison as text in one of the formats."""
    if format_ == "csv" or (table and format_ == "json"):
        return render(frame_rows(getattr(found, table or TABLES[0])), format_)
    if format_ == "json":
        return _json(found)
    if table:
        return _table(found, table)
    return "\n\n".join(filter(None, (*_sections(found), _front(found))))


def frame_rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """A frame's rows as plain values, None for what is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]


def _sections(found: "Comparison") -> Sequence[str]:
    first = found.models[0]
    parts = [
        f"{len(found.models)} models, each asked {first.n:,} test images (SHA-256 {first.images_sha256[:12]})\n"
        + _table(found, "accuracy"),
        f"Pairs\n{_table(found, 'pairs')}",
        f"Overall: {found.overall_verdict}",
    ]
    if (found.seeds["models"] > 1).any():
        parts.append(f"Over seeds\n{_table(found, 'seeds')}")
        if len(found.seed_pairs):
            parts.append(f"Pairs over seeds\n{_table(found, 'seed_pairs')}")
    return parts


def _table(found: "Comparison", name: str) -> str:
    columns = {"accuracy": _ACCURACY, "pairs": _PAIRS, "seeds": _SEEDS, "seed_pairs": _SEED_PAIRS}[name]
    table = frame_rows(getattr(found, name))
    for row in table:
        if name == "accuracy":
            size = row["model_size_bytes"]
            row |= {"KiB": None if size is None else round(size / 1024), "pareto": "*" * bool(row["pareto"])}
        if "difference" in row:
            row["difference"] = f"{100 * row['difference']:+.2f} points"
    return render(table, "table", columns)


def _front(found: "Comparison") -> str:
    front = ", ".join(found.accuracy.loc[found.accuracy["pareto"], "model"])
    return (
        f"Pareto front (*): {front}; no other model is at least as accurate, as fast to train and as small, "
        "and better in one of these"
    )


def _json(found: "Comparison") -> str:

    tables = {name: json.loads(render(frame_rows(getattr(found, name)), "json")) for name in TABLES}
    overall = found.overall._asdict() | {"verdict": found.overall_verdict}
    first = found.models[0]
    about = {"pictures": first.n, "images_sha256": first.images_sha256}
    return json.dumps(about | {"overall": overall} | tables, indent=2)

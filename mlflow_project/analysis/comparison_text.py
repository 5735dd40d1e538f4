"""A comparison of models and of their configurations as text."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import RunError
from mlflow_project.common.tables import FORMATS, render

if TYPE_CHECKING:
    import pandas as pd

    from hw2.comparison.best import BestVerdict
    from hw2.comparison.compare import Comparison

MODEL, CONFIGURATION = "model", "configuration"
BY = (MODEL, CONFIGURATION)
LISTED_PAIRS = 10
"""More pairs are not listed one by one: nobody reads them."""

_COLUMNS = {
    "accuracy": ("model", "right", "accuracy", "low", "high", "train_seconds", "KiB", "pareto"),
    "pairs": (
        *("first", "second", "only_first_right", "only_second_right", "same_answer", "difference"),
        "verdict",
    ),
    "configurations": ("configuration", "seeds", "failed", "mean", "low", "high", "sd", "least", "most"),
    "configuration_pairs": ("first", "second", "verdict"),
}
TABLES = tuple(_COLUMNS)
_FRAMES: "dict[str, Callable[[Comparison], pd.DataFrame]]" = {
    "accuracy": lambda comparison: comparison.accuracy,
    "pairs": lambda comparison: comparison.pairs,
    "configurations": lambda comparison: comparison.by_configuration.table,
    "configuration_pairs": lambda comparison: comparison.by_configuration.pairs,
}


def render_comparison(
    comparison: "Comparison", format_: str = FORMATS[0], table: str | None = None, by: str | None = None
) -> str:
    """Render the comparison in one of the formats.

    Args:
        comparison: What to render.
        format_: One of `FORMATS`.
        table: Only this one.
        by: MODEL or CONFIGURATION for these verdicts alone; both by default, where there are seeds.

    Raises:
        RunError: Configurations are wanted, and no two have two trained seeds each.
    """
    if by == CONFIGURATION and comparison.by_configuration.best is None:
        raise RunError(
            "configurations are compared over seeds, and no two of these have two trained seeds each; train more "
            "with: mlflow-project sweep --seeds 0,1,2,3,4"
        )
    if format_ == "csv" or (table and format_ == "json"):
        default = "configurations" if by == CONFIGURATION else TABLES[0]
        return render(table_rows(comparison, table or default), format_)
    if format_ == "json":
        return _json(comparison)
    if table:
        return _table(comparison, table)
    repeated = comparison.by_configuration.has_repetitions
    sections: list[str] = []
    if by != MODEL and repeated:
        sections += _configuration_sections(comparison)
    if by != CONFIGURATION:
        sections += _model_sections(comparison)
    return "\n\n".join(sections)


def table_rows(comparison: "Comparison", table: str) -> list[dict[str, Any]]:
    """Return the rows of one of `TABLES` as plain values, None for what is missing."""
    frame = _FRAMES[table](comparison)
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]


def _configuration_sections(comparison: "Comparison") -> list[str]:
    found, first = comparison.by_configuration, comparison.models[0]
    parts = [
        f"{len(found.configurations)} configurations over their seeds and the same {first.n:,} test images\n"
        + _table(comparison, "configurations"),
        "\n".join([*_best_sentences(found.best), *(f"{note}." for note in found.notes)]),
    ]
    if len(found.pairs) > 1:
        parts.append(f"Pairs of configurations\n{_pairs(comparison, 'configuration_pairs')}")
    return list(filter(None, parts))


def _model_sections(comparison: "Comparison") -> list[str]:
    first = comparison.models[0]
    return [
        f"{len(comparison.models)} models, all evaluated on the same {first.n:,} test images "
        f"(SHA-256 {first.images_sha256[:12]})\n" + _table(comparison, "accuracy"),
        "\n".join(_best_sentences(comparison.best)),
        f"Pairs\n{_pairs(comparison, 'pairs')}",
        f"Overall: {comparison.overall_verdict}",
        _front(comparison),
    ]


def _best_sentences(best: "BestVerdict | None") -> Sequence[str]:
    return best.sentences() if best is not None else ()


def _pairs(comparison: "Comparison", table: str) -> str:
    count = len(_FRAMES[table](comparison))
    if count <= LISTED_PAIRS:
        return _table(comparison, table)
    return f"{count} of them are listed by: --format csv --table {table}"


def _table(comparison: "Comparison", name: str) -> str:
    table = table_rows(comparison, name)
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
    tables = {name: json.loads(render(table_rows(comparison, name), "json")) for name in TABLES}
    overall = comparison.overall._asdict() | {"verdict": comparison.overall_verdict}
    first, by_configuration = comparison.models[0], comparison.by_configuration
    about = {"pictures": first.n, "images_sha256": first.images_sha256}
    verdicts = {
        "best_model": _best_sentences(comparison.best),
        "best_configuration": _best_sentences(by_configuration.best),
        "notes": by_configuration.notes,
    }
    return json.dumps(about | {"overall": overall} | verdicts | tables, indent=2)

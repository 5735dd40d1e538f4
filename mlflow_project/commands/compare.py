"""`compare`: which of several models is better, and whether that can be told."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_project.options import name_option, option
from mlflow_project.output import FORMATS, format_option, render

if TYPE_CHECKING:
    import pandas as pd

    from hw2.comparison import Comparison
    from mlflow_project.selection import Selection

TABLES = ("accuracy", "pairs", "seeds", "seed_pairs")
_ACCURACY = ("model", "right", "accuracy", "low", "high", "train_seconds", "KiB", "pareto")
_PAIRS = ("first", "second", "only_first_right", "only_second_right", "same_answer", "difference", "verdict")
_SEEDS = ("configuration", "seeds", "mean", "sd", "least", "most")
_SEED_PAIRS = ("first", "second", "seeds", "difference", "low", "high", "verdict")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def selection_options(command: _Command) -> _Command:
    """Which models are meant; see `selection`."""
    for decorate in (
        name_option,
        option(
            "--models", default=None,
            help='Registered models, with commas: champion,m1,3,"lr=0.1 epochs=8", models:/ and runs:/ URIs.',
        ),
        option("--sweep", default=None, help="Run id of a sweep: all its cells."),
        option(
            "--runs", default=None,
            help="Run ids, with commas. Without any of these: the latest run of each configuration, 10 at most.",
        ),
    ):  # fmt: skip
        command = decorate(command)
    return command


def selection(runs: str | None, sweep: str | None, models: str | None, name: str) -> "Selection":
    """What `selection_options` say."""
    from mlflow_project.registry import split_models
    from mlflow_project.selection import Selection

    ids = [part.strip() for part in (runs or "").split(",")]
    return Selection(tuple(filter(None, ids)), sweep, tuple(split_models(models or "")), name)


@click.command(short_help="Which models are better, and whether that can be told.")
@selection_options
@option(
    "--table",
    type=click.Choice(TABLES),
    default=None,
    help="Only this table; csv has one table, accuracy unless another is named.",
)
@format_option
def compare(
    runs: str | None, sweep: str | None, models: str | None, name: str, table: str | None, format_: str
) -> int:
    """Compare models on the test pictures that all of them have answered, by their stored predictions.

    Accuracies with 95 % Wilson intervals; for each pair the exact McNemar test with Holm's correction and its
    verdict in words; Cochran's Q over all; over seeds, means and paired t-tests. No model is run.

    \b
    mlflow-project compare --models m1,m2,"lr=0.1 epochs=8"
    mlflow-project compare --sweep RUN_ID --format csv --table pairs
    """
    from mlflow_project.comparing import compare_stored
    from mlflow_project.connection import client

    found, selected = compare_stored(client(), selection(runs, sweep, models, name))
    for note in selected.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(said(found, format_, table))
    return 0


def said(found: "Comparison", format_: str = FORMATS[0], table: str | None = None) -> str:
    """The comparison as text in one of the formats."""
    if format_ == "csv" or (table and format_ == "json"):
        return render(rows(getattr(found, table or TABLES[0])), format_)
    if format_ == "json":
        return _json(found)
    if table:
        return _table(found, table)
    return "\n\n".join(filter(None, (*_sections(found), _front(found))))


def rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """A frame's rows as plain values, None for what is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]


def _sections(found: "Comparison") -> Sequence[str]:
    first = found.models[0]
    parts = [
        f"{len(found.models)} models, each asked {first.n:,} test pictures (SHA-256 {first.images_sha256[:12]})\n"
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
    table = rows(getattr(found, name))
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
    import json

    tables = {name: json.loads(render(rows(getattr(found, name)), "json")) for name in TABLES}
    overall = found.overall._asdict() | {"verdict": found.overall_verdict}
    first = found.models[0]
    about = {"pictures": first.n, "images_sha256": first.images_sha256}
    return json.dumps(about | {"overall": overall} | tables, indent=2)

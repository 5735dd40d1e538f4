"""The section of a report on the search whose trials are shown, from the tables that its run keeps."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw2 import figures
from mlflow_project.common.names import (
    PARENT_TAG,
    SEARCH_CURVES,
    SEARCH_IMPORTANCE,
    SEARCH_PARAMETERS,
    SEARCH_SPENDING,
    SEARCH_TABLE,
    SEARCH_TAG,
    VERDICT_TABLE,
    VERDICT_TAG,
)
from mlflow_project.registry.stored_runs import RunRecord, download_artifacts, fetch_or_none
from mlflow_project.reports.elements import Column, columns, draw, frame_table, p_value, points, share

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FIGURES = {
    SEARCH_CURVES: (figures.search_curves, "Learning curves of all trials", "Validation error by epoch"),
    SEARCH_PARAMETERS: (
        figures.search_parameters,
        "Validation accuracy against each parameter",
        "Points by the epochs that a trial was trained for",
    ),
    SEARCH_IMPORTANCE: (
        figures.search_importance,
        "How much depends on each parameter",
        "Shares of the variance of the accuracy at the first rung",
    ),
    SEARCH_SPENDING: (figures.search_spending, "What was spent where", "Epochs trained up to each rung"),
}
_TRIALS = [
    *columns("trial", "run", "state", "epochs"),
    Column("validation_accuracy", format=share),
    Column("test_accuracy", format=share),
    Column("reason", "Why no further"),
]
_RIVALS = [
    *columns("run", "epochs"),
    Column("validation_accuracy", format=share),
    Column("difference", "The winner's lead (points)", points),
    Column("low", "From", points),
    Column("high", "To", points),
    Column("p_holm", "p", p_value),
    Column("verdict"),
]


def search_section(client: "MlflowClient", runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Make the section on the search of the first of these runs that is a trial of one; None where none is."""
    parent = next(filter(None, (_search_of(client, run) for run in runs)), None)
    if parent is None:
        return None
    paths = [SEARCH_TABLE, VERDICT_TABLE, *(f"tables/{stem}.csv" for stem in _FIGURES)]
    with tempfile.TemporaryDirectory(prefix="search-") as scratch:
        files = download_artifacts(client, ((parent, path) for path in paths), Path(scratch))
        tables = {path: _read(files[parent.run_id, path]) for path in paths}
    drawn = []
    for stem, (figure, caption, alt) in _FIGURES.items():
        table = tables[f"tables/{stem}.csv"]
        if table is not None:
            drawn.append(draw(figure(table), caption, alt, frame_table(caption, table)))
    trials, rivals = tables[SEARCH_TABLE], tables[VERDICT_TABLE]
    return {
        "name": parent.name,
        "verdict": parent.tags.get(VERDICT_TAG, ""),
        "figures": drawn,
        "trials": None if trials is None else frame_table("All trials, the best first", trials, _TRIALS),
        "rivals": None
        if rivals is None
        else frame_table("The winner and its rivals, on validation", rivals, _RIVALS),
    }


def _search_of(client: "MlflowClient", run: RunRecord) -> RunRecord | None:
    parent_id = run.tags.get(PARENT_TAG)
    if parent_id is None:
        return None
    parent = fetch_or_none(lambda: client.get_run(parent_id))
    return None if parent is None or SEARCH_TAG not in parent.data.tags else RunRecord.from_mlflow(parent)


def _read(file: Path | None) -> pd.DataFrame | None:
    """Read a table; None where there is none, or it has no row."""
    if file is None:
        return None
    table = pd.read_csv(file)
    return table if len(table) else None

"""How to get from a command to MLflow's UI."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_project.common.store_uri import redact
from mlflow_project.common.ui_links import comparison_page, experiment_page, run_page, ui_address

if TYPE_CHECKING:
    from mlflow_project.training.ui_views import View


def experiment_command(folder: Path, table: "View", run_ids: Iterable[str] = ()) -> str:
    """Return how to come to the table and the charts of the experiment in which the run of this folder is.

    Args:
        folder: That of the run's journal.
        table: The view that the first page opens with.
        run_ids: Runs to be compared; with two or more, also how to come to their comparison.
    """
    from mlflow_project.training.ui_views import charts

    experiment_id = _experiment_id(folder)
    if experiment_id is None:
        return _look(folder, {"View": "#/experiments"})
    pages = {
        "View": experiment_page(experiment_id, table.query),
        "Charts": experiment_page(experiment_id, charts().query),
    }
    compared = list(run_ids)
    if len(compared) > 1:
        pages["Compare"] = comparison_page(experiment_id, compared)
    return _look(folder, pages)


def run_command(folder: Path, run_id: str | None) -> str:
    """Return how to come to the page of a run; to the list of experiments while MLflow has not got it."""
    experiment_id = _experiment_id(folder)
    if experiment_id is None or run_id is None:
        return _look(folder, {"View": "#/experiments"})
    return _look(folder, {"View": run_page(experiment_id, run_id)})


def _experiment_id(folder: Path) -> str | None:
    from mlflow_project.tracking.journal.format import Cursor

    return Cursor.load(folder).experiment_id


def _look(folder: Path, pages: dict[str, str]) -> str:
    """One line a page; before the first, what to type where the store has no server."""
    from mlflow_project.tracking.journal.format import read_header

    uri = read_header(folder).tracking_uri
    lines = [f"{label}: {ui_address(uri)}/{page}" for label, page in pages.items()]
    if not uri.startswith("http"):
        lines[0] = lines[0].replace(": ", f": mlflow ui --backend-store-uri {redact(uri)}   then ", 1)
    return "\n".join(lines)

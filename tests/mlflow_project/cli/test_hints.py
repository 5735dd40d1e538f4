"""How a person gets from a command to MLflow's UI."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlflow_project.cli.shared import hints
from mlflow_project.reports.page import mlflow_pages
from mlflow_project.tracking.journal.format import Cursor
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.training import ui_views

TABLE = ui_views.table()


def folder_of(uri: str, experiment_id: str | None = "7") -> Path:
    """Of a run in this store; without an experiment, one that is not delivered yet."""
    journal = Journal.create(uri, "experiment", "lr=0.1 epochs=8")
    journal.close()
    Cursor(experiment_id=experiment_id).save(journal.folder)
    return journal.folder


def test_a_server_is_named_without_its_password() -> None:
    lines = hints.experiment_command(folder_of("http://ada:secret@mlflow.example:5000/"), TABLE).splitlines()
    page = "http://mlflow.example:5000/#/experiments/7/runs?workflowType=machine_learning&"
    assert lines == [f"View: {page}{TABLE.query}", f"Charts: {page}{ui_views.charts().query}"]


def test_a_store_without_a_server_has_its_command_before_the_first_page() -> None:
    first, second = hints.experiment_command(folder_of("sqlite:////store/mlflow.db"), TABLE).splitlines()
    assert first.startswith(
        "View: mlflow ui --backend-store-uri sqlite:////store/mlflow.db   then http://127.0.0.1:5000/#/"
    )
    assert first.endswith(TABLE.query)
    assert second.startswith("Charts: http://127.0.0.1:5000/#/")


def test_the_comparison_names_the_runs_and_one_alone_is_not_compared() -> None:
    folder = folder_of("http://127.0.0.1:5000")
    line = hints.experiment_command(folder, TABLE, ["a", "b"]).splitlines()[-1]
    assert line == (
        "Compare: http://127.0.0.1:5000/#/compare-runs?runs=%5B%22a%22%2C%22b%22%5D&experiments=%5B%227%22%5D"
    )
    assert "Compare" not in hints.experiment_command(folder, TABLE, ["a"])


def test_a_run_that_has_not_arrived_leads_to_the_list_of_experiments() -> None:
    folder = folder_of("http://127.0.0.1:5000", None)
    assert hints.experiment_command(folder, TABLE) == "View: http://127.0.0.1:5000/#/experiments"
    assert hints.run_command(folder, None) == "View: http://127.0.0.1:5000/#/experiments"
    assert hints.run_command(folder_of("http://127.0.0.1:5000"), "r").endswith(
        "/7/runs/r?workflowType=machine_learning"
    )


class Served:
    """A client of a server whose experiment 7 has these tags."""

    tracking_uri = "http://ada:secret@mlflow.example"

    def __init__(self, *tags: str) -> None:
        self.tags = dict.fromkeys(tags, "")

    def get_run(self, run_id: str) -> SimpleNamespace:
        return SimpleNamespace(info=SimpleNamespace(experiment_id="7"))

    def get_experiment(self, experiment_id: str) -> SimpleNamespace:
        return SimpleNamespace(tags=self.tags)


def test_a_report_links_to_the_views_that_are_there_and_to_its_models_side_by_side() -> None:
    client: Any = Served(TABLE.tag[0])
    runs: Any = [SimpleNamespace(run_id="a"), SimpleNamespace(run_id="b")]
    page = "http://mlflow.example/#/"
    assert mlflow_pages(client, runs) == {
        "table": f"{page}experiments/7/runs?workflowType=machine_learning&{TABLE.query}",
        "these models side by side": f"{page}compare-runs?runs=%5B%22a%22%2C%22b%22%5D&experiments=%5B%227%22%5D",
    }
    client.tracking_uri = "sqlite:////store/mlflow.db"
    assert mlflow_pages(client, runs) == {}

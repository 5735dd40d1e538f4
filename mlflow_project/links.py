"""How a person gets from a command to MLflow's UI."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_project.sender import Delivery

# Without it MLflow opens an experiment as a page for language models.
_WORKFLOW = "workflowType=machine_learning"
LOCAL_SERVER = "http://127.0.0.1:5000"


def experiment_link(server: str, experiment_id: str) -> str:
    """The page that compares an experiment's runs."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}?{_WORKFLOW}"


def run_link(server: str, experiment_id: str, run_id: str) -> str:
    """The page of one run."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW}"


def experiment_command(folder: Path) -> str:
    """How to come to the page of the experiment in which the run of this folder is."""
    return run_command(folder, None)


def undelivered(delivery: "Delivery | None", folder: Path) -> str | None:
    """What a person should know of values that the tracking server hasn't got; None where it has all."""
    if delivery is None or not delivery.pending:
        return None
    problem = f" ({delivery.problem})" if delivery.problem else ""
    return (
        f"{delivery.pending:,} values are kept in {folder} and not delivered yet{problem}; "
        "deliver them with: mlflow-project sync"
    )


def run_command(folder: Path, run_id: str | None) -> str:
    """How to come to the page of a run: what to type for a store without a server, and where to look.

    Without an id, to the page of its experiment.
    """
    from mlflow_project.journal_file import Cursor, read_header

    uri = read_header(folder).tracking_uri
    experiment_id = Cursor.load(folder).experiment_id
    server = uri if uri.startswith("http") else LOCAL_SERVER
    if experiment_id is None:
        look = f"{server}/#/experiments"
    elif run_id is None:
        look = experiment_link(server, experiment_id)
    else:
        look = run_link(server, experiment_id, run_id)
    if uri.startswith("http"):
        return f"Look: {look}"
    from mlflow_project.database import shown

    return f"Look: mlflow ui --backend-store-uri {shown(uri)}   then {look}"

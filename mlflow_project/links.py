"""How a person gets from a command to MLflow's UI."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_project.runs import Outcome

# Without it MLflow opens an experiment as a page for language models.
_WORKFLOW = "workflowType=machine_learning"
LOCAL_SERVER = "http://127.0.0.1:5000"


def experiment_link(server: str, experiment_id: str) -> str:
    """The page that compares an experiment's runs."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}?{_WORKFLOW}"


def run_link(server: str, experiment_id: str, run_id: str) -> str:
    """The page of one run."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW}"


def ui_command(outcome: "Outcome") -> str:
    """What to type and where to look, for a store without a server; else where to look."""
    from mlflow_project.journal_file import Cursor, read_header

    uri = read_header(outcome.folder).tracking_uri
    experiment_id = Cursor.load(outcome.folder).experiment_id
    server = uri if uri.startswith("http") else LOCAL_SERVER
    if outcome.run_id is None or experiment_id is None:
        look = f"{server}/#/experiments"
    else:
        look = run_link(server, experiment_id, outcome.run_id)
    if uri.startswith("http"):
        return f"Look: {look}"
    return f"Look: mlflow ui --backend-store-uri {uri}   then {look}"

"""How to get from a command to MLflow's UI."""

from pathlib import Path

# Without it MLflow opens an experiment as a page for language models.
_WORKFLOW = "workflowType=machine_learning"
LOCAL_SERVER = "http://127.0.0.1:5000"


def experiment_link(server: str, experiment_id: str) -> str:
    """Return the address of the page that compares an experiment's runs."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}?{_WORKFLOW}"


def run_link(server: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW}"


def view_command(folder: Path, run_id: str | None = None) -> str:
    """Return how to view a run in MLflow's UI: what to type for a store without a server, and the address.

    Without an id, the address is that of its experiment.
    """
    from mlflow_project.tracking.journal.format import Cursor, read_header

    uri = read_header(folder).tracking_uri
    experiment_id = Cursor.load(folder).experiment_id
    server = uri if uri.startswith("http") else LOCAL_SERVER
    if experiment_id is None:
        page = f"{server}/#/experiments"
    elif run_id is None:
        page = experiment_link(server, experiment_id)
    else:
        page = run_link(server, experiment_id, run_id)
    if uri.startswith("http"):
        return f"View: {page}"
    from mlflow_project.common.store_uri import redact

    return f"View: mlflow ui --backend-store-uri {redact(uri)}   then {page}"

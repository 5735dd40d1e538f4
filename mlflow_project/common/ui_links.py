"""Addresses of pages in MLflow's UI; what `*_page` returns is relative to the UI."""

import json
from collections.abc import Iterable
from urllib.parse import quote

from mlflow_project.common.store_uri import redact

# Without it MLflow opens an experiment as a page for language models.
_WORKFLOW = "workflowType=machine_learning"
LOCAL_SERVER = "http://127.0.0.1:5000"


def ui_address(tracking_uri: str) -> str:
    """Return where a browser finds the UI of a store, without a password.

    It is that of `mlflow ui` where the store has no server.
    """
    if not tracking_uri.startswith("http"):
        return LOCAL_SERVER
    scheme, _, rest = redact(tracking_uri).partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}".rstrip("/")


def experiment_page(experiment_id: str, query: str) -> str:
    """Return the page of an experiment's runs with the view that `query` opens."""
    return f"#/experiments/{experiment_id}/runs?{_WORKFLOW}&{query}"


def comparison_page(experiment_id: str, run_ids: Iterable[str]) -> str:
    """Return the page that has these runs side by side."""
    runs, experiments = (
        quote(json.dumps(ids, separators=(",", ":"))) for ids in (list(run_ids), [experiment_id])
    )
    return f"#/compare-runs?runs={runs}&experiments={experiments}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the page of one run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_WORKFLOW}"

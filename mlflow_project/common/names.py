"""The names by which things are found again in MLflow and beside a journal: each is stored, so none may change."""

import os

EXPERIMENT = "mnist-base-cnn"
DEFAULT_NAME = "mnist-base-cnn"
"""Of the registered model that is meant where none is named."""
CHAMPION = "champion"
"""The alias of the version to use."""

# Tags of runs.
KEY_TAG = "journal_key"
"""The journal's key; of a model, key and name. A second delivery finds by it what the first has made."""
CLAIM_TAG = "claimed_by."
"""With a journal's key: on a run that somebody else has made, while a process takes it."""
STATUS_TAG = "status"
"""A `RunState`."""
REASON_TAG = "reason"
"""Why a run failed or was stopped; a run that goes on has none."""
LIVE_TAGS = ("heartbeat", "owner")
"""On a run while a process works on it: when it last sent a sign of life, and where it is."""
RESUMED_TAG = "resumed"
"""How often the run went on after an interruption."""
SHARES_TAG = "shares_training_with"
"""Runs that have the same first epochs."""
SWEEP_TAG = "sweep_sha256"
"""On the run above a sweep's runs: which grid it is."""

# MLflow's own tags, as text: importing MLflow for them takes seconds.
NOTE_TAG = "mlflow.note.content"
PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"
IMAGES_TAG = "mlflow.loggedImages"
CONTEXT_TAG = "mlflow.data.context"
VERSIONS_TAG = "mlflow.modelVersions"

JOURNAL_REFERENCE = "journal:"
"""Before a journal's key in a tag's text: becomes the id of that journal's run, as soon as it has one."""

# Artifacts.
LAYERS_TABLE = "tables/layers.csv"
"""Of a net that isn't BaseCNN."""
SWEEP_TABLE = "tables/sweep.csv"
"""What became of each cell of a sweep."""
PREDICTIONS = "predictions/test.parquet"

CHECKPOINT = "checkpoint.pt"
"""Beside the journal of a training."""


def experiment_name() -> str:
    """Return MLflow's own variable, else the project's experiment."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT

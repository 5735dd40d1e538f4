"""Names that are stored in MLflow and beside a journal, so none may change."""

EXPERIMENT = "mnist-base-cnn"
DEFAULT_NAME = "mnist-base-cnn"
"""The registered model's name, unless another is given."""
CHAMPION = "champion"
"""The alias of the version to use."""

# Tags of runs.
KEY_TAG = "journal_key"
"""The journal's key; of a model, key and name. A second upload finds by it what the first has created."""
CLAIM_TAG = "claimed_by."
"""With a journal's key: on a run that was created elsewhere, while a process claims it."""
STATUS_TAG = "status"
"""A `RunState`."""
REASON_TAG = "reason"
"""Why a run failed or was stopped; a run that was resumed has none."""
LIVE_TAGS = ("heartbeat", "owner")
"""On a run while its process is alive: the last heartbeat, and host and process ID."""
RESUMED_TAG = "resumed"
"""How often the run was resumed."""
SHARES_TAG = "shares_training_with"
"""Runs that have the same first epochs."""
SWEEP_TAG = "sweep_sha256"
"""On a sweep's parent run: which grid it is."""

SEARCH_TAG = "search_sha256"
"""On a search's parent run: which search it is."""
TRIAL_TAG = "trial"
"""The number of a trial in its search, from 1."""
RUNG_TAG = "rung"
"""Of a trial: after how many epochs it was stopped, or tested."""

# MLflow's own tags, as text: importing MLflow for them takes seconds.
NOTE_TAG = "mlflow.note.content"
PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"
IMAGES_TAG = "mlflow.loggedImages"
CONTEXT_TAG = "mlflow.data.context"
VERSIONS_TAG = "mlflow.modelVersions"

JOURNAL_REFERENCE = "journal:"
"""Before a journal's key in a tag's value: replaced by the ID of that journal's run when it is uploaded."""

# Artifacts.
LAYERS_TABLE = "tables/layers.csv"
"""Of a net other than BaseCNN."""
SWEEP_TABLE = "tables/sweep.csv"
"""The result of each trial of a sweep."""
SEARCH_TABLE = "tables/search.csv"
"""Each trial of a search: its parameters, how far it went and why no further."""
PREDICTIONS = "predictions/test.parquet"

CHECKPOINT = "checkpoint.pt"
"""Beside the journal of a training."""

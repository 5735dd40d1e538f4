"""Where this person's programs keep what must outlive them.

`$MLFLOW_PROJECT_STATE`, else `$XDG_STATE_HOME/mlflow-project`, else `~/.local/state/mlflow-project`.
"""

import os
from pathlib import Path


def state_dir() -> Path:
    """Return the state folder, which may not exist yet."""
    named = os.environ.get("MLFLOW_PROJECT_STATE")
    if named:
        return Path(named).expanduser().absolute()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "mlflow-project"


def runs_folder() -> Path:
    """Return the folder of all runs, one folder each."""
    return state_dir() / "runs"

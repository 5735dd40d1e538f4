"""Where this person's programs keep what must outlive them.

`$MLFLOW_PROJECT_STATE`, else `$XDG_STATE_HOME/mlflow-project`, else `~/.local/state/mlflow-project`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_project.common.errors import JournalError


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


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise JournalError with what to do, where the state folder or a part of it can't be written."""
    try:
        yield
    except OSError as error:
        raise JournalError(
            f"{folder} can't be written: {error.strerror}; "
            "free disk space, or set MLFLOW_PROJECT_STATE to a folder that can be written"
        ) from error

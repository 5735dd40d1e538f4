"""What a run's folder knows of the store that its journal goes to, beside what the journal itself says."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow_project.tracking.journal import fsio

FILE = "store.json"


@dataclass(frozen=True, kw_only=True)
class StoreRecord:
    """Written once the store has answered; without it, the journal has never met its store."""

    store_id: str | None = None
    """By which the store is known wherever it is moved to."""
    tracking_uri: str | None = None
    """Where the store is now, if that isn't where the journal says."""
    new_runs: int = 0
    """How often the journal was sent as a new run, because the one before was lost."""
    problem: str = ""
    """Why nothing can be delivered until a person decides."""

    @classmethod
    def load(cls, folder: Path) -> "StoreRecord":
        try:
            return cls(**json.loads((folder / FILE).read_bytes()))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, folder: Path) -> None:
        fsio.replace(folder / FILE, json.dumps(asdict(self)).encode(), durable=True)

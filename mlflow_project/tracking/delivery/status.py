"""How much of a run is in MLflow."""

from dataclasses import dataclass, field
from pathlib import Path

from mlflow_project.common.errors import StoreError
from mlflow_project.tracking.journal.format import Cursor


@dataclass(frozen=True, kw_only=True)
class DeliveryStatus:
    """How much of a run is in MLflow. `problem` is one line on why not all of it, or None."""

    delivered: int
    pending: int
    problem: str | None
    run_id: str | None = None
    refused: tuple[str, ...] = ()
    """What MLflow will never take, and corrupt spans, a line each; the rest is uploaded."""
    denied: bool = False
    """Whether the last answer was that the server takes nothing of this user."""
    blocked: bool = False
    """Whether a person must decide first; trying again later is of no use."""
    notes: tuple[str, ...] = ()
    """What MLflow can't keep as it is, and what was done instead, a line each."""
    models: dict[str, str] = field(default_factory=dict)
    """Names of models and IDs of logged models."""
    versions: dict[str, str] = field(default_factory=dict)
    """Names of models and their `registered name/version`."""

    @property
    def complete(self) -> bool:
        return self.pending == 0 and self.problem is None

    @classmethod
    def of(cls, cursor: Cursor, pending: int, problem: str | None) -> "DeliveryStatus":
        """Describe what a cursor records."""
        return cls(
            delivered=cursor.delivered,
            pending=pending,
            problem=problem,
            run_id=cursor.run_id,
            refused=tuple(cursor.refused),
            notes=tuple(cursor.notes),
            models=dict(cursor.models),
            versions=dict(cursor.versions),
        )


def require_taken(delivery: DeliveryStatus | None) -> None:
    """Raise StoreError where the server refuses this user and has taken nothing of a run."""
    if delivery is not None and delivery.denied and delivery.pending and not delivery.delivered:
        raise StoreError(
            f"nothing of it is in MLflow: {delivery.problem}; all of it is on this machine, and once that is "
            "set right, mlflow-project sync uploads it"
        )


def pending_warning(delivery: DeliveryStatus | None, folder: Path) -> str | None:
    """Describe what the tracking server hasn't got and what to do; None if it has everything."""
    if delivery is None or not delivery.pending:
        return None
    problem = f" ({delivery.problem})" if delivery.problem else ""
    entries = "1 log entry" if delivery.pending == 1 else f"{delivery.pending:,} log entries"
    return f"{entries} not uploaded{problem} (spooled in {folder}); upload with: mlflow-project sync"

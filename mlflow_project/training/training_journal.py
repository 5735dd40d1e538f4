"""The journal of a training, in which each step of a metric stands once, whatever is repeated after a resume."""

from collections.abc import Callable
from pathlib import Path

from mlflow_project.tracking.journal.entities import Entity, Metric
from mlflow_project.tracking.journal.format import Header
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.writer import Journal


class TrainingJournal(Journal):
    """A journal in which the steps of a metric only grow: a point at or before its key's last step is dropped."""

    def __init__(
        self, folder: Path, header: Header, lock: FileLock, on_problem: Callable[[str], None]
    ) -> None:
        super().__init__(folder, header, lock, on_problem)
        self._last_step: dict[str, int] = {}
        self._gaps: set[str] = set()

    def last_step(self, key: str) -> int | None:
        """Return the last logged step of a metric, before or after a resume."""
        return self._last_step.get(key)

    def _admit(self, entity: Entity, full: bool) -> bool:
        if not isinstance(entity, Metric):
            return super()._admit(entity, full)
        last = self._last_step.get(entity.key)
        if last is not None and entity.step <= last:
            return False
        # After a lost point no later one: a resumed run then logs all of them, in order.
        if full or entity.key in self._gaps:
            self._gaps.add(entity.key)
            return super()._admit(entity, full=True)
        self._last_step[entity.key] = entity.step
        return True

    def _recall(self, entity: Entity | Header) -> None:
        super()._recall(entity)
        if isinstance(entity, Metric):
            self._last_step[entity.key] = max(entity.step, self._last_step.get(entity.key, entity.step))

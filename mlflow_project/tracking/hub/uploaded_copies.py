"""Copies of uploaded files, kept for a program that reads what it has logged while its server is away."""

import threading
from contextlib import suppress

from mlflow_project.tracking.delivery.program_uploader import remove_copy
from mlflow_project.tracking.journal.entities import Artifact

LIMIT_BYTES = 32 << 20
"""Of one journal's copies; the oldest go first."""

Key = tuple[str | None, str]


class UploadedCopies:
    """The newest copies of one journal, by model and path, until the run has ended."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._guard = threading.Lock()
        self._copies: dict[Key, tuple[Artifact, int]] = {}
        self._bytes = 0

    def add(self, artifact: Artifact) -> None:
        """Keep the copy of a file in place of an earlier one of the same path."""
        key = artifact.model_id, artifact.path
        with self._guard, suppress(OSError):
            self._remove(key)
            size = artifact.file.stat().st_size
            self._copies[key] = artifact, size
            self._bytes += size
            while self._bytes > self._limit:
                self._remove(next(iter(self._copies)))

    def clear(self) -> None:
        with self._guard:
            for key in list(self._copies):
                self._remove(key)

    def _remove(self, key: Key) -> None:
        found = self._copies.pop(key, None)
        if found is not None:
            self._bytes -= found[1]
            remove_copy(found[0])

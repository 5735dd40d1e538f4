"""What a process forces onto the disk, seen from within it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def watch_syncs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int]]:
    """What is forced onto the disk from now on, and the bytes that it had then."""
    synced: list[tuple[Path, int]] = []

    def watched(sync: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            sync(descriptor)
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            synced.append((path, os.fstat(descriptor).st_size))

        return call

    monkeypatch.setattr(os, "fsync", watched(os.fsync))
    monkeypatch.setattr(os, "fdatasync", watched(os.fdatasync))
    return synced

"""A disk that fills up."""

import errno
import os

import pytest

from mlflow_project.tracking.journal import writer


class Disk:
    """A disk that takes so many bytes and then says that it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 1 << 30
        self._write = os.write
        monkeypatch.setattr(writer.os, "write", self.write)

    def write(self, descriptor: int, content: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(descriptor, content[: self.room])
        self.room -= written
        return written

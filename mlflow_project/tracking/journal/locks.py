"""Locks between processes."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

_LOOKS, _LOOK_SECONDS = 20, 0.02


class FileLock:
    """A lock that the kernel gives back when its process dies, however it dies.

    The file stays: removing it would let two processes lock two files of the same name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool = False, shared: bool = False) -> bool:
        """Whether the lock is ours now; with `wait`, it always is in the end.

        shared: beside others who only look whether it is free.
        """
        if self._descriptor is not None:
            return True
        flags = os.O_RDONLY if self.path.is_dir() else os.O_RDWR | os.O_CREAT
        descriptor = os.open(self.path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(
                descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
            )
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def acquire_patiently(self) -> bool:
        """`acquire`, though somebody else may look for a moment whether it is free."""
        for _ in range(_LOOKS):
            if self.acquire():
                return True
            time.sleep(_LOOK_SECONDS)
        return self.acquire()

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "FileLock":
        self.acquire(wait=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock now."""
    if not path.exists():
        return False
    lock = FileLock(path)
    free = lock.acquire(shared=True)
    lock.release()
    return not free

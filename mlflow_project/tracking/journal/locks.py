"""Locks between processes."""

import errno
import fcntl
import logging
import os
import time
from pathlib import Path
from types import TracebackType

from mlflow_project.tracking.journal.owner_file import OwnerFile

_ATTEMPTS, _ATTEMPT_SECONDS = 20, 0.02
_POLL_SECONDS = 0.2
_NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_log = logging.getLogger(__name__)


class FileLock:
    """A lock that the kernel releases when its process dies, however it dies.

    The file stays: removing it would let two processes lock two files of the same name. On a file system without
    `flock` an `OwnerFile` takes its place.
    """

    _has_warned = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._owner_file: OwnerFile | None = None

    def acquire(self, *, wait: bool = False, shared: bool = False) -> bool:
        """Return whether the lock is ours now.

        Args:
            wait: Wait until it is.
            shared: Share it with others who only check whether it is free.
        """
        if self._descriptor is not None or self._owner_file is not None:
            return True
        flags = os.O_RDONLY if self.path.is_dir() else os.O_RDWR | os.O_CREAT
        descriptor = os.open(self.path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(
                descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
            )
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            if isinstance(error, OSError) and error.errno in _NO_FLOCK:
                return self._acquire_owner_file(wait, shared)
            raise
        self._descriptor = descriptor
        return True

    def _acquire_owner_file(self, wait: bool, shared: bool) -> bool:
        if not FileLock._has_warned:
            FileLock._has_warned = True
            _log.warning(
                "the file system of %s has no flock; files with host, process ID and heartbeat (*.owner) lock there",
                self.path.parent,
            )
        owner_file = OwnerFile(self.path)
        if shared:
            return owner_file.is_free()
        while not owner_file.acquire():
            if not wait:
                return False
            time.sleep(_POLL_SECONDS)
        self._owner_file = owner_file
        return True

    def acquire_patiently(self) -> bool:
        """Acquire the lock although another process may check for a moment whether it is free."""
        for _ in range(_ATTEMPTS):
            if self.acquire():
                return True
            time.sleep(_ATTEMPT_SECONDS)
        return self.acquire()

    def release(self) -> None:
        """Release the lock, if it is ours."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._owner_file is not None:
            self._owner_file.release()
            self._owner_file = None

    def __enter__(self) -> "FileLock":
        self.acquire(wait=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock now."""
    if not path.exists():
        return False
    lock = FileLock(path)
    free = lock.acquire(shared=True)
    lock.release()
    return not free

"""Files that survive a power loss, and room on the disk that is ours before it is needed."""

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path

_KEEP_SIZE = 1  # linux/falloc.h: allocate, but leave the file's length as it is


def replace(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a small file so that a reader sees the old or the new content, never a part.

    durable: also after a power loss, and the new one once this has returned.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        if durable:
            sync_path(temporary)
        temporary.replace(path)
        if durable:
            sync_path(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_path(path: Path) -> None:
    """Force a file, or the names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reserve(descriptor: int, start: int, length: int) -> bool:
    """Allocate bytes of an open file ahead of writing them. False where disk or system don't do that.

    Truncating the file gives back what lies beyond its end.
    """
    allocate = _fallocate()
    return allocate is not None and allocate(descriptor, _KEEP_SIZE, start, length) == 0


@functools.cache
def _fallocate() -> Callable[..., int] | None:
    try:
        found = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    found.restype = ctypes.c_int
    function: Callable[..., int] = found
    return function

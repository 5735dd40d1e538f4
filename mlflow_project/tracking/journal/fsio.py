"""Files that survive a power loss, and disk space allocated before it is needed."""

import ctypes
import fcntl
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

_FICLONE = 0x40049409  # linux/fs.h
_KEEP_SIZE = 1  # linux/falloc.h: allocate, but leave the file's length as it is


def replace(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a small file so that a reader sees the old or the new content, never a part.

    Args:
        path: The file.
        content: Its new content.
        durable: Whether that holds after a power loss, too.
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


def clone(source: str | Path, target: str | Path) -> None:
    """Copy a file; where the file system can, the copy shares the blocks of the original until one of them changes."""
    with open(source, "rb") as original, open(target, "wb") as copy:
        try:
            fcntl.ioctl(copy, _FICLONE, original.fileno())
            return
        except OSError:
            pass
    shutil.copyfile(source, target)


def preallocate(descriptor: int, start: int, length: int) -> bool:
    """Allocate bytes of an open file ahead of writing them; return whether disk and system do that.

    Truncating the file gives back what lies beyond its end.
    """
    allocate = _fallocate()
    return allocate is not None and allocate(descriptor, _KEEP_SIZE, start, length) == 0


@functools.cache
def _fallocate() -> Callable[..., int] | None:
    try:
        allocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    allocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    allocate.restype = ctypes.c_int
    function: Callable[..., int] = allocate
    return function

"""Room on the disk that is ours before it is needed, so that a full disk can't silence a run."""

import ctypes
import functools
from collections.abc import Callable

_KEEP_SIZE = 1  # linux/falloc.h: allocate, but leave the file's length as it is


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

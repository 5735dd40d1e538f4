"""Whether the code that runs delivers: what it asks of a `durable+` store goes straight to the real one."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_delivering: ContextVar[bool] = ContextVar("durable_delivering", default=False)


def is_delivering() -> bool:
    return _delivering.get()


@contextmanager
def delivering() -> Iterator[None]:
    """Let calls of `durable+` stores pass straight through, in this thread and block."""
    token = _delivering.set(True)
    try:
        yield
    finally:
        _delivering.reset(token)

"""Signals that are only recorded, and checked between two steps of the work: no step is left half done."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from mlflow_project.common.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulShutdown:
    """While open, a first SIGINT or SIGTERM is only recorded; a second of its kind ends the process at once."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            try:
                self._before[number] = signal.signal(number, self._record)
            except ValueError:  # not the main thread, which alone handles signals
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def reinstall(self) -> None:
        """Handle the signals again after a library has installed a handler of its own."""
        for number in self._before:
            signal.signal(number, self._record)

    @property
    def requested(self) -> bool:
        """Return whether a signal has come."""
        return self._received is not None

    def check(self) -> None:
        """Stop the work if a signal has come.

        Raises:
            Interrupted: A signal has come.
        """
        if self._received is not None:
            raise Interrupted(self._received)

    def _record(self, number: int, frame: FrameType | None) -> None:
        # Of the same kind: `mlflow run` answers Ctrl-C, which has reached us too, with a SIGTERM.
        if self._received == number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._received = self._received or number

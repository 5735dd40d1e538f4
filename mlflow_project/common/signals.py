"""Signals as something that is asked for between two steps of the work, so that no step is left half done."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

from mlflow_project.common.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulShutdown:
    """While open, a first SIGINT or SIGTERM is only noted; a second of its kind ends the process at once."""

    def __init__(self) -> None:
        self._noted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever owns that one handles signals
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def reinstall(self) -> None:
        """Handles the signals again where a library has put a handler of its own in the place of this one."""
        for number in self._before:
            signal.signal(number, self._note)

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._noted is not None

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come. Called where the work can stop."""
        if self._noted is not None:
            raise Interrupted(self._noted)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Of the same kind: `mlflow run` answers Ctrl-C, which has reached us too, with a SIGTERM.
        if self._noted == number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._noted = self._noted or number

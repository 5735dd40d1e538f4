"""Seconds in which this process could run; what it was suspended for is left out.

A process that is stopped (Ctrl-Z, SIGSTOP, a container or a virtual machine that is paused) only sees that time has
passed. So a thread looks at the clock several times a second: where it hasn't for long, and the process has used next
to no processor time since, the process was suspended. The sleep of a computer isn't in `perf_counter` anyway.
"""

import threading
import time

TICK_SECONDS = 0.2
LEAST_SECONDS = 1.0  # a shorter pause may be a processor that others use
_BUSY_SHARE = 0.1  # of a pause; a process that computes, with Python's lock held, uses more


class Clock:
    """Says how long the process could run since the clock was made, and how long it was suspended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._suspended = 0.0
        self._looked, self._used = time.perf_counter(), time.process_time()

    def look(self) -> tuple[float, float]:
        """Seconds active, from an arbitrary beginning, and seconds suspended since the clock was made."""
        with self._lock:
            now, used = time.perf_counter(), time.process_time()
            pause = now - self._looked
            if pause > LEAST_SECONDS and used - self._used < _BUSY_SHARE * pause:
                self._suspended += pause
            self._looked, self._used = now, used
            return now - self._suspended, self._suspended

    def keep_looking(self) -> None:
        """Starts the thread that looks."""
        threading.Thread(target=self._tick, name="active-time", daemon=True).start()

    def _tick(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            self.look()


_clock: Clock | None = None


def seconds() -> float:
    """From an arbitrary beginning, without suspensions since the first call."""
    return _running().look()[0]


def suspended() -> float:
    """Seconds for which the process was suspended since the first call of either function."""
    return _running().look()[1]


def _running() -> Clock:
    global _clock
    if _clock is None:
        _clock = Clock()
        _clock.keep_looking()
    return _clock

"""The hubs of this process, and what becomes of them when it forks, is told to end, or ends."""

import os
import signal
import sys
import threading
import time
from types import FrameType

from mlflow_project.common.store_uri import absolute_uri, inner_uri
from mlflow_project.tracking.hub.hub import Hub
from mlflow_project.tracking.journal.entities import RunEnded
from mlflow_project.tracking.programs.record import RunRecord

WAIT_VARIABLE = "MLFLOW_DURABLE_WAIT"
_WAIT_SECONDS, _KILLED_SECONDS = 10.0, 5.0

_hubs: dict[str, Hub] = {}
_inherited: dict[str, dict[str, RunRecord]] = {}
_making = threading.Lock()
_is_watching = False


def hub_of(store_uri: str) -> Hub:
    """Return this process's hub for a `durable+` address."""
    uri = absolute_uri(inner_uri(store_uri))
    with _making:
        if uri not in _hubs:
            _hubs[uri] = Hub(uri, _inherited.pop(uri, None))
            _watch()
            _finish_with_multiprocessing()
        return _hubs[uri]


def hubs() -> list[Hub]:
    """List the hubs of this process."""
    return list(_hubs.values())


def find_hub(key: str) -> Hub | None:
    """Return the hub of the store that an address names by its key."""
    from mlflow_project.tracking.programs.addresses import store_key

    return next((hub for uri, hub in _hubs.items() if store_key(uri) == key), None)


def finish(seconds: float | None = None) -> None:
    """Upload what is left, for a bounded time, and release all journals: the process ends."""
    deadline = time.monotonic() + (_wait_seconds() if seconds is None else seconds)
    for hub in list(_hubs.values()):
        hub.finish(max(0.0, deadline - time.monotonic()))
    _hubs.clear()


def _wait_seconds() -> float:
    try:
        return max(0.0, float(os.environ.get(WAIT_VARIABLE, "")))
    except ValueError:
        return _WAIT_SECONDS


def _watch() -> None:
    """Look after forks and SIGTERM, once in a process."""
    global _is_watching
    if _is_watching:
        return
    _is_watching = True
    os.register_at_fork(after_in_child=_start_anew)
    _handle_sigterm()


def _start_anew() -> None:
    """Begin with no journals, in a forked process: those that there are belong to its parent."""
    global _making
    _making = threading.Lock()
    hubs = list(_hubs.items())
    _hubs.clear()
    for uri, hub in hubs:
        _inherited[uri] = hub.abandon()


def _finish_with_multiprocessing() -> None:
    # Its processes end without `atexit`.
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, finish, exitpriority=-1000)


def _handle_sigterm() -> None:
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _end_killed)


def _end_killed(number: int, frame: FrameType | None) -> None:
    """End open runs as KILLED, and then the process as it would have ended without us."""
    signal.signal(number, signal.SIG_DFL)
    for hub in list(_hubs.values()):
        for log in hub.running():
            log.append(RunEnded("KILLED"))
    finish(min(_KILLED_SECONDS, _wait_seconds()))
    os.kill(os.getpid(), number)

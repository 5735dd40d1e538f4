"""The two threads of a store in one process: one sends values and calls of all its journals, the other their files."""

import random
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from mlflow_project.tracking.delivery.client import import_mlflow, real_stores
from mlflow_project.tracking.delivery.heartbeat import HEARTBEAT_SECONDS, heartbeat_texts
from mlflow_project.tracking.hub.reachability import Reachability
from mlflow_project.tracking.hub.run_log import RunLog
from mlflow_project.tracking.programs.live_tags import LIVE_TAGS
from mlflow_project.tracking.programs.passing import delivering

TICK_SECONDS = 1.0
"""How long values gather, and are at most lost by a power loss."""

_STOP_SECONDS = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE, _HURRIED_PAUSE = 0.25, 8.0, 0.5
_FAILURES, _LONGEST_RETRY = 3, 30.0


class Worker:
    """Uploads journals in the background until it is stopped; it never holds up the process."""

    def __init__(
        self,
        logs: Callable[[], Iterable[RunLog]],
        reachability: Reachability,
        on_progress: Callable[[RunLog], None],
        probe: Callable[[], Any],
    ) -> None:
        self.progress = threading.Condition()
        """Notified after every step and every failure."""
        self.hurried = 0
        """How many wait for the upload: pauses are short then."""
        self._logs = logs
        self._reachability = reachability
        self._on_progress = on_progress
        self._probe = probe
        self._stopping = threading.Event()
        self._wake = {lane: threading.Event() for lane in ("values", "files")}
        self._threads = [
            threading.Thread(target=self._work, args=(lane, work), name=f"durable-{lane}", daemon=True)
            for lane, work in (("values", self._send_values), ("files", self._send_files))
        ]
        for thread in self._threads:
            thread.start()

    def hurry(self) -> None:
        """Let both threads look at once."""
        for event in self._wake.values():
            event.set()

    def stop(self) -> None:
        """Let the threads end, without waiting for a request that takes long."""
        self._stopping.set()
        self.hurry()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until `done`, for so many seconds at most; return whether it is."""
        deadline = time.monotonic() + seconds
        self.hurried += 1
        try:
            notified = False
            while not done():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                if not notified:  # else this thread and the others would keep waking each other
                    self.hurry()
                with self.progress:
                    notified = done() or self.progress.wait(min(remaining, 0.2))
            return True
        finally:
            self.hurried -= 1

    def _notify(self) -> None:
        with self.progress:
            self.progress.notify_all()

    def _work(self, lane: str, send: Callable[[], bool]) -> None:
        pause, wake = _FIRST_PAUSE, self._wake[lane]
        while not self._stopping.is_set():
            wake.wait(TICK_SECONDS)
            wake.clear()
            if self._stopping.is_set():
                return
            try:
                with delivering():
                    fine = send()
            except Exception as error:  # a bug must not end the thread
                self._reachability.note_failure(error)
                fine = False
            self._notify()
            if fine:
                pause = _FIRST_PAUSE
                continue
            longest = _HURRIED_PAUSE if self.hurried else _LONGEST_PAUSE
            self._pause(min(pause, longest) * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping.is_set():
            remaining = deadline - time.monotonic()
            if remaining <= 0 or (self.hurried and remaining > _HURRIED_PAUSE):
                return
            self._stopping.wait(min(remaining, 0.1))

    def _send_values(self) -> bool:
        """Send the values of every journal; return False after a failure of the server."""
        fine = True
        for log in self._logs():
            if self._stopping.is_set():
                return True
            log.sync()
            if log.values_position < log.size or log.run_id is None:
                fine = self._try(log, log.uploader.step_values) and fine
                self._wake["files"].set()
            if fine and log.header.origin == "program" and log.record.status == "RUNNING" and log.run_id:
                fine = self._try(log, partial(self._send_heartbeat, log))
            if not fine and self._reachability.is_down:
                return False
            self._on_progress(log)
        if fine and self._reachability.is_down:
            self._probe()
            self._reachability.note_answer()
        return fine

    def _send_files(self) -> bool:
        fine = True
        for log in self._logs():
            if self._stopping.is_set():
                return True
            if log.values_position > log.position:
                fine = self._try(log, log.uploader.step_files) and fine
                if not fine and self._reachability.is_down:
                    return False
                self._on_progress(log)
                self._wake["values"].set()
        return fine

    def _try(self, log: RunLog, step: Callable[[], bool]) -> bool:
        """Make steps of one journal until there are none; return False where the server failed."""
        if time.monotonic() < log.retry_at and not self.hurried:
            return True
        if not log.acquire_sending():
            return True
        try:
            while step():
                log.problem = None
                self._reachability.note_answer()
                self._notify()
                if self._stopping.is_set():
                    return True
            log.failures = 0
        except Exception as error:
            log.problem = error
            log.failures += 1
            pause = TICK_SECONDS
            if self._reachability.concerns_server(error):
                if not self._fails_alone(log, error):
                    self._reachability.note_failure(error)
                    return False
                pause = min(2.0**log.failures, _LONGEST_RETRY)
            # Only of this journal: the others go on.
            log.retry_at = time.monotonic() + pause
        return True

    def _fails_alone(self, log: RunLog, error: Exception) -> bool:
        """Return whether a server that refuses a journal, or fails at it time and again, answers other requests."""
        if log.failures < _FAILURES or self._reachability.is_absence(error):
            return False
        try:
            self._probe()
        except Exception:
            return False
        self._reachability.note_answer()
        return True

    def _send_heartbeat(self, log: RunLog) -> bool:
        if time.monotonic() >= log.next_heartbeat:
            tag = import_mlflow().entities.RunTag
            tags = [tag(key, text) for key, text in zip(LIVE_TAGS, heartbeat_texts(), strict=True)]
            real_stores(log.uploader.session.client)[0].log_batch(log.run_id, [], [], tags)
            log.next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        return False

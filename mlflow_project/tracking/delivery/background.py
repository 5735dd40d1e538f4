"""Upload in the background while a run is alive, and afterwards by `sync` or the next command."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_project.common.errors import DestinationError
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.delivery.error_policy import describe_error, is_access_denied
from mlflow_project.tracking.delivery.heartbeat import HEARTBEAT_SECONDS, send_heartbeat
from mlflow_project.tracking.delivery.program_uploader import open_uploader
from mlflow_project.tracking.delivery.uploader import JournalUploader
from mlflow_project.tracking.journal import format, local_runs, state_dir
from mlflow_project.tracking.journal.delivery_status import DeliveryStatus
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.store_record import StoreRecord
from mlflow_project.tracking.journal.writer import Journal

if TYPE_CHECKING:
    from mlflow import MlflowClient

GATHER_SECONDS = 1.0
"""How long points gather before they are sent as one batch."""

STALLED_SECONDS = 10.0
"""How long `wait` goes on when nothing arrives."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
_denying: set[str] = set()
"""Stores that refused this user, which is reported once in the life of this process."""


class BackgroundUploader:
    """A thread that uploads a journal as it grows. It never holds up the process, also not at its end."""

    def __init__(
        self,
        journal: Journal,
        connect: Callable[[str], "MlflowClient"] = open_client,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.journal = journal
        self._uploader = JournalUploader(journal.folder, connect, may_create_store=True)
        self._session = self._uploader.session
        self._heartbeat_seconds = heartbeat_seconds
        self._next_heartbeat = 0.0
        self._problem: str | None = None
        self._denied = False
        self._announce: Callable[[str], None] | None = None
        self._is_named = False
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._progress = threading.Condition()
        self._lock = FileLock(journal.folder / format.SENDING_LOCK)
        self._thread = threading.Thread(target=self._work, name="journal-sender", daemon=True)

    def start(self) -> "BackgroundUploader":
        self._thread.start()
        return self

    @property
    def problem(self) -> str | None:
        """Return why the last attempt failed, or None."""
        return self._problem

    def when_named(self, announce: Callable[[str], None]) -> None:
        """Call `announce` once with the run's id in MLflow, as soon as the server has answered; maybe in the thread."""
        with self._progress:
            if not self._is_named:
                self._announce = announce
                return
        assert self.journal.run_id is not None
        announce(self.journal.run_id)

    def wait(self, seconds: float, should_stop: Callable[[], bool] = lambda: False) -> DeliveryStatus:
        """Wait until everything appended so far has arrived.

        It also ends after `STALLED_SECONDS` in which every attempt failed: waiting for an unreachable server is in
        vain.

        Args:
            seconds: How long at most.
            should_stop: Ends the wait once it returns True.
        """
        goal, progress, since = self.journal.size, -1, time.monotonic()

        def done() -> bool:
            nonlocal progress, since
            if self._problem is None or progress != self._session.progress:
                progress, since = self._session.progress, time.monotonic()
            stalled = time.monotonic() - since > STALLED_SECONDS
            return stalled or should_stop() or self._session.cursor.position >= goal

        self._hurry.set()
        self.journal.changed.set()
        self._wait(seconds, done)
        self._hurry.clear()
        return self.delivery()

    def delivery(self) -> DeliveryStatus:
        """Return how much has arrived."""
        cursor = self._session.cursor
        pending = 0 if cursor.position >= self.journal.size else max(1, self.journal.count - cursor.delivered)
        problem = (self._problem or "not all of it has been sent yet") if pending else None
        return replace(DeliveryStatus.of(cursor, pending, problem), denied=self._denied)

    def stop(self) -> None:
        """Ask the thread to end, without waiting for a request that it may be in."""
        self._stopping.set()
        self._hurry.set()
        self.journal.changed.set()

    def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        with self._progress:
            while not done() and self._thread.is_alive():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return
                self._progress.wait(min(remaining, 0.5))

    def _work(self) -> None:
        pause, progress = _FIRST_PAUSE, 0
        if not self._lock.acquire(wait=True):
            return
        try:
            while not self._stopping.is_set():
                try:
                    busy = self._once()
                    self._problem, pause = None, _FIRST_PAUSE
                except Exception as error:
                    self._problem, busy = describe_error(error, self.journal.header.tracking_uri), False
                    self._denied = is_access_denied(error)
                    if self._denied and self.journal.header.tracking_uri not in _denying:
                        _denying.add(self.journal.header.tracking_uri)
                        self.journal.warn(f"nothing is uploaded: {self._problem}")
                    if progress != self._session.progress:
                        pause, progress = _FIRST_PAUSE, self._session.progress
                    self._pause(pause * random.uniform(0.5, 1))
                    pause = min(2 * pause, _LONGEST_PAUSE)
                with self._progress:
                    self._progress.notify_all()
                if not busy and self._problem is None:
                    self.journal.changed.wait(self._heartbeat_seconds / 3)
                    self.journal.changed.clear()
                    self._hurry.wait(GATHER_SECONDS)
        finally:
            self._lock.release()

    def _pause(self, seconds: float) -> None:
        """Pause before the next attempt; briefly while `wait` is called."""
        if self._hurry.wait(seconds) and not self._stopping.is_set():
            self._stopping.wait(min(seconds, 0.5))

    def _once(self) -> bool:
        run_id = self.journal.run_id = self._session.open_run()
        with self._progress:
            self._is_named = True
            announce, self._announce = self._announce, None
        if announce is not None:
            announce(run_id)
        if self.journal.ended is None and time.monotonic() >= self._next_heartbeat:
            send_heartbeat(self._session)
            self._next_heartbeat = time.monotonic() + self._heartbeat_seconds
        return self._uploader.step()


def deliver(folder: Path, seconds: float | None = None, attempts: int = 1) -> DeliveryStatus:
    """Upload what a run's folder holds, now, in this thread; a run that is alive uploads itself.

    An unreachable server doesn't raise: it is the `problem` of the result.

    Args:
        folder: The run's folder.
        seconds: About how long at most.
        attempts: Give up after so many failures in a row.

    Raises:
        JournalError: The journal can't be read.
    """
    lock = FileLock(folder / format.SENDING_LOCK)
    deadline = None if seconds is None else time.monotonic() + seconds
    uploader = open_uploader(folder)
    session = uploader.session
    problem: str | None = None
    blocked = False
    if not lock.acquire():
        problem = "another process is uploading it"
    else:
        try:
            try:
                problem = _deliver_all(uploader, deadline, attempts)
            except DestinationError as error:
                problem, blocked = str(error), True
            # A run that is alive removes its files itself, once nothing can be added any more.
            owned = FileLock(folder / format.LOCK)
            if owned.acquire():
                local_runs.prune_spool(folder)
                owned.release()
        finally:
            lock.release()
    pending = local_runs.local_run(folder).pending
    status = DeliveryStatus.of(session.cursor, pending, problem if pending else None)
    return replace(status, blocked=blocked and pending > 0)


def _deliver_all(uploader: JournalUploader, deadline: float | None, attempts: int) -> str | None:
    """Return why not all of it was uploaded, or None; DestinationError where a person must decide first."""
    session = uploader.session
    failed, pause, progress = 0, _FIRST_PAUSE, 0
    while True:
        try:
            if not uploader.step():
                return None
        except DestinationError:
            raise
        except Exception as error:
            if progress != session.progress:
                failed, pause, progress = 0, _FIRST_PAUSE, session.progress
            failed += 1
            if failed >= attempts:
                return describe_error(error, session.header.tracking_uri)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if deadline is not None and time.monotonic() > deadline:
            return "there was no time for all of it"


_tried: set[Path] = set()


def upload_pending_runs(seconds: float = 60.0) -> threading.Thread | None:
    """Try in the background to upload what earlier runs have left, once in the life of this process.

    Nothing waits for it: what isn't uploaded when the process ends is left to the next one.
    """
    base = state_dir.runs_folder()
    if base in _tried:
        return None
    _tried.add(base)

    def work() -> None:
        deadline = time.monotonic() + seconds
        unreachable: set[str] = set()
        for run in local_runs.undelivered(base):
            remaining = deadline - time.monotonic()
            if remaining <= 0 or run.header.tracking_uri in unreachable:
                continue
            problem = deliver(run.folder, remaining).problem
            if problem and not StoreRecord.load(run.folder).problem:
                unreachable.add(run.header.tracking_uri)

    thread = threading.Thread(target=work, name="journal-leftovers", daemon=True)
    thread.start()
    return thread

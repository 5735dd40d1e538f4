"""An MLflow run that is being written: its journal, and the thread that delivers it."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mlflow_project.connection import tracking_uri
from mlflow_project.errors import Interrupted, JournalError
from mlflow_project.journal import Journal
from mlflow_project.sender import Delivery, Sender, deliver_leftovers
from mlflow_project.values import RunEnd, Tag, Value

if TYPE_CHECKING:
    from mlflow_project.progress import Watcher

DELIVERY_SECONDS = 60.0  # how long the end of a run waits for the tracking server
KILLED_DELIVERY_SECONDS = 5.0  # who sends SIGTERM sends SIGKILL soon after; `sync` delivers the rest
_WORDS = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "interrupted"}


class OpenRun:
    """As a context, it ends the run however the work in it ends: FINISHED, FAILED, or KILLED by a signal.

    FAILED also where there is a `problem`.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.problem: str | None = None
        self.delivery: Delivery | None = None
        """What has arrived, once the run is closed."""
        self._sender = Sender(journal)
        self._sender.start()
        deliver_leftovers()

    @classmethod
    def begin(
        cls, name: str, experiment: str, watcher: "Watcher", run_id: str | None, *opening: Value
    ) -> Self:
        """A new run, or the one of `run_id`, which `mlflow run` has made, under this name."""
        journal = Journal.create(tracking_uri(), experiment, name, run_id, on_problem=watcher.warning)
        run = cls(journal)
        run.say(Tag("mlflow.runName", name), Tag("status", "started"), *opening)
        return run

    @property
    def folder(self) -> Path:
        """Where the journal lies, and what else belongs to the run."""
        return self.journal.folder

    @property
    def name(self) -> str:
        """By which a person names the run: MLflow's id, or the provisional one while no server has given it."""
        return self.journal.run_id or self.journal.header.key

    @property
    def delivered(self) -> bool:
        """Whether MLflow has all that was said so far."""
        return self._sender.delivery().pending == 0

    def wait_for_id(self, seconds: float) -> str | None:
        """The run's id in MLflow, if the server gives it within that time."""
        return self._sender.wait_for_run(seconds)

    def say(self, *values: Value) -> None:
        """Appends to the journal; the files of values may go once this returns."""
        self.journal.append(*values)

    def end(self, status: str, reason: str = "") -> None:
        """Says that the run is FINISHED, FAILED or KILLED, and why.

        FINISHED only once all that was said is on disk; JournalError where the disk doesn't take it.
        """
        if status == "FINISHED":
            self.require_kept()
        reasons = [Tag("reason", reason)] if reason else []
        self.say(Tag("status", _WORDS[status]), *reasons, RunEnd(status))
        self.journal.sync()

    def require_kept(self) -> None:
        """JournalError, with the next step, unless all that was said is on disk."""
        try:
            self.journal.settle()
        except JournalError as error:
            raise JournalError(f"{error}, and {self._again}") from error

    @property
    def _again(self) -> str:
        """What to do about a run that couldn't be kept."""
        return "do it again"

    def close(
        self, seconds: float = DELIVERY_SECONDS, enough: Callable[[], bool] = lambda: False
    ) -> Delivery:
        """Waits a bounded time for the delivery, or until it is `enough`, and gives the run free."""
        self.delivery = self._sender.wait(seconds, enough)
        self._sender.stop()
        self.journal.close()
        return self.delivery

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        killed = isinstance(error, Interrupted | KeyboardInterrupt)
        unkept: JournalError | None = None
        if error is None and self.problem is None:
            try:
                self.end("FINISHED")
            except JournalError as found:
                error = unkept = found
        if error is not None or self.problem is not None:
            reason = self.problem if error is None else str(error) or type(error).__name__
            self.end("KILLED" if killed else "FAILED", reason or "")
        self.close(KILLED_DELIVERY_SECONDS if killed else DELIVERY_SECONDS)
        if unkept is not None:
            raise unkept

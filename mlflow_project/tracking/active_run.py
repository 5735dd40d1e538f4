"""An MLflow run that is being written: its journal, and the thread that delivers it."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from mlflow_project.common.errors import Interrupted, JournalError
from mlflow_project.common.names import NAME_TAG, REASON_TAG, STATUS_TAG
from mlflow_project.common.run_state import RunState
from mlflow_project.tracking.delivery.background import BackgroundUploader, upload_pending_runs
from mlflow_project.tracking.delivery.status import DeliveryStatus
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.entities import Entity, Param, RunEnded, Tag
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.new_run import create_journal

DELIVERY_SECONDS = 60.0  # how long the end of a run waits for the tracking server
KILLED_DELIVERY_SECONDS = 5.0  # who sends SIGTERM sends SIGKILL soon after; `sync` delivers the rest


class ActiveRun:
    """As a context, it ends the run however the work in it ends: FINISHED, FAILED, or KILLED by a signal.

    FAILED also where there is a `problem`.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.problem: str | None = None
        self.delivery: DeliveryStatus | None = None
        """What has arrived, once the run is closed."""
        self._sender = BackgroundUploader(journal)
        self._sender.start()

    @classmethod
    def begin(
        cls,
        name: str,
        on_problem: Callable[[str], None],
        run_id: str | None,
        *opening: Entity,
        key: str | None = None,
        experiment_description: str = "",
    ) -> Self:
        """Begin a new run, or the one of `run_id`, which `mlflow run` has made, under this name.

        See `create_journal`.
        """
        journal = create_journal(
            name,
            run_id,
            parameters={value.key: value.value for value in opening if isinstance(value, Param)},
            key=key,
            experiment_description=experiment_description,
            on_problem=on_problem,
        )
        upload_pending_runs()
        run = cls(journal)
        run.log(Tag(NAME_TAG, name), Tag(STATUS_TAG, RunState.STARTED), *opening)
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

    def when_named(self, announce: Callable[[str], None]) -> None:
        """Call `announce` once with the run's id in MLflow, as soon as the server has given it."""
        self._sender.when_named(announce)

    def log(self, *values: Entity) -> None:
        """Appends to the journal; the files of values may go once this returns."""
        self.journal.append(*values)

    def end(self, status: str, reason: str = "") -> None:
        """Says that the run is FINISHED, FAILED or KILLED, and why.

        FINISHED only once all that was said is on disk; JournalError where the disk doesn't take it.
        """
        if status == "FINISHED":
            self.ensure_durable()
        reasons = [Tag(REASON_TAG, reason)] if reason else []
        self.log(Tag(STATUS_TAG, RunState.of_mlflow(status)), *reasons, RunEnded(status))
        self.journal.sync()

    def ensure_durable(self) -> None:
        """JournalError, with the next step, unless all that was said is on disk."""
        try:
            self.journal.settle()
        except JournalError as error:
            local_runs.mark_unkept(self.folder)
            raise JournalError(f"{error}, and {self._again}") from error

    @property
    def _again(self) -> str:
        """What to do about a run that couldn't be kept."""
        return "do it again"

    def close(
        self, seconds: float = DELIVERY_SECONDS, enough: Callable[[], bool] = lambda: False
    ) -> DeliveryStatus:
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
        if error is not None:
            self.problem = str(error) or type(error).__name__
        self._log_results()
        if self.problem is None:
            try:
                self.end("FINISHED")
            except JournalError as caught:
                unkept, self.problem = caught, str(caught)
        if self.problem is not None:
            self.end("KILLED" if killed else "FAILED", self.problem)
        self.close(self._delivery_seconds(killed))
        if unkept is not None:
            raise unkept

    def _log_results(self) -> None:
        """Log what is known only when the work is done; for those that have more to log than their callers do."""

    def _delivery_seconds(self, killed: bool) -> float:
        """Return how long the end of the run waits for the tracking server."""
        return KILLED_DELIVERY_SECONDS if killed else DELIVERY_SECONDS

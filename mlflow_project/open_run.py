"""An MLflow run that is being written: its journal, and the thread that delivers it."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mlflow_project.connection import tracking_uri
from mlflow_project.errors import Interrupted
from mlflow_project.journal import Journal
from mlflow_project.sender import Delivery, Sender
from mlflow_project.values import RunEnd, Tag, Value

if TYPE_CHECKING:
    from mlflow_project.console import Watcher

DELIVERY_SECONDS = 60.0  # how long the end of a run waits for the tracking server
KILLED_DELIVERY_SECONDS = 5.0  # who sends SIGTERM sends SIGKILL soon after; `sync` delivers the rest


class OpenRun:
    """As a context, it ends the run however the work in it ends: FINISHED, FAILED, or KILLED by a signal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.delivery: Delivery | None = None
        """What has arrived, once the run has ended."""
        self._sender = Sender(journal)
        self._sender.start()

    @classmethod
    def start(
        cls,
        name: str,
        experiment: str,
        watcher: "Watcher",
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Self:
        """A new run, or the one of `run_id`, which `mlflow run` has made, under this name."""
        journal = Journal.create(
            tracking_uri(), experiment, name, run_id, dict(tags or {}), on_problem=watcher.warning
        )
        run = cls(journal)
        said = {"mlflow.runName": name, "status": "started", **(tags or {})}
        run.say(*(Tag(key, value) for key, value in said.items()))
        return run

    def say(self, *values: Value) -> None:
        """Appends to the journal; the files of values may go once this returns."""
        self.journal.append(*values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Once the end is delivered, the kept files may go, and can't be synced any more.
        self.journal.sync()
        killed = isinstance(error, Interrupted | KeyboardInterrupt)
        if error is None:
            self.say(Tag("status", "completed"), RunEnd("FINISHED"))
        else:
            word, status = ("interrupted", "KILLED") if killed else ("failed", "FAILED")
            self.say(Tag("status", word), Tag("reason", str(error) or type(error).__name__), RunEnd(status))
        self.journal.sync()
        self.delivery = self._sender.wait(KILLED_DELIVERY_SECONDS if killed else DELIVERY_SECONDS)
        self._sender.stop()
        self.journal.close()

"""The run above a sweep's runs: what the grid is, what became of each cell, and how much was saved."""

import csv
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mlflow_project import earlier, journal_file, state
from mlflow_project.connection import tracking_uri
from mlflow_project.delivery import JOURNAL_REFERENCE
from mlflow_project.descriptions import NOTE_TAG
from mlflow_project.earlier import ELSEWHERE
from mlflow_project.errors import Interrupted, JournalError, RunBusyError
from mlflow_project.journal import Journal
from mlflow_project.open_run import DELIVERY_SECONDS, KILLED_DELIVERY_SECONDS
from mlflow_project.runs import PARENT_TAG, SWEEP_TABLE, SWEEP_TAG, adopter, experiment_name
from mlflow_project.sender import Delivery, Sender
from mlflow_project.state import FileLock
from mlflow_project.sweep import AXES, Plan
from mlflow_project.task import FAILED, NOT_DONE, REUSED, Result
from mlflow_project.values import Artifact, Metric, RunEnd, RunStart, Tag, Value

if TYPE_CHECKING:
    from mlflow_project.progress import Watcher

WORDS = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "interrupted"}
SHOWN = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "train_seconds", "test_seconds")


class Parent:
    """The parent run while its sweep is at work. A grid that was interrupted goes on in the run that it had.

    As a context, it ends the run however the work in it ends: FINISHED, FAILED (also where there is a `problem`),
    or KILLED by a signal; then it waits a bounded time for the delivery. JournalError at its end, unless all that was
    said of the sweep is on disk.
    """

    def __init__(self, plan: Plan, name: str, watcher: "Watcher") -> None:
        self.plan = plan
        self.results: dict[str, Result] = {}
        """By the SHA-256 of the configuration: what became of the cells so far."""
        self.problem: str | None = None
        self.delivery: Delivery | None = None
        """What has arrived, once the run has ended."""
        self._started = time.monotonic()
        lock_folder = state.home() / "sweeps"
        lock_folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(lock_folder / f"{plan.sha256}.lock")
        if not self._lock.acquire():
            raise RunBusyError(
                f"another process is at work on this sweep ({name}); wait for it or end it first"
            )
        given = os.environ.get("MLFLOW_RUN_ID")
        folder = _interrupted(plan)
        self._times = 0
        if folder is None:
            self.journal = Journal.create(
                tracking_uri(),
                experiment_name(),
                f"sweep {name}",
                given,
                {SWEEP_TAG: plan.sha256},
                on_problem=watcher.warning,
            )
        else:
            self.journal = Journal.open(folder, on_problem=watcher.warning)
            self._times = 1 + _times(folder)
            journal_file.replace(folder / "resumed", str(self._times).encode(), durable=True)
            self.journal.append(RunStart(), Tag("resumed", str(self._times)))
        self._other = None
        if given and given != self.journal.run_id:
            self._other = adopter(given, self.journal.header, watcher)
            self.journal.append(Tag("resumed_by", given))
        self.journal.append(
            Tag("mlflow.runName", f"sweep {name}"),
            Tag("status", "started"),
            Tag("cells", str(len(plan.cells))),
            Tag(NOTE_TAG, _note(plan, name)),
        )
        self.journal.sync()
        self._sender = Sender(self.journal)
        self._sender.start()

    @property
    def resumed(self) -> bool:
        """Whether this is the run of an earlier, interrupted attempt."""
        return self._times > 0

    @property
    def tags(self) -> dict[str, str]:
        """Of every run below this one. The journal stands for the run, which may have no id yet."""
        return {PARENT_TAG: JOURNAL_REFERENCE + self.journal.header.key}

    def wait_for_id(self, seconds: float) -> str | None:
        """The run's id in MLflow, if the server gives it within that time."""
        return self._sender.wait_for_run(seconds)

    def say(self, *values: Value) -> None:
        """Appends to the journal; the files of values may go once this returns."""
        self.journal.append(*values)

    def attach(self, path: str, content: str) -> None:
        """Adds a text as an artifact."""
        with tempfile.TemporaryDirectory(dir=self.journal.folder) as scratch:
            file = Path(scratch) / "artifact"
            file.write_text(content, encoding="utf-8")
            self.say(Artifact(path, file))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        killed = isinstance(error, Interrupted | KeyboardInterrupt)
        if error is not None:
            self.problem = str(error) or type(error).__name__
        self._say_results()
        unkept: JournalError | None = None
        if not self.problem:
            try:
                self.journal.settle()
            except JournalError as found:
                unkept = JournalError(f"{found}, and start the same sweep again")
                self.problem = str(unkept)
        status = "KILLED" if killed else "FAILED" if self.problem else "FINISHED"
        self.say(Tag("status", WORDS[status]), Tag("reason", self.problem or ""), RunEnd(status))
        self.journal.sync()
        # A server that hasn't taken the cells won't take their parent either.
        undelivered = any(result.undelivered for result in self.results.values())
        self.delivery = self._sender.wait(
            KILLED_DELIVERY_SECONDS if killed or undelivered else DELIVERY_SECONDS
        )
        self._sender.stop()
        self.journal.close()
        self._lock.release()
        if self._other is not None:
            if error is None:
                self._other.problem = self.problem
            self._other.__exit__(kind, error, trace)
        if unkept is not None:
            raise unkept

    def _say_results(self) -> None:
        results = self.results.values()
        done = [result for result in results if result.how not in (FAILED, NOT_DONE, ELSEWHERE)]
        figures = {
            "cells_completed": len(done),
            "cells_reused": sum(result.how == REUSED for result in done),
            "cells_failed": sum(result.how == FAILED for result in results),
            "epochs_planned": self.plan.epochs,
            "epochs_if_trained_alone": self.plan.epochs_alone,
            "sweep_seconds": time.monotonic() - self._started,
        }
        self.say(*(Metric(key, value, self._times) for key, value in figures.items()))
        with tempfile.TemporaryDirectory(dir=self.journal.folder) as scratch:
            path = Path(scratch) / "sweep.csv"
            _write(path, summary(self.plan, self.results))
            self.say(Artifact(SWEEP_TABLE, path))


def summary(plan: Plan, results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """One row a cell, in the grid's order."""
    table = []
    for cell in plan.cells:
        result = results.get(cell.sha256) or Result(sha256=cell.sha256, how=NOT_DONE)
        row: dict[str, Any] = {"run": cell.config.name}
        row |= {axis: getattr(cell.config, axis) for axis in AXES}
        row |= {"state": result.how, "run_id": result.run_id or (result.folder and result.folder.name)}
        row |= {name: result.metrics.get(name) for name in SHOWN}
        row |= {"shares_training_with": result.shares, "reason": result.reason}
        table.append(row)
    return table


def _interrupted(plan: Plan) -> Path | None:
    """The folder of this grid's parent run that has not finished."""
    for local in reversed(list(plan.local)):
        if local.tags.get(SWEEP_TAG) == plan.sha256 and local.folder.name not in plan.ignored:
            try:
                if state.local_run(local.folder).state != "finished":
                    return local.folder
            except (JournalError, OSError):
                continue
            return None
    return None


def _times(folder: Path) -> int:
    try:
        return int((folder / "resumed").read_text())
    except (OSError, ValueError):
        return 0


def _note(plan: Plan, name: str) -> str:
    reused = [cell for cell in plan.cells if cell.state == earlier.COMPLETED]
    lines = [
        f"A grid of {len(plan.cells)} cells: {name}.",
        "",
        f"{plan.epochs} epochs in {len(plan.stages)} trainings; one by one they would be {plan.epochs_alone}. "
        f"The table of all cells is in `{SWEEP_TABLE}`.",
    ]
    if reused:
        lines += ["", "Done earlier and used again:", ""]
        lines += [f"- {cell.config.name}: run {cell.found and cell.found.run_id}" for cell in reused]
    return "\n".join(lines)


def _write(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    columns: Iterable[str] = table[0].keys()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)

"""The run above a sweep's runs: what the grid is, what became of each cell, and how much was saved."""

import csv
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project import earlier, state
from mlflow_project.connection import tracking_uri
from mlflow_project.delivery import JOURNAL_REFERENCE
from mlflow_project.earlier import ELSEWHERE
from mlflow_project.errors import JournalError, RunBusyError
from mlflow_project.journal import Journal
from mlflow_project.runs import DELIVERY_SECONDS, experiment_name
from mlflow_project.sender import Delivery, Sender
from mlflow_project.stage import FAILED, NOT_DONE, REUSED, Result
from mlflow_project.state import FileLock
from mlflow_project.sweep import AXES, Plan
from mlflow_project.values import Artifact, Metric, RunEnd, RunStart, Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlflow_project.console import Watcher

PARENT_TAG = "mlflow.parentRunId"
SWEEP_TAG = "sweep_sha256"
NOTE_TAG = "mlflow.note.content"
TABLE = "tables/sweep.csv"
EXPERIMENT_NOTE = (
    "Runs of mlflow-project: each is one configuration, trained and tested. Runs of a sweep stand below its own. "
    "Compare runs whose tag `dataset_sha256` is the same; their `test_accuracy` has a 95 % interval from "
    "`test_accuracy_low` to `test_accuracy_high`."
)
SHOWN = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "train_seconds", "test_seconds")


class Parent:
    """The parent run while its sweep is at work. A grid that was interrupted goes on in the run that it had."""

    def __init__(self, plan: Plan, name: str, watcher: "Watcher") -> None:
        self.plan = plan
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
            (folder / "resumed").write_text(str(self._times))
            self.journal.append(RunStart(), Tag("resumed", str(self._times)))
        self.adopted = given if given and given != self.journal.run_id else None
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

    def end(self, status: str, reason: str, results: Mapping[str, Result], seconds: float) -> None:
        """Says what became of each cell: FINISHED, FAILED or KILLED."""
        table = summary(self.plan, results)
        done = [result for result in results.values() if result.how not in (FAILED, NOT_DONE, ELSEWHERE)]
        figures = {
            "cells_completed": len(done),
            "cells_reused": sum(result.how == REUSED for result in done),
            "cells_failed": sum(result.how == FAILED for result in results.values()),
            "epochs_planned": self.plan.epochs,
            "epochs_if_trained_alone": self.plan.epochs_alone,
            "sweep_seconds": seconds,
        }
        self.journal.append(*(Metric(key, value, self._times) for key, value in figures.items()))
        with tempfile.TemporaryDirectory(dir=self.journal.folder) as scratch:
            path = Path(scratch) / "sweep.csv"
            _write(path, table)
            self.journal.append(Artifact(TABLE, path))
        word = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "interrupted"}[status]
        self.journal.append(Tag("status", word), Tag("reason", reason), RunEnd(status))
        self.journal.sync()

    def attach(self, path: str, file: Path) -> None:
        """Adds an artifact."""
        self.journal.append(Artifact(path, file))

    def close(self, seconds: float = DELIVERY_SECONDS) -> Delivery:
        """Waits a bounded time for the delivery, and gives the run free."""
        delivery = self._sender.wait(seconds)
        self._sender.stop()
        self.journal.close()
        self._lock.release()
        return delivery


def summary(plan: Plan, results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """One row a cell, in the grid's order."""
    table = []
    for cell in plan.cells:
        result = results.get(cell.sha256) or Result(cell.sha256, NOT_DONE)
        row: dict[str, Any] = {"run": cell.config.name}
        row |= {axis: getattr(cell.config, axis) for axis in AXES}
        row |= {"state": result.how, "run_id": result.run_id or (result.folder and result.folder.name)}
        row |= {name: result.metrics.get(name) for name in SHOWN}
        row |= {"shares_training_with": result.shares, "reason": result.reason}
        table.append(row)
    return table


def describe_experiment(client: "MlflowClient") -> None:
    """Says on the experiment what it is, where nobody has said so before. Best effort: it is decoration."""
    try:
        experiment = client.get_experiment_by_name(experiment_name())
        if experiment is not None and NOTE_TAG not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, NOTE_TAG, EXPERIMENT_NOTE)
    except Exception:
        pass


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
        f"The table of all cells is in `{TABLE}`.",
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

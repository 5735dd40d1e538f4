"""The run above a sweep's runs: the grid, the result of each trial, and how much was saved."""

import csv
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.common.formatting import plural
from mlflow_project.common.names import NAME_TAG, NOTE_TAG, STATUS_TAG, SWEEP_TABLE, SWEEP_TAG
from mlflow_project.common.run_state import RunState
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.existing_runs import ELSEWHERE
from mlflow_project.sweeps.group_run import GroupRun, find_interrupted
from mlflow_project.sweeps.job_spec import FAILED, NOT_DONE, REUSED, TrialResult
from mlflow_project.sweeps.plan import AXES, SweepPlan
from mlflow_project.tracking.journal.entities import Artifact, Metric, Tag
from mlflow_project.tracking.journal.format import Cursor
from mlflow_project.training import model_card

if TYPE_CHECKING:
    from mlflow_project.training.progress import ProgressListener

COMPARED = 20
"""Models of a sweep in one comparison: MLflow's page gives each a column."""
SHOWN = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "train_seconds", "test_seconds")


class ParentRun(GroupRun):
    """The parent run of a sweep. A sweep that was interrupted is resumed in the run that it had.

    Raises:
        RunBusyError: Another process runs the same sweep.
    """

    def __init__(self, plan: SweepPlan, name: str, listener: "ProgressListener") -> None:
        self.plan = plan
        self._name = name
        identity = SWEEP_TAG, plan.sha256
        interrupted = find_interrupted(plan.local, identity, plan.ignored)
        super().__init__("sweep", name, identity, plan.table, interrupted, listener)
        self.log(
            Tag(NAME_TAG, f"sweep {name}"),
            Tag(STATUS_TAG, RunState.STARTED),
            Tag("cells", str(len(plan.trials))),
            Tag(NOTE_TAG, _note(plan, name)),
        )
        self.journal.sync()

    def _log_results(self) -> None:
        results = self.results.values()
        done = [result for result in results if result.state not in (FAILED, NOT_DONE, ELSEWHERE)]
        metrics = {
            "cells_completed": len(done),
            "cells_reused": sum(result.state == REUSED for result in done),
            "cells_failed": sum(result.state == FAILED for result in results),
            "epochs_planned": self.plan.epochs,
            "epochs_if_trained_alone": self.plan.epochs_alone,
            "sweep_seconds": time.monotonic() - self._started,
        }
        self.log(*(Metric(key, value, self._times) for key, value in metrics.items()))
        with tempfile.TemporaryDirectory(dir=self.journal.folder) as scratch:
            path = Path(scratch) / "sweep.csv"
            _write(path, summary(self.plan, self.results))
            self.log(Artifact(SWEEP_TABLE, path))
        experiment_id = Cursor.load(self.journal.folder).experiment_id
        if experiment_id is not None:  # without it no page has an address
            links = model_card.view_links(experiment_id, self.plan.table, best_runs(self.results))
            self.log(Tag(NOTE_TAG, f"{links}\n\n{_note(self.plan, self._name)}"))


def summary(plan: SweepPlan, results: Mapping[str, TrialResult]) -> list[dict[str, Any]]:
    """Return one row for each trial, in the grid's order."""
    table = []
    for trial in plan.trials:
        result = results.get(trial.sha256) or TrialResult(sha256=trial.sha256, state=NOT_DONE)
        row: dict[str, Any] = {"run": trial.config.name}
        row |= {axis: getattr(trial.config, axis) for axis in AXES}
        row |= {"state": result.state, "run_id": result.run_id or (result.folder and result.folder.name)}
        row |= {name: result.metrics.get(name) for name in SHOWN}
        row |= {"shares_training_with": result.shared_with, "reason": result.reason}
        table.append(row)
    return table


def best_runs(results: Mapping[str, TrialResult]) -> list[str]:
    """Return the ids of the runs that can be compared at a glance, the most accurate first."""
    tested = [result for result in results.values() if result.run_id and "test_accuracy" in result.metrics]
    tested.sort(key=lambda result: -result.metrics["test_accuracy"])
    return [str(result.run_id) for result in tested[:COMPARED]]


def _note(plan: SweepPlan, name: str) -> str:
    reused = [trial for trial in plan.trials if trial.state == existing_runs.COMPLETED]
    lines = [
        f"A grid of {plural(len(plan.trials), 'trial')}: {name}.",
        "",
        f"{plural(plan.epochs, 'epoch')} in {plural(len(plan.jobs), 'job')}; "
        f"without sharing there would be {plan.epochs_alone}. "
        f"The table of all trials is in `{SWEEP_TABLE}`.",
    ]
    if reused:
        lines += ["", "Reused from earlier work:", ""]
        lines += [
            f"- {trial.config.name}: run {trial.existing and trial.existing.run_id}" for trial in reused
        ]
    return "\n".join(lines)


def _write(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    columns: Iterable[str] = table[0].keys()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)

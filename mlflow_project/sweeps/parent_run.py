"""The run above a sweep's runs: the grid, the result of each trial, and how much was saved."""

import csv
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hw2.common.formatting import plural
from mlflow_project.common.errors import DestinationError, RunBusyError
from mlflow_project.common.names import (
    JOURNAL_REFERENCE,
    NAME_TAG,
    NOTE_TAG,
    PARENT_TAG,
    RESUMED_TAG,
    STATUS_TAG,
    SWEEP_TABLE,
    SWEEP_TAG,
)
from mlflow_project.common.run_state import RunState
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.existing_runs import ELSEWHERE
from mlflow_project.sweeps.job_spec import FAILED, NOT_DONE, REUSED, TrialResult
from mlflow_project.sweeps.plan import AXES, SweepPlan
from mlflow_project.tracking.active_run import DELIVERY_SECONDS, KILLED_DELIVERY_SECONDS, ActiveRun
from mlflow_project.tracking.delivery.session import require_destination
from mlflow_project.tracking.experiment import require_active_experiment
from mlflow_project.tracking.journal import local_runs, state_dir
from mlflow_project.tracking.journal.entities import Artifact, Metric, RunResumed, Tag
from mlflow_project.tracking.journal.format import Cursor
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.new_run import claim_given_run, create_journal, note_claimed
from mlflow_project.training import model_card
from mlflow_project.training.tracked_run import redirect_run

if TYPE_CHECKING:
    from mlflow_project.training.progress import ProgressListener

COMPARED = 20
"""Models of a sweep in one comparison: MLflow's page gives each a column."""
SHOWN = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "train_seconds", "test_seconds")


class ParentRun(ActiveRun):
    """The parent run of a sweep. A sweep that was interrupted is resumed in the run that it had.

    Raises:
        RunBusyError: Another process runs the same sweep.
    """

    def __init__(self, plan: SweepPlan, name: str, listener: "ProgressListener") -> None:
        self.plan = plan
        self.results: dict[str, TrialResult] = {}
        """The results of the trials so far, by the SHA-256 of the configuration."""
        self._name = name
        self._started = time.monotonic()
        lock_folder = state_dir.state_dir() / "sweeps"
        self._lock = FileLock(lock_folder / f"{plan.sha256}.lock")
        with state_dir.writing(lock_folder):
            lock_folder.mkdir(parents=True, exist_ok=True)
            acquired = self._lock.acquire()
        if not acquired:
            raise RunBusyError(
                f"another process is running this sweep ({name}); wait for it or stop it first"
            )
        self._times = 0
        self._other: ActiveRun | None = None
        try:
            journal = self._open_journal(name, listener)
        except BaseException:
            self._lock.release()
            raise
        journal.append(
            Tag(NAME_TAG, f"sweep {name}"),
            Tag(STATUS_TAG, RunState.STARTED),
            Tag("cells", str(len(plan.trials))),
            Tag(NOTE_TAG, _note(plan, name)),
        )
        journal.sync()
        super().__init__(journal)

    def _open_journal(self, name: str, listener: "ProgressListener") -> Journal:
        given_id = os.environ.get("MLFLOW_RUN_ID")
        folder = _interrupted(self.plan)
        if folder is None:
            if given_id is None:
                require_active_experiment()
            return create_journal(
                f"sweep {name}",
                given_id,
                parameters={},
                tags={SWEEP_TAG: self.plan.sha256},
                experiment_tags=model_card.experiment_tags(self.plan.table),
                on_problem=listener.warning,
            )
        own = given_id == local_runs.local_run(folder).run_id
        if given_id and own:
            note_claimed(given_id)
        key = claim_given_run(given_id) if given_id and not own else ""
        journal = Journal.open(folder, on_problem=listener.warning)
        self._times = local_runs.count_resume(folder)
        journal.append(RunResumed(), Tag(RESUMED_TAG, str(self._times)))
        if given_id and not own:
            self._other = redirect_run(given_id, key, journal.header, listener)
            journal.append(Tag("resumed_by", given_id))
        return journal

    @property
    def resumed(self) -> bool:
        """Return whether this is the run of an earlier, interrupted attempt."""
        return self._times > 0

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of every run below this one. The journal stands for the run, which may have no id yet."""
        return {PARENT_TAG: JOURNAL_REFERENCE + self.journal.header.key}

    def attach(self, path: str, content: str | bytes) -> None:
        """Log a text, or the bytes of a file, as an artifact."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            file = Path(scratch) / "artifact"
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            self.log(Artifact(path, file))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._lock.release()
            if self._other is not None:
                if error is None:
                    self._other.problem = self.problem
                self._other.__exit__(kind, error, trace)

    @property
    def _again(self) -> str:
        return "start the same sweep again"

    def _delivery_seconds(self, killed: bool) -> float:
        # A server that hasn't taken the trials won't take their parent either.
        undelivered = any(result.undelivered for result in self.results.values())
        return KILLED_DELIVERY_SECONDS if killed or undelivered else DELIVERY_SECONDS

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


def _interrupted(plan: SweepPlan) -> Path | None:
    """Return the folder of this grid's parent run that has not finished."""
    for local in reversed(list(plan.local)):
        if local.tags.get(SWEEP_TAG) == plan.sha256 and local.folder.name not in plan.ignored:
            run = existing_runs.read_local_run(local.folder)
            if run is None:
                continue
            if run.state == "finished":
                return None
            try:
                require_destination(run.folder)
            except DestinationError:
                continue
            return run.folder
    return None


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

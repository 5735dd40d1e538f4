"""Runs one job of a sweep, in this process or in any other that has the same state folder.

A job may be run again at any time, also after the process that did it has died: what is complete is
left, what was begun resumes at its last checkpoint, in the same runs.
"""

import dataclasses
import platform
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hw2.common.errors import Hw2Error
from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import config_hash, fingerprint
from mlflow_project.common.errors import Interrupted, ServiceError, SweepError
from mlflow_project.common.names import JOURNAL_REFERENCE, PARENT_TAG, SHARES_TAG
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.existing_runs import COMPLETED, ELSEWHERE, LocalRunInfo
from mlflow_project.sweeps.job_spec import FAILED, NOT_DONE, RESUMED, REUSED, TRAINED, JobSpec, TrialResult
from mlflow_project.sweeps.plan import Trial
from mlflow_project.tracking.journal import local_runs, state_dir
from mlflow_project.tracking.journal.entities import Tag
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.training import inputs
from mlflow_project.training.progress import ProgressListener, epoch_line
from mlflow_project.training.run_spec import RunResult, RunSpec, read_run_spec
from mlflow_project.training.shared_training import SharedTraining, checkpoint_warning, find_checkpoint
from mlflow_project.training.tracked_run import TrackedRun

if TYPE_CHECKING:
    from hw2.training.trainer import EpochResult
    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.training.inputs import TrainingInputs


class JobRunner:
    """A job whose trials this process has claimed and whose runs it has opened."""

    def __init__(self, spec: JobSpec, listener: "ProgressListener", shutdown: "GracefulShutdown") -> None:
        self._spec = spec
        self._listener = listener
        self._shutdown = shutdown
        self._results: dict[str, TrialResult] = {}
        self._states: dict[Path, tuple[str, str]] = {}  # SHA-256 of the configuration, TRAINED or RESUMED
        self._shared_with: dict[Path, str] = {}
        self._opened: list[TrackedRun] = []
        self._locks: list[FileLock] = []
        self._training: SharedTraining | None = None

    def train(self) -> None:
        """Train and complete what isn't done yet.

        Raises:
            Interrupted: A signal came; nothing else is raised. The caller closes this and ends.
        """
        try:
            self._train()
        except Interrupted:
            raise
        except (Hw2Error, ServiceError, OSError) as error:
            self._fail(str(error))
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")

    @property
    def delivered(self) -> bool:
        """Return whether `close` needn't wait."""
        return self._spec.until is not None or self._training is None or self._training.delivered

    def close(self, seconds: float | None = None) -> list[TrialResult]:
        """Wait for the upload, at most so many seconds, and return one result for each trial."""
        seconds = self._spec.delivery_seconds if seconds is None else seconds
        for outcome in self._training.close(seconds) if self._training else ():
            self._add_result(outcome)
        self._release()
        return [
            self._results.get(trial.sha256, TrialResult(sha256=trial.sha256, state=NOT_DONE))
            for trial in self._spec.job.trials
        ]

    def _train(self) -> None:
        spec = self._spec
        self._shutdown.check()
        local = [*spec.known, *existing_runs.local_runs(spec.since)]
        local = [run for run in local if run.folder.name not in spec.ignored]
        config = spec.job.trials[-1].config
        loaded = _images(config, spec.data_dir)
        if config_hash(config, loaded.dataset.sha256) != spec.job.trials[-1].sha256:
            raise SweepError(
                f"the worker on {platform.node()} has other code or images ({loaded.dataset.train.source}) than the "
                "sweep; give both the same"
            )
        for trial in spec.job.trials:
            self._open(trial, local, loaded)
        runs = self._opened
        if not runs:
            return
        identity = fingerprint(config, loaded.dataset.sha256, loaded.runtime, loaded.train.spec)
        states = [run.folder for run in local if run.fingerprint == identity]
        source, start = find_checkpoint(states, identity, min(run.plan.config.epochs for run in runs))
        for run in runs:
            if damage := checkpoint_warning(run.folder, start):
                self._listener.warning(damage)
        self._training = SharedTraining(runs, loaded, self._listener, self._shutdown, spec.until)
        self._name_each_other(runs, source if start is not None and start.epoch else None)
        if start is not None and (start.epoch or start.batch):
            self._listener.info(f"resuming at epoch {start.epoch + 1}, batch {start.batch + 1}")
        self._training.train(start)

    def _open(self, trial: Trial, local: Sequence[LocalRunInfo], loaded: "TrainingInputs") -> None:
        """Open the trial's run, new or to be resumed, where there is something to do."""
        lock = FileLock(lock_path(trial.sha256))
        with state_dir.writing(lock.path):
            acquired = lock.acquire()
        if not acquired:
            self._results[trial.sha256] = TrialResult(sha256=trial.sha256, state=ELSEWHERE)
            return
        self._locks.append(lock)
        existing = existing_runs.find_local_runs(
            [run for run in local if run.sha256 == trial.sha256], self._spec.tags.get(PARENT_TAG, "")
        )
        if existing is not None and existing.state in (COMPLETED, ELSEWHERE):
            self._results[trial.sha256] = TrialResult.of_existing(trial.sha256, existing)
            return
        if existing is not None and existing.folder is not None:
            run = TrackedRun.reopen(existing.folder, self._listener, self._spec.tags)
            run.plan = dataclasses.replace(run.plan, register=self._spec.register, aliases=trial.aliases)
            self._states[run.folder] = trial.sha256, RESUMED
        else:
            plan = RunSpec(
                config=trial.config,
                data_dir=self._spec.data_dir,
                tags=self._spec.tags,
                register=self._spec.register,
                aliases=trial.aliases,
            )
            run = TrackedRun.start(plan, loaded, self._listener)
            self._states[run.folder] = trial.sha256, TRAINED
        self._opened.append(run)

    def _name_each_other(self, runs: Sequence[TrackedRun], source: Path | None) -> None:
        """Tag each run with those that share its epochs, also the earlier one from whose state it begins."""
        # By their journals, because they may have no ids yet; the delivery puts the ids there.
        names = {
            run.folder: f"{run.plan.config.name} ({JOURNAL_REFERENCE}{run.journal.header.key})"
            for run in runs
        }
        done = [
            f"{trial.config.name} ({result.run_id})"
            for trial in self._spec.job.trials
            if (result := self._results.get(trial.sha256)) and result.state == REUSED
        ]
        known = [run.folder for run in runs] + [result.folder for result in self._results.values()]
        if source is not None and source not in known:
            earlier_run = local_runs.local_run(source)
            name = read_run_spec(source).config.name
            done.append(f"{name} ({earlier_run.run_id or earlier_run.key})")
        for run in runs:
            others = [*done, *(name for folder, name in names.items() if folder != run.folder)]
            if others:
                self._shared_with[run.folder] = ", ".join(others)
                run.journal.append(Tag(SHARES_TAG, self._shared_with[run.folder]))

    def _add_result(self, outcome: RunResult) -> None:
        sha256, state = self._states[outcome.folder]
        self._results[sha256] = TrialResult(
            sha256=sha256,
            state={"FINISHED": state, "FAILED": FAILED}.get(outcome.status, NOT_DONE),
            run_id=outcome.run_id,
            folder=outcome.folder,
            metrics=existing_runs.last_metrics(outcome.folder),
            reason=outcome.reason,
            undelivered=outcome.delivery.pending if outcome.delivery else 0,
            shared_with=self._shared_with.get(outcome.folder, ""),
            refused=outcome.delivery.refused if outcome.delivery else (),
            unregistered=outcome.unregistered,
            diverged=self._training is not None and self._training.diverged,
        )

    def _fail(self, reason: str) -> None:
        if self._training is None:
            for run in self._opened:
                run.end("FAILED", reason)
                run.close(0.0)
        for trial in self._spec.job.trials:
            self._results.setdefault(
                trial.sha256, TrialResult(sha256=trial.sha256, state=FAILED, reason=reason)
            )

    def _release(self) -> None:
        while self._locks:
            self._locks.pop().release()


def lock_path(sha256: str) -> Path:
    """Return the lock that a process holds while it trains a configuration, so that no two make a run of it."""
    folder = state_dir.state_dir() / "cells"
    with state_dir.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{sha256}.lock"


def _images(config: TrainingConfig, data_dir: Path | None) -> "TrainingInputs":
    assert config.validation_size is not None
    loaded = _load(config.dataset, data_dir, config.validation_size, config.image_size)
    return dataclasses.replace(loaded, runtime=inputs.runtime_of(config, loaded.train.spec))


@lru_cache(maxsize=1)
def _load(
    dataset: str, data_dir: Path | None, validation_size: int, image_size: int | None
) -> "TrainingInputs":
    config = TrainingConfig(
        dataset=dataset, validation_size=validation_size, batch_size=1, image_size=image_size
    )
    return inputs.load(config, data_dir)[1]


def label(spec: JobSpec) -> str:
    """Return the name of a job: its configuration, with the epochs of all its trials."""
    first, last = spec.job.trials[0].config, spec.job.trials[-1].config
    epochs = ",".join(str(trial.config.epochs) for trial in spec.job.trials)
    return last.name if first == last else last.name.replace(f"epochs={last.epochs}", f"epochs={epochs}")


class PrefixedListener(ProgressListener):
    """A listener that puts the job's name before each line, without a bar, which is for one training at a time."""

    def __init__(self, listener: "ProgressListener", spec: JobSpec) -> None:
        self._listener = listener
        self._label = label(spec)

    def info(self, text: str) -> None:
        """Report something worth a line."""
        self._listener.info(f"[{self._label}] {text}")

    def warning(self, text: str) -> None:
        """Report something that a person should know."""
        self._listener.warning(f"[{self._label}] {text}")

    def epoch(self, result: "EpochResult", epochs: int) -> None:
        """Report that an epoch has ended."""
        self.info(epoch_line(result, epochs))


class WorkerListener(PrefixedListener):
    """A worker's listener: whole lines on the stderr that all workers share."""

    def __init__(self, spec: JobSpec) -> None:
        super().__init__(self, spec)

    def info(self, text: str) -> None:
        """Report something worth a line."""
        click.echo(f"[{self._label}] {text}", err=True)

    def warning(self, text: str) -> None:
        """Report something that a person should know."""
        click.echo(f"Warning: [{self._label}] {text}", err=True)

"""The steps of a search as jobs of an executor, and what they have reached."""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from mlflow_project.common.errors import JournalError, RunBusyError, SweepError
from mlflow_project.searches.halving import Outcome, Step
from mlflow_project.sweeps.executors import Executor
from mlflow_project.sweeps.existing_runs import ELSEWHERE
from mlflow_project.sweeps.job_runner import lock_path
from mlflow_project.sweeps.job_spec import FAILED, NOT_DONE, JobSpec, TrialResult
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import mlflow_errors
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import Metric
from mlflow_project.tracking.journal.locks import is_locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.training.progress import ProgressListener

ELSEWHERE_SECONDS = 30.0
"""For a trial that another process has: a worker whose search was killed needs some seconds to end."""
History = Mapping[int, tuple[float, float, float]]
"""By epoch: validation accuracy and loss, and the seconds of training."""
_ATTEMPTS = 3  # an unreachable server isn't tried again before the end
_KEYS = ("validation_accuracy", "validation_loss", "epoch_seconds")


class StepRunner:
    """Gives steps to an executor and takes their results; each is recorded as soon as it is there."""

    def __init__(
        self,
        executor: Executor,
        rungs: Sequence[int],
        listener: "ProgressListener",
        shutdown: "GracefulShutdown",
    ) -> None:
        self.folders: dict[str, Path] = {}
        """The run folder of each trial, by the SHA-256 of its configuration."""
        self._rungs = rungs
        self._listener = listener
        self._shutdown = shutdown
        self._queue: deque[JobSpec] = deque()
        self._specs: dict[str, tuple[Step, JobSpec]] = {}
        self._results = executor.run(self._queue, listener, shutdown)
        self._uploads = _Uploads()

    def submit(self, step: Step, spec: JobSpec) -> None:
        """Queue a step."""
        self._specs[spec.job.trials[0].sha256] = step, spec
        self._queue.append(spec)

    def take(self) -> Iterator[tuple[Step, Outcome]]:
        """Yield results as they come.

        Raises:
            SweepError: A training has failed otherwise than by diverging.
            RunBusyError: Another process has a trial, and keeps it.
            Interrupted: A signal came.
        """
        for result in self._results:
            if result.state == NOT_DONE:
                continue
            step, spec = self._specs[result.sha256]
            if result.state == ELSEWHERE:
                self._wait_for(result, spec)
                self._queue.append(spec)
                continue
            if result.folder is not None:
                self.folders[result.sha256] = result.folder
                self._uploads.put(result.folder)
            yield step, self._outcome(step, spec, result)

    def close(self) -> None:
        """End the executor and the upload in the background."""
        close = getattr(self._results, "close", None)
        if close is not None:
            close()
        self._uploads.close()

    def _outcome(self, step: Step, spec: JobSpec, result: TrialResult) -> Outcome:
        if result.state == FAILED and not result.diverged:
            name = spec.job.trials[0].config.name
            raise SweepError(
                f"trial {step.number + 1} ({name}) failed: {result.reason}; start the same search again"
            )
        assert result.folder is not None
        history = read_history(result.folder)
        if result.state == FAILED:
            return Outcome(0.0, math.inf, sum(seconds for _, _, seconds in history.values()), result.reason)
        return outcome_of(history, self._rungs, step.rung)

    def _wait_for(self, result: TrialResult, spec: JobSpec) -> None:
        self._listener.info(f"waiting for {spec.job.trials[0].config.name}, which another process is running")
        deadline = time.monotonic() + ELSEWHERE_SECONDS
        paths = [lock_path(result.sha256)]
        if result.folder is not None:
            paths.append(result.folder / format.LOCK)
        while any(is_locked(path) for path in paths):
            self._shutdown.check()
            if time.monotonic() > deadline:
                raise RunBusyError(
                    f"{spec.job.trials[0].config.name} is running in another process; wait for it, and start the same "
                    "search again"
                )
            time.sleep(0.2)


class _Uploads:
    """Uploads, in a thread, what steps have logged, while others train."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Path | None] = SimpleQueue()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="search-uploads", daemon=True)
        self._thread.start()

    def put(self, folder: Path) -> None:
        self._queue.put(folder)

    def close(self) -> None:
        """Stop after the folder that is being uploaded; the rest is the caller's."""
        self._ending = True
        self._queue.put(None)
        self._thread.join(5.0)

    def _work(self) -> None:
        failed = 0
        while (folder := self._queue.get()) is not None and not self._ending and failed < _ATTEMPTS:
            try:
                failed = failed + 1 if deliver(folder, 10.0).problem else 0
            except (JournalError, OSError):
                continue


def read_history(folder: Path) -> History:
    """Read what a run has logged by epoch."""
    values: dict[int, dict[str, float]] = {}
    for item in format.read_entries(folder):
        if isinstance(item, format.Entry) and isinstance(item.value, Metric) and item.value.key in _KEYS:
            values.setdefault(item.value.step, {})[item.value.key] = item.value.value
    return _as_history(values)


def fetch_history(client: "MlflowClient", run_id: str) -> History:
    """Fetch the same of a run in MLflow."""
    values: dict[int, dict[str, float]] = {}
    with mlflow_errors():
        for key in _KEYS:
            for point in client.get_metric_history(run_id, key):
                values.setdefault(point.step, {})[key] = point.value
    return _as_history(values)


def _as_history(values: Mapping[int, Mapping[str, float]]) -> History:
    return {
        epoch: (row["validation_accuracy"], row["validation_loss"], row.get("epoch_seconds", 0.0))
        for epoch, row in sorted(values.items())
        if "validation_accuracy" in row and "validation_loss" in row
    }


def outcome_of(history: History, rungs: Sequence[int], rung: int) -> Outcome:
    """Return what a run has reached at a rung; KeyError where its history doesn't have it."""
    accuracy, loss, _ = history[rungs[rung]]
    before = rungs[rung - 1] if rung else 0
    seconds = sum(row[2] for epoch, row in history.items() if before < epoch <= rungs[rung])
    return Outcome(accuracy, loss, seconds)

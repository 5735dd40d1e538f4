"""Train once for several runs: the epochs are computed once, and each run logs what belongs to it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.common.errors import CheckpointError, DivergenceError, Hw2Error
from hw2.common.formatting import plural
from hw2.training.early_stopping import is_stopped
from mlflow_project.common.errors import Interrupted, ServiceError
from mlflow_project.common.names import CHECKPOINT
from mlflow_project.tracking.active_run import DELIVERY_SECONDS, KILLED_DELIVERY_SECONDS
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.delivery_status import pending_warning
from mlflow_project.training.run_spec import RunResult
from mlflow_project.training.tracked_run import TrackedRun

if TYPE_CHECKING:
    from hw2.training.trainer import EpochResult, Progress, TrainingState
    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.training.inputs import TrainingInputs
    from mlflow_project.training.progress import ProgressListener

CHECKPOINT_SECONDS = 30.0


class SharedTraining:
    """One training for one or more open runs whose configurations differ in `epochs` alone.

    until: the epoch after which they are all stopped, untested, and can go on; None where each is completed at its end.
    diverged: whether it ended because the loss was not finite any more.
    """

    def __init__(
        self,
        runs: Sequence[TrackedRun],
        images: "TrainingInputs",
        listener: "ProgressListener",
        shutdown: "GracefulShutdown",
        until: int | None = None,
    ) -> None:
        self._open = sorted(runs, key=lambda run: run.plan.config.epochs)
        self._epochs = self._open[-1].plan.config.epochs
        self._images = images
        self._listener = listener
        self._shutdown = shutdown
        self._until = until
        self._ended: list[tuple[TrackedRun, str, str]] = []  # with status and reason, still to be closed
        self.outcomes: list[RunResult] = []
        self.diverged = False

    def execute(self, start: "TrainingState | None" = None) -> list[RunResult]:
        """Train, then close the runs."""
        self.train(start)
        return self.close()

    def train(self, start: "TrainingState | None" = None) -> None:
        """Train from `start` or from the beginning, and complete each run at its epoch.

        An error ends the runs that are still open as FAILED, and is the reason in their outcomes.

        Raises:
            Interrupted: A signal came; the open runs are KILLED, and all are closed.
        """
        try:
            with _threads_as_before():
                self._train(start)
        except Interrupted as interrupted:
            stopped = self._open[-1] if self._open else None
            self._end_all("KILLED", str(interrupted))
            self.close(KILLED_DELIVERY_SECONDS)
            if stopped is None:
                raise
            pending = pending_warning(stopped.delivery, stopped.folder)
            text = "; ".join(filter(None, (_how_to_resume(interrupted, stopped), pending)))
            raise Interrupted(interrupted.signal_number, text) from interrupted
        except (Hw2Error, ServiceError) as error:
            self.diverged = isinstance(error, DivergenceError)
            self._end_all("FAILED", str(error))
        except OSError as error:
            for run in self._open:
                local_runs.mark_disk_full(run.folder)
            self._end_all("FAILED", _describe(error, self._open[-1].folder if self._open else None))
        except BaseException as error:
            self._end_all("FAILED", f"{type(error).__name__}: {error}")
            self.close()
            raise

    @property
    def delivered(self) -> bool:
        """Whether the ended runs are completely uploaded, so that `close` needn't wait."""
        return all(run.delivered for run, _, _ in self._ended)

    def close(self, seconds: float = DELIVERY_SECONDS) -> list[RunResult]:
        """Wait for the upload of the ended runs, so long for all of them together or until a signal, and close them.

        Only now, because a run that is complete must not hold up the training that it shares with others.
        """
        deadline = time.monotonic() + seconds
        before = self._shutdown.requested
        if before:
            deadline = min(deadline, time.monotonic() + KILLED_DELIVERY_SECONDS)

        def stopped() -> bool:
            return self._shutdown.requested and not before

        while self._ended:
            run, status, reason = self._ended.pop(0)
            delivery = run.close(max(0.0, deadline - time.monotonic()), stopped)
            self.outcomes.append(
                RunResult(
                    plan=run.plan,
                    folder=run.folder,
                    run_id=run.journal.run_id,
                    status=status,
                    metrics=run.metrics,
                    delivery=delivery,
                    reason=reason,
                )
            )
        return self.outcomes

    def _train(self, start: "TrainingState | None") -> None:
        from hw2.training.trainer import Trainer
        from mlflow_project.training.inputs import compilation_note

        images = self._images
        if compilation := compilation_note(self._open[-1].plan.config, images.runtime, images.train.spec):
            self._listener.info(compilation)
        training = Trainer(
            self._open[-1].plan.config,
            images.runtime,
            images.dataset.sha256,
            images.train,
            images.validation,
            start,
        )
        if start is not None:
            for run in self._open:
                run.backfill(start)
                if self._until is not None:
                    run.save(start)  # it may be another run's
            self._complete_due(start)
        if not self._open:
            return
        self._saved_at = time.monotonic()

        def on_progress(progress: "Progress") -> None:
            for run in self._open:
                run.progress(progress)
            self._listener.progress(progress, self._epochs)
            try:
                self._shutdown.check()
            except Interrupted:
                self._open[-1].save(training.state())
                raise
            if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS:
                self._open[-1].save(training.state())
                self._saved_at = time.monotonic()

        for result in training.epochs(on_progress):
            self._epoch(result, training.state())
            if not self._open:
                return

    def _epoch(self, result: "EpochResult", state: "TrainingState") -> None:
        # The checkpoint first: what a run has logged is then never computed again with another time.
        self._open[-1].save(state)
        self._saved_at = time.monotonic()
        for run in self._open:
            run.epoch(result)
        self._listener.epoch(result, self._epochs)
        self._shutdown.check()
        self._complete_due(state)

    def _complete_due(self, state: "TrainingState") -> None:
        while self._open and self._is_due(self._open[0], state):
            run = self._open[0]
            if len(self._open) > 1:
                run.save(state)
            status, reason = "FINISHED", ""
            try:
                if self._until is None:
                    run.complete(state, self._images)
                else:
                    run.stop(state, f"waits after {plural(state.epoch, 'epoch')} for how others do")
            except Interrupted:
                raise
            except (Hw2Error, ServiceError, OSError) as error:
                # Those that share the training are none the worse for it.
                status, reason = "FAILED", _describe(error, run.folder)
                if isinstance(error, OSError):
                    local_runs.mark_disk_full(run.folder)
                run.end(status, reason)
            self._open.pop(0)
            self._ended.append((run, status, reason))
            if self._open:  # else all is done, and a signal can't make it undone
                self._shutdown.check()

    def _is_due(self, run: TrackedRun, state: "TrainingState") -> bool:
        if self._until is not None:
            return state.epoch >= self._until
        config = run.plan.config
        ended = config.epochs <= state.epoch or is_stopped(state.history, config.patience)
        return ended and state.batch == 0

    def _end_all(self, status: str, reason: str) -> None:
        while self._open:
            run = self._open.pop(0)
            run.end(status, reason)
            self._ended.append((run, status, reason))


@contextmanager
def _threads_as_before() -> Iterator[None]:
    """A training sets PyTorch's number of threads, and the next one may have all cores again."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def find_checkpoint(
    folders: Sequence[Path], fingerprint: str, least_epochs: int
) -> "tuple[Path, TrainingState] | tuple[None, None]":
    """Find the most advanced checkpoint in these run folders that a training can start from.

    Args:
        folders: Of runs.
        fingerprint: Of the training.
        least_epochs: Of the run that ends first; a checkpoint beyond that can't serve it.

    Returns:
        The checkpoint's run folder and its state.
    """
    from hw2.training import checkpoint

    states: list[tuple[Path, TrainingState]] = []
    for folder in folders:
        try:
            state = checkpoint.load(folder / CHECKPOINT)
        except CheckpointError:
            continue
        if state.fingerprint == fingerprint and (state.epoch, state.batch) <= (least_epochs, 0):
            states.append((folder, state))
    return max(states, key=lambda item: (item[1].epoch, item[1].batch), default=(None, None))


def checkpoint_warning(folder: Path, start: "TrainingState | None") -> str | None:
    """Return a warning where a resumed run's newest checkpoint is corrupt; start: the state used instead."""
    from hw2.training import checkpoint

    problem = checkpoint.read_problem(folder / CHECKPOINT)
    return problem and f"{problem}; {'no other' if start is None else 'the one before it'} can serve"


def _describe(error: Exception, folder: Path | None) -> str:
    if isinstance(error, OSError):
        where = error.filename or folder or "here"
        return f"{error.strerror or error}: {where}; free disk space there and resume the run"
    return str(error)


def _how_to_resume(interrupted: Interrupted, run: TrackedRun) -> str:
    checkpoint = run.folder / CHECKPOINT
    place = f"its checkpoint is {checkpoint}" if checkpoint.exists() else "it had no checkpoint yet"
    return (
        f"{interrupted}; run {run.name} is marked KILLED and {place}; "
        f"resume with: mlflow-project train --resume {run.name}"
    )

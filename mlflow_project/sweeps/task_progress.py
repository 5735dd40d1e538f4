"""Listeners that name the training of a sweep of which they speak."""

from typing import TYPE_CHECKING

import click

from mlflow_project.sweeps.task import JobSpec
from mlflow_project.training.progress import NullListener, epoch_line

if TYPE_CHECKING:
    from hw2.training.trainer import EpochResult
    from mlflow_project.training.progress import ProgressListener


def label(task: JobSpec) -> str:
    """What a person calls a job's training."""
    first, last = task.job.trials[0].config, task.job.trials[-1].config
    epochs = ",".join(str(trial.config.epochs) for trial in task.job.trials)
    return last.name if first == last else last.name.replace(f"epochs={last.epochs}", f"epochs={epochs}")


class PrefixedListener(NullListener):
    """A listener that says of what it speaks, without a bar: that belongs to one training, and here are several."""

    def __init__(self, listener: "ProgressListener", task: JobSpec) -> None:
        self._watcher = listener
        self._label = label(task)

    def info(self, text: str) -> None:
        """Something worth a line."""
        self._watcher.info(f"[{self._label}] {text}")

    def warning(self, text: str) -> None:
        """Something that a person should know."""
        self._watcher.warning(f"[{self._label}] {text}")

    def epoch(self, result: "EpochResult", epochs: int) -> None:
        """An epoch has ended."""
        self.info(epoch_line(result, epochs))


class WorkerListener(PrefixedListener):
    """A worker's listener: whole lines on the stderr that all workers share, and no bar."""

    def __init__(self, task: JobSpec) -> None:
        super().__init__(self, task)

    def info(self, text: str) -> None:
        """Something worth a line."""
        click.echo(f"[{self._label}] {text}", err=True)

    def warning(self, text: str) -> None:
        """Something that a person should know."""
        click.echo(f"Warning: [{self._label}] {text}", err=True)

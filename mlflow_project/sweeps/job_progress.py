"""Listeners that put the name of the job before each line."""

from typing import TYPE_CHECKING

import click

from mlflow_project.sweeps.job_spec import JobSpec
from mlflow_project.training.progress import ProgressListener, epoch_line

if TYPE_CHECKING:
    from hw2.training.trainer import EpochResult
    from mlflow_project.training.progress import ProgressListener


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

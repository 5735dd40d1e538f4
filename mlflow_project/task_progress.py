"""Listeners that name the training of a sweep of which they speak."""

from typing import TYPE_CHECKING

import click

from mlflow_project.progress import Silence, epoch_line
from mlflow_project.task import Task

if TYPE_CHECKING:
    from hw2.training import EpochResult
    from mlflow_project.progress import Watcher


def label(task: Task) -> str:
    """What a person calls a stage's training."""
    first, last = task.stage.cells[0].config, task.stage.cells[-1].config
    epochs = ",".join(str(cell.config.epochs) for cell in task.stage.cells)
    return last.name if first == last else last.name.replace(f"epochs={last.epochs}", f"epochs={epochs}")


class Prefixed(Silence):
    """A watcher that says of what it speaks, without a bar: that belongs to one training, and here are several."""

    def __init__(self, watcher: "Watcher", task: Task) -> None:
        self._watcher = watcher
        self._label = label(task)

    def note(self, text: str) -> None:
        """Something worth a line."""
        self._watcher.note(f"[{self._label}] {text}")

    def warning(self, text: str) -> None:
        """Something that a person should know."""
        self._watcher.warning(f"[{self._label}] {text}")

    def epoch(self, result: "EpochResult", epochs: int) -> None:
        """An epoch has ended."""
        self.note(epoch_line(result, epochs))


class Lines(Prefixed):
    """A worker's watcher: whole lines on the stderr that all workers share, and no bar."""

    def __init__(self, task: Task) -> None:
        super().__init__(self, task)

    def note(self, text: str) -> None:
        """Something worth a line."""
        click.echo(f"[{self._label}] {text}", err=True)

    def warning(self, text: str) -> None:
        """Something that a person should know."""
        click.echo(f"Warning: [{self._label}] {text}", err=True)

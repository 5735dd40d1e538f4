"""Progress on stderr: a bar where there is a terminal, plain lines elsewhere."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from mlflow_project.cli.shared.output import results_alone_on_stdout
from mlflow_project.common.tables import Row, render
from mlflow_project.common.text import printable
from mlflow_project.training.progress import ProgressListener, epoch_line

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress as RichProgress

    from hw2.training.trainer import EpochResult, Progress


class Console(ProgressListener):
    """Shows progress on stderr. As a context, it removes the bar however the work ends.

    Within it stdout is stderr: whatever the work prints isn't a result.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: RichProgress | None = None
        self._table: Live | None = None
        self._loss = float("nan")
        self._task = ""

    def __enter__(self) -> Self:
        self._stack.enter_context(results_alone_on_stdout())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_bar()
        if self._table is not None:
            self._table.stop()
        self._stack.close()

    def info(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        bar = self._bar or self._table  # another thread may take it away meanwhile
        if bar is not None:
            bar.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(printable(text), err=True)

    def warning(self, text: str) -> None:
        """Print a line that is a warning."""
        self.info(f"Warning: {text}")

    def progress(self, progress: "Progress", epochs: int) -> None:
        """Move the bar, where there is a terminal."""
        if progress.batch_losses:
            self._loss = progress.batch_losses[-1][1]
        done = progress.epoch - 1 + progress.images_done / progress.images_total
        speed = f"{progress.images_per_second:,.0f} images/s"
        metrics = f"loss {self._loss:.4f}  accuracy {progress.accuracy:.4f}  {speed}"
        self._move_bar(f"epoch {progress.epoch}/{epochs}", done / epochs, metrics)

    def epoch(self, result: "EpochResult", epochs: int) -> None:
        """Print one line for the epoch, always the same metrics in the same order."""
        self.info(epoch_line(result, epochs))
        if result.epoch == epochs:
            self._remove_bar()

    def standings(self, title: str, rows: Sequence[Row]) -> None:
        """Show the best trials below all lines, where there is a terminal."""
        if not sys.stderr.isatty():
            return
        from rich.text import Text

        if self._table is None:
            self._table = _new_table()
            self._table.start()
        self._table.update(Text(f"{title}\n{render(rows, 'table')}"), refresh=True)

    def task(self, description: str, share: float) -> None:
        """Move the bar where there is a terminal, else print a line for each part of the work that begins."""
        if not self._move_bar(description, share) and description != self._task:
            self.info(f"{share:4.0%}  {description}")
        self._task = description

    def _move_bar(self, description: str, share: float, metrics: str = "") -> bool:
        """Return whether there is a terminal to show a bar on."""
        if not sys.stderr.isatty():
            return False
        if self._bar is None:
            self._bar = _new_bar()
            # What is resumed starts in the middle; the time left is reckoned from there.
            self._bar.add_task("", total=1.0, metrics="")
            self._bar.update(self._bar.task_ids[0], completed=share)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=share, description=description, metrics=metrics)
        return True

    def _remove_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _new_bar() -> "RichProgress":
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[metrics]}"),
        TimeRemainingColumn(compact=True),
        console=RichConsole(stderr=True),
        transient=True,
    )


def _new_table() -> "Live":
    from rich.console import Console as RichConsole
    from rich.live import Live

    return Live(console=RichConsole(stderr=True), transient=True, auto_refresh=False)

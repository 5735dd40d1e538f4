"""What a person watching a training sees on stderr: a bar where there is a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from mlflow_project.progress import epoch_line

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from hw2.training import EpochResult, Progress


class Console:
    """A person's watcher; a context, so that the bar is taken away however the work ends."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._loss = float("nan")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_bar_away()

    def note(self, text: str) -> None:
        """A line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=True)

    def warning(self, text: str) -> None:
        """A line that says that it is a warning."""
        self.note(f"Warning: {text}")

    def progress(self, progress: "Progress", epochs: int) -> None:
        """Moves the bar, where there is a terminal."""
        if not sys.stderr.isatty():
            return
        bar = self._bar or self._put_bar(progress, epochs)
        if progress.batch_losses:
            self._loss = progress.batch_losses[-1][1]
        bar.update(
            bar.task_ids[0],
            completed=(progress.epoch - 1) * progress.images_total + progress.images_done,
            description=f"epoch {progress.epoch}/{epochs}",
            figures=f"loss {self._loss:.4f}  accuracy {progress.accuracy:.4f}  "
            f"{progress.images_per_second:,.0f} pictures/s",
        )

    def epoch(self, result: "EpochResult", epochs: int) -> None:
        """One line an epoch, always the same figures in the same order."""
        self.note(epoch_line(result, epochs))
        if result.epoch == epochs:
            self._take_bar_away()

    def _put_bar(self, progress: "Progress", epochs: int) -> "RichProgress":
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=RichConsole(stderr=True),
            transient=True,
        )
        before = (progress.epoch - 1) * progress.images_total
        # A resumed training starts in the middle; the time left is reckoned from there.
        self._bar.add_task("", total=epochs * progress.images_total, completed=before, figures="")
        self._bar.start()
        return self._bar

    def _take_bar_away(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

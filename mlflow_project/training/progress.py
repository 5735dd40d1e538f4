"""The listener that receives a training's progress."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw2.training.trainer import EpochResult, Progress


class ProgressListener:
    """Receives progress and ignores it; a terminal and a sweep's workers have subclasses that don't."""

    def info(self, text: str) -> None:
        """Receive something worth a line."""

    def warning(self, text: str) -> None:
        """Receive something that a person should know or act on."""

    def progress(self, progress: "Progress", epochs: int) -> None:
        """Receive how far an epoch is."""

    def epoch(self, result: "EpochResult", epochs: int) -> None:
        """Receive the metrics of a completed epoch."""

    def standings(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Receive the best trials of a search so far."""

    def task(self, description: str, share: float) -> None:
        """Receive what other work is being done, and the share of the whole, 0 to 1, that is done."""


def epoch_line(result: "EpochResult", epochs: int) -> str:
    """Format the metrics of an epoch in a line."""
    validation = (
        ""
        if result.validation_loss is None
        else f"  validation loss {result.validation_loss:.4f}  accuracy {result.validation_accuracy:.4f}"
    )
    return (
        f"epoch {result.epoch:>{len(str(epochs))}}/{epochs}  "
        f"loss {result.train_loss:.4f}  accuracy {result.train_accuracy:.4f}{validation}  "
        f"{result.epoch_seconds:.1f} s  {result.images_per_second:,.0f} images/s"
    )

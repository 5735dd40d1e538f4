"""How a training tells whoever listens what happens."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hw2.training.trainer import EpochResult, Progress


class ProgressListener(Protocol):
    """Is told what happens; a sweep's workers have another one than a person's terminal."""

    def info(self, text: str) -> None:
        """Something worth a line."""

    def warning(self, text: str) -> None:
        """Something that a person should know or do something about."""

    def progress(self, progress: "Progress", epochs: int) -> None:
        """Where the training stands."""

    def epoch(self, result: "EpochResult", epochs: int) -> None:
        """An epoch has ended."""

    def task(self, description: str, share: float) -> None:
        """What other work is being done, and what share of the whole, 0 to 1, is done by now."""


class NullListener:
    """A listener that says nothing."""

    def info(self, text: str) -> None: ...

    def warning(self, text: str) -> None: ...

    def progress(self, progress: "Progress", epochs: int) -> None: ...

    def epoch(self, result: "EpochResult", epochs: int) -> None: ...

    def task(self, description: str, share: float) -> None: ...


def epoch_line(result: "EpochResult", epochs: int) -> str:
    """The figures of an epoch in a line."""
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

"""How a training tells whoever listens what happens."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from hw2.training import EpochResult, Progress

# Between two looks whether the first line can be said.
ASKING_SECONDS = 0.05


class Watcher(Protocol):
    """Is told what happens; a sweep's workers have another one than a person's terminal."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def warning(self, text: str) -> None:
        """Something that a person should know or do something about."""

    def progress(self, progress: "Progress", epochs: int) -> None:
        """Where the training stands."""

    def epoch(self, result: "EpochResult", epochs: int) -> None:
        """An epoch has ended."""

    def task(self, description: str, share: float) -> None:
        """What other work is being done, and what share of the whole, 0 to 1, is done by now."""


class Silence:
    """A watcher that says nothing."""

    def note(self, text: str) -> None: ...

    def warning(self, text: str) -> None: ...

    def progress(self, progress: "Progress", epochs: int) -> None: ...

    def epoch(self, result: "EpochResult", epochs: int) -> None: ...

    def task(self, description: str, share: float) -> None: ...


class Introduced(Silence):
    """Passes on to a watcher, but first of all a line that may not be known yet: epochs' lines wait for it.

    The work never does: a thread asks for the line until it is said. As a context, it says the line at the end if
    it hasn't before. line: returns None as long as something is worth waiting for, which ends after `seconds`; asked
    with True it must return a line. The watcher is called by one thread at a time.
    """

    def __init__(self, watcher: Watcher, line: Callable[[bool], str | None], seconds: float) -> None:
        self._watcher = watcher
        self._line = line
        self._latest = time.monotonic() + seconds
        self._held: list[Callable[[], None]] = []
        self._said = False
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._asking = threading.Thread(target=self._ask, name="introduction", daemon=True)

    def __enter__(self) -> Self:
        self._introduce()
        if not self._said:
            self._asking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._asking.ident is not None:
            self._asking.join()
        self._introduce(last=True)

    def _ask(self) -> None:
        while not (self._said or self._over.wait(ASKING_SECONDS)):
            self._introduce()

    def note(self, text: str) -> None:
        """As `Console.note`, after the first line."""
        self._after(lambda: self._watcher.note(text))

    def warning(self, text: str) -> None:
        """At once: who can do something about it must not wait."""
        with self._lock:
            self._watcher.warning(text)

    def progress(self, progress: "Progress", epochs: int) -> None:
        """At once."""
        with self._lock:
            self._watcher.progress(progress, epochs)

    def epoch(self, result: "EpochResult", epochs: int) -> None:
        """As `Console.epoch`, after the first line."""
        self._after(lambda: self._watcher.epoch(result, epochs))

    def _after(self, say: Callable[[], None]) -> None:
        with self._lock:
            self._held.append(say)
            self._introduce()

    def _introduce(self, last: bool = False) -> None:
        with self._lock:
            if not self._said:
                line = self._line(last or time.monotonic() > self._latest)
                if line is None:
                    return
                self._watcher.note(line)
                self._said = True
            while self._held:
                self._held.pop(0)()


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
        f"{result.epoch_seconds:.1f} s  {result.images_per_second:,.0f} pictures/s"
    )

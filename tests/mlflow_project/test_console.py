"""What a person watching is told first, and when."""

import threading

from mlflow_project.progress import Introduced, Silence


class Listener(Silence):
    """Keeps what is noted; `heard` is set as soon as there is as much as is waited for."""

    def __init__(self, lines: int) -> None:
        self.said: list[str] = []
        self.heard = threading.Event()
        self._lines = lines

    def note(self, text: str) -> None:
        self.said.append(text)
        if len(self.said) == self._lines:
            self.heard.set()


def test_the_first_line_comes_as_soon_as_it_is_known_though_the_work_tells_nothing_meanwhile() -> None:
    known: list[str] = []
    listener = Listener(2)
    with Introduced(listener, lambda last: known[0] if known else None, 3600) as watcher:
        watcher.note("epoch 1")
        assert listener.said == []
        known.append("run 1")
        assert listener.heard.wait(60)
        assert listener.said == ["run 1", "epoch 1"]
        watcher.note("epoch 2")
    assert listener.said == ["run 1", "epoch 1", "epoch 2"]


def test_a_first_line_that_is_never_known_is_said_when_the_wait_ends() -> None:
    listener = Listener(1)
    with Introduced(listener, lambda last: "a run without a name" if last else None, 0.1):
        assert listener.heard.wait(60)
    assert listener.said == ["a run without a name"]


def test_a_first_line_that_is_still_waited_for_is_said_at_the_end_before_what_was_held_back() -> None:
    listener = Listener(2)
    with Introduced(listener, lambda last: "a run without a name" if last else None, 3600) as watcher:
        watcher.note("epoch 1")
    assert listener.said == ["a run without a name", "epoch 1"]
    assert "introduction" not in [thread.name for thread in threading.enumerate()]

"""The order in which a search decides: as if each epoch took the same time, so that no clock has a say."""

import heapq
from collections.abc import Callable

from mlflow_project.searches.halving import Halving, Outcome, Step


def run_in_order(
    halving: Halving,
    workers: int,
    find: Callable[[Step], Outcome | None],
    submit: Callable[[Step], None],
    wait: Callable[[Step], Outcome],
    announce: Callable[[Step], None],
) -> None:
    """Carry a search out on so many workers.

    Each step ends, on a clock of its own, after as many ticks as it has epochs, and its result is told then: the
    result of one that has really ended earlier waits. The same results therefore lead to the same decisions.

    Args:
        halving: Decides, and is told.
        workers: Steps at a time.
        find: Returns the result of a step that is known already.
        submit: Starts a step.
        wait: Waits for the result of a step that was started.
        announce: Called when a result has been told.
    """
    running: list[tuple[int, int, Step]] = []
    started, now = 0, 0
    while True:
        while len(running) < workers and (step := halving.next_step()) is not None:
            if find(step) is None:
                submit(step)
            heapq.heappush(running, (now + halving.cost(step), started, step))
            started += 1
        if not running:
            return
        now, _, step = heapq.heappop(running)
        halving.tell(step, find(step) or wait(step))
        announce(step)

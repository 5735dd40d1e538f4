"""Who goes on, within which budget, and in which order results are reported."""

import math
from collections.abc import Callable

import pytest

from mlflow_project.searches.halving import Budget, Halving, Outcome, Step, make_rungs
from mlflow_project.searches.order import run_in_order


def new(
    rungs: tuple[int, ...],
    trials: int,
    budget: Budget,
    workers: int = 1,
    free: Callable[[int], bool] | None = None,
) -> Halving:
    return Halving(rungs, 3, trials, budget, workers, lambda number: True, free or (lambda number: False))


def carry_out(halving: Halving, accuracy: Callable[[Step], float], workers: int = 1) -> list[Step]:
    """The steps in the order in which they were reported."""
    steps: list[Step] = []

    def find(step: Step) -> Outcome:
        return Outcome(accuracy(step), 1.0, seconds=10.0 * halving.cost(step))

    run_in_order(halving, workers, find, lambda step: None, find, steps.append)
    return steps


def test_rungs_are_powers_of_the_reduction_and_the_last_is_at_least_a_rung_higher() -> None:
    assert make_rungs(1, 27, 3) == (1, 3, 9, 27)
    assert make_rungs(1, 20, 3) == (1, 3, 20)
    assert make_rungs(2, 8, 2) == (2, 4, 8)
    assert make_rungs(1, 2, 3) == (2,)


def test_one_in_three_goes_on_and_the_best_reaches_the_end() -> None:
    halving = new((1, 3, 9), 9, Budget(epochs=1000))
    steps = carry_out(halving, lambda step: step.number / 10)
    assert sum(step.rung == 0 for step in steps) == 9
    assert halving.leader is not None
    assert (halving.leader.number, halving.leader.rung) == (8, 2)
    # Each that went on was among the best third of those that were there at that moment, until the best is at the end.
    end = next(place for place, step in enumerate(steps) if (step.number, step.rung) == (8, 2))
    for place, step in enumerate(steps[:end]):
        if step.rung:
            there = [s.number for s in steps[:place] if s.rung == step.rung - 1]
            assert step.number in sorted(there, reverse=True)[: len(there) // 3]


def test_what_is_left_of_the_budget_is_for_trials_that_it_takes_to_the_end() -> None:
    halving = new(
        (1, 3, 9), 3, Budget(epochs=16)
    )  # 3 + 2 + 6 for the best; the next would need 8, and 5 are left
    carry_out(halving, lambda step: 0.9 - step.number / 10)
    assert (halving.epochs, [trial.rung for trial in halving.trials]) == (11, [2, 0, 0])


def test_what_is_left_of_the_budget_takes_the_next_best_further() -> None:
    halving = new((1, 3), 4, Budget(epochs=9))  # 4 + 2 for the best leave 3, enough for one more
    steps = carry_out(halving, lambda step: 0.9 - step.number / 10)
    assert sorted((step.number, step.rung) for step in steps) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (2, 0),
        (3, 0),
    ]
    assert halving.epochs == 8


def test_the_budget_is_never_exceeded_and_keeps_what_takes_the_leader_to_the_end() -> None:
    for budget in (28, 40, 60, 100):
        halving = new((1, 3, 9, 27), 40, Budget(epochs=budget))
        steps = carry_out(halving, lambda step: math.sin(step.number * 7.3 + 1) / 2 + 0.5)
        assert sum(map(halving.cost, steps)) == halving.epochs <= budget
        assert halving.leader is not None
        assert halving.leader.rung == 3


def test_a_time_is_a_budget_for_each_worker() -> None:
    spent = {}
    for workers in (1, 2):
        halving = new((1, 3, 9), 40, Budget(seconds=300), workers)
        carry_out(halving, lambda step: step.number / 40, workers)
        spent[workers] = halving.epochs
        assert halving.seconds <= 300 * workers
    assert 20 <= spent[1] <= 30 < spent[2]


def test_what_diverges_goes_no_further_and_the_next_best_is_taken() -> None:
    halving = new((1, 3), 3, Budget(epochs=100))

    def find(step: Step) -> Outcome:
        failed = "the loss is nan" if (step.number, step.rung) in ((0, 1), (2, 0)) else ""
        return Outcome(0.0 if failed else 0.9 - step.number / 10, math.inf if failed else 1.0, failed=failed)

    run_in_order(halving, 1, find, lambda step: None, find, lambda step: None)
    assert halving.leader is not None
    assert (halving.leader.number, halving.leader.rung) == (1, 1)
    assert halving.describe_end(halving.trials[2]) == "the loss is nan"


def test_earlier_work_costs_nothing() -> None:
    halving = new((1, 3), 4, Budget(epochs=4), free=lambda number: number > 0)
    carry_out(halving, lambda step: step.number / 10)
    assert halving.epochs == 3  # of the one that wasn't
    assert len(halving.trials) == 4


def test_a_stopped_trial_says_where_and_why() -> None:
    halving = new((1, 3), 4, Budget(epochs=6))
    carry_out(halving, lambda step: 0.9 - step.number / 10)
    assert halving.describe_end(halving.trials[1]) == (
        "2nd of 4 after 1 epoch with 80.00 % of the validation images; 1 went on"
    )


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_decisions_depend_on_no_clock(workers: int) -> None:
    """Whatever really ends first, each result is reported when its epochs are over."""

    def decide(patience: int) -> list[tuple[int, int]]:
        halving = new((1, 3, 9), 12, Budget(epochs=60), workers)
        steps: list[tuple[int, int]] = []
        arrived: dict[Step, Outcome] = {}
        queue: list[Step] = []

        def wait(step: Step) -> Outcome:
            while step not in arrived:  # results arrive in another order each time
                done = queue.pop(patience % len(queue))
                arrived[done] = Outcome(math.sin(done.number * 5.1 + done.rung) / 2 + 0.5, 1.0)
            return arrived[step]

        run_in_order(
            halving,
            workers,
            arrived.get,
            queue.append,
            wait,
            lambda step: steps.append((step.number, step.rung)),
        )
        return steps

    assert decide(0) == decide(1) == decide(2)

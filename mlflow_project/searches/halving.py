"""Asynchronous successive halving: which trial is trained next, and how far.

L. Li and others, A System for Massively Parallel Hyperparameter Tuning, MLSys 2020. Of the trials that have reached a
rung, the best 1 in `reduction` go on to the next. Decisions are a function of the results and of the order in which
they are told: nothing here is random or looks at a clock.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hw2.common.formatting import format_percent, plural


@dataclass(frozen=True)
class Outcome:
    """What a trial has reached at a rung; seconds are those of the epochs since the rung before."""

    accuracy: float
    loss: float
    seconds: float = 0.0
    failed: str = ""
    """Why its training ended there, where it did."""


@dataclass(frozen=True)
class Step:
    """Training one trial to the epochs of a rung."""

    number: int
    rung: int


@dataclass
class TrialState:
    """A trial's results so far, one for each rung that it has reached; target: the rung to which it is trained."""

    number: int
    outcomes: list[Outcome] = field(default_factory=list)
    target: int | None = None

    @property
    def rung(self) -> int:
        """Return the highest rung that it has reached, -1 for none."""
        return len(self.outcomes) - 1

    @property
    def failed(self) -> str:
        """Return why it can't go on; empty where it can."""
        return self.outcomes[-1].failed if self.outcomes else ""

    def key(self, rung: int) -> tuple[float, float, int]:
        """Return what sorts trials at a rung, the best first: accuracy, then loss, then the earlier one."""
        outcome = self.outcomes[min(rung, self.rung)]
        if outcome.failed:
            return math.inf, math.inf, self.number
        return -outcome.accuracy, outcome.loss, self.number


def make_rungs(low: int, high: int, reduction: int) -> tuple[int, ...]:
    """Return after how many epochs trials are compared: low times powers of `reduction`, and high."""
    rungs = []
    while low * reduction <= high:
        rungs.append(low)
        low *= reduction
    return (*rungs, high)


@dataclass(frozen=True)
class Budget:
    """So many epochs, or so many seconds of training on each worker; one of them is None."""

    epochs: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.epochs is not None:
            return plural(self.epochs, "epoch")
        assert self.seconds is not None
        return f"{self.seconds / 60:g} min" if self.seconds >= 60 else f"{self.seconds:g} s"

    @property
    def short(self) -> str:
        """Return it as a person writes it."""
        return f"{self.epochs}epochs" if self.epochs is not None else str(self).replace(" ", "")


class Halving:
    """The state of a search, told of each result in a fixed order, and asked for the next step.

    What it takes the leader to the last rung is never spent on anything else. What is left of the budget when nothing
    else may go on takes the next best further.

    Args:
        rungs: Epochs of each rung.
        reduction: One in so many goes on.
        most: Trials at most.
        budget: What all steps together may take.
        workers: Steps at a time.
        propose: Makes the next trial, by its number; False where the space has no other.
        free: Whether a trial was trained by earlier work, and costs nothing.
    """

    def __init__(
        self,
        rungs: tuple[int, ...],
        reduction: int,
        most: int,
        budget: Budget,
        workers: int,
        propose: Callable[[int], bool],
        free: Callable[[int], bool],
    ) -> None:
        self.rungs = rungs
        self.reduction = reduction
        self.most = most
        self.budget = budget
        self.workers = workers
        self.trials: list[TrialState] = []
        self.epochs = 0
        """Trained so far, and told."""
        self.seconds = 0.0
        self._propose = propose
        self._free = free
        self._exhausted = False

    def cost(self, step: Step) -> int:
        """Return the epochs of a step."""
        if self._free(step.number):
            return 0
        return self.rungs[step.rung] - (self.rungs[step.rung - 1] if step.rung else 0)

    def tell(self, step: Step, outcome: Outcome) -> None:
        """Take the result of a step."""
        trial = self.trials[step.number]
        trial.outcomes.append(outcome)
        trial.target = None
        cost = self.cost(step)
        self.epochs += cost
        self.seconds += outcome.seconds if cost else 0.0

    def next_step(self) -> Step | None:
        """Return the next step; None where there is none, or none before another result."""
        step = next(self._promotions(), None)
        if step is None and self._fits(first := Step(len(self.trials), 0)) and self._may_propose():
            self.trials.append(TrialState(first.number))
            step = first
        if step is None and not any(trial.target is not None for trial in self.trials):
            step = self._finish()
        if step is not None:
            self.trials[step.number].target = step.rung
        return step

    def ranking(self, rung: int) -> list[TrialState]:
        """Return the trials that have reached a rung, the best first."""
        return sorted((t for t in self.trials if t.rung >= rung), key=lambda trial: trial.key(rung))

    @property
    def leader(self) -> TrialState | None:
        """Return the best trial of the highest rung; None where every trial has failed."""
        for rung in reversed(range(len(self.rungs))):
            for trial in self.ranking(rung):
                if not trial.failed:
                    return trial
        return None

    def describe_end(self, trial: TrialState) -> str:
        """Describe in one line why a trial went no further than its rung."""
        if trial.failed:
            return trial.failed
        if trial.rung < 0:
            return "not trained"
        place = [other.number for other in self.ranking(trial.rung)].index(trial.number) + 1
        reached = len(self.ranking(trial.rung))
        of = f"{_ordinal(place)} of {reached} after {plural(self.rungs[trial.rung], 'epoch')}"
        of += f" with {format_percent(trial.outcomes[-1].accuracy, 2)} of the validation images"
        if trial.rung == len(self.rungs) - 1:
            return of
        went_on = sum(other.rung > trial.rung for other in self.trials)
        return f"{of}; {went_on} went on"

    def _promotions(self) -> Iterator[Step]:
        for rung in reversed(range(len(self.rungs) - 1)):
            ranking = self.ranking(rung)
            for trial in ranking[: len(ranking) // self.reduction]:
                step = Step(trial.number, rung + 1)
                if trial.rung == rung and trial.target is None and not trial.failed and self._fits(step):
                    yield step

    def _may_propose(self) -> bool:
        number = len(self.trials)
        self._exhausted = self._exhausted or number >= self.most or not self._propose(number)
        return not self._exhausted

    def _finish(self) -> Step | None:
        """When nothing else is left to do, take the leader to the last rung whatever the budget, then the next best.

        A quota of one in `reduction` stands for trials still to come; with none, what is left of the budget would
        be lost.
        """
        leader, last = self.leader, len(self.rungs) - 1
        if leader is None:
            return None
        if leader.rung < last:
            return Step(leader.number, leader.rung + 1)
        left = (
            t for rung in reversed(range(last)) for t in self.ranking(rung) if t.rung == rung and not t.failed
        )
        steps = (Step(trial.number, trial.rung + 1) for trial in left)
        return next((step for step in steps if self._fits(step, to_the_end=True)), None)

    def _fits(self, step: Step, to_the_end: bool = False) -> bool:
        """Return whether the budget has room for a step, for all that run, and for the leader's way to the end.

        to_the_end: instead of the leader's way, for that of the step's own trial.
        """
        running = [Step(t.number, t.target) for t in self.trials if t.target is not None]
        highest = max([step.rung, *(max(t.rung, t.target or 0) for t in self.trials if not t.failed)])
        reserve = self.rungs[-1] - self.rungs[step.rung if to_the_end else highest]
        epochs = sum(map(self.cost, [*running, step])) if step.rung else self._cost_of_new(running)
        if self.budget.epochs is not None:
            return self.epochs + epochs + reserve <= self.budget.epochs
        assert self.budget.seconds is not None
        rate = self.seconds / self.epochs if self.epochs else 0.0
        used = (self.seconds + epochs * rate) / self.workers
        return used + reserve * rate <= self.budget.seconds

    def _cost_of_new(self, running: list[Step]) -> int:
        # Whether it was trained by earlier work is known only once it is proposed.
        return sum(map(self.cost, running)) + self.rungs[0]


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number // 10 % 10 != 1 else 0, "th")
    return f"{number}{ending}"

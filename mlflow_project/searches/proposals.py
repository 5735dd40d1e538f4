"""What Optuna proposes: a function of the seed, the trial's number and the results so far, and of nothing else."""

import datetime
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from mlflow_project.searches.halving import TrialState
from mlflow_project.searches.space import Choices, SearchSpace, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STARTUP = 8
"""Trials before TPE has anything to learn from."""
_ATTEMPTS = 20


def propose(
    space: SearchSpace,
    sampler: str,
    seed: int,
    trials: Sequence[TrialState],
    params: Sequence[Mapping[str, Value]],
    rungs: Sequence[int],
) -> dict[str, Value] | None:
    """Propose the parameters of the next trial; None where the space has no other.

    Optuna is told of each trial anew, so that there is no state to be restored: what has reached the last rung is
    complete, what may still go on or has failed is pruned where it stands, and what has no result yet is running.
    """
    taken = [dict(values) for values in params]
    if space.size is not None and len(taken) >= space.size:
        return None
    for attempt in range(_ATTEMPTS):
        proposal = _ask(space, sampler, (seed, len(taken), attempt), trials, params, rungs)
        if proposal not in taken:
            return proposal
    return _first_unused(space, taken)


def _ask(
    space: SearchSpace,
    sampler: str,
    seed: tuple[int, int, int],
    trials: Sequence[TrialState],
    params: Sequence[Mapping[str, Value]],
    rungs: Sequence[int],
) -> dict[str, Value]:
    import optuna

    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=number)
        if sampler == "random"
        else optuna.samplers.TPESampler(seed=number, n_startup_trials=STARTUP),
    )
    distributions = space.distributions()
    for trial, values in zip(trials, params, strict=True):
        study.add_trial(_frozen(trial, values, distributions, rungs))
    return space.tidy(study.ask(distributions).params)


def _frozen(
    trial: TrialState,
    values: Mapping[str, Value],
    distributions: "Mapping[str, BaseDistribution]",
    rungs: Sequence[int],
) -> "FrozenTrial":
    from optuna.trial import FrozenTrial
    from optuna.trial import TrialState as State

    now = datetime.datetime(2000, 1, 1)
    reached = {rungs[rung]: outcome.accuracy for rung, outcome in enumerate(trial.outcomes)}
    complete = len(reached) == len(rungs) and not trial.failed
    state = State.COMPLETE if complete else State.PRUNED if reached else State.RUNNING
    return FrozenTrial(
        number=trial.number, state=state, value=trial.outcomes[-1].accuracy if complete else None,
        datetime_start=now, datetime_complete=now if reached else None, params=dict(values),
        distributions=dict(distributions), user_attrs={}, system_attrs={}, intermediate_values=reached, trial_id=-1,
    )  # fmt: skip


def _first_unused(space: SearchSpace, taken: Collection[Mapping[str, Value]]) -> dict[str, Value] | None:
    """Return what is left of a space that is nearly used up."""
    lists = [axis.values for axis in space.axes.values() if isinstance(axis, Choices)]
    if len(lists) != len(space.axes):
        return None
    for values in product(*lists):
        candidate = dict(zip(space.axes, values, strict=True))
        if candidate not in taken:
            return candidate
    return None


def importances(
    space: SearchSpace, params: Sequence[Mapping[str, Value]], accuracies: Sequence[float]
) -> dict[str, float]:
    """Estimate how much of the accuracies' variance each parameter explains, by functional ANOVA over a forest.

    F. Hutter, H. Hoos and K. Leyton-Brown, ICML 2014. Empty where there is nothing to explain.
    """
    import optuna

    if len(space.axes) < 2:
        return dict.fromkeys(space.axes, 1.0)
    if len(accuracies) < 4 or len(set(accuracies)) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    for values, accuracy in zip(params, accuracies, strict=True):
        study.add_trial(
            optuna.create_trial(params=dict(values), distributions=space.distributions(), value=accuracy)
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(shares.get(name, 0.0)) for name in space.axes}

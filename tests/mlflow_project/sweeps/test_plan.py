"""A grid as a plan: what is shared, where a training begins, and how it is said."""

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw2.common.errors import ConfigurationError
from hw2.training.config import TrainingConfig
from mlflow_project.sweeps.plan import Grid, SweepPlan, TrainingJob, Trial, _chains, rows
from mlflow_project.training.run_spec import RunSpec


def trials(*epochs: int) -> list[Trial]:
    return [Trial(TrainingConfig(epochs=n), f"sha of {n}") for n in epochs]


def test_a_run_that_was_planned_before_there_was_a_warm_up_has_none() -> None:
    plan = json.loads(RunSpec(config=TrainingConfig(lr=0.1, validation_size=0)).to_json())
    assert plan["config"].pop("warmup") == 100
    assert RunSpec.from_json(json.dumps(plan)).config == TrainingConfig(lr=0.1, validation_size=0, warmup=0)


def test_a_grid_has_a_trial_for_each_combination() -> None:
    grid = Grid(
        base=TrainingConfig(momentum=0.5), lr=(0.1, 0.01), epochs=(8, 5), batch_size=(64,), seed=(0, 1)
    )
    configs = grid.configs()
    assert len(set(configs)) == 8
    assert {(c.lr, c.epochs, c.seed, c.momentum) for c in configs} == set(
        itertools.product((0.1, 0.01), (8, 5), (0, 1), (0.5,))
    )
    assert grid.name == "lr=0.1,0.01 epochs=8,5 seed=0,1"


def test_a_value_that_cannot_be_trained_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigurationError, match="lr is -1"):
        Grid(base=TrainingConfig(), lr=(0.1, -1.0), epochs=(5,), batch_size=(64,), seed=(0,)).configs()


def test_trials_that_differ_in_epochs_alone_are_one_training() -> None:
    (job,) = _chains(trials(5, 8), "fingerprint", {})
    assert [trial.config.epochs for trial in job.trials] == [5, 8]
    assert job.epochs == 8
    assert SweepPlan(tuple(trials(5, 8)), (job,)).epochs_alone == 13


def test_a_training_begins_at_the_most_advanced_state_that_fits() -> None:
    states = {Path("a"): (5, 0), Path("b"): (6, 30), Path("c"): (9, 0)}
    (job,) = _chains(trials(8), "fingerprint", states)
    assert (job.start, job.source, job.epochs) == ((6, 30), Path("b"), 2)


def test_a_state_beyond_a_trial_serves_only_those_after_it() -> None:
    first, second = _chains(trials(5, 8), "fingerprint", {Path("a"): (7, 0)})
    assert (first.start, first.epochs) == ((0, 0), 5)
    assert (second.start, second.epochs) == ((7, 0), 1)


@given(
    st.sets(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 9), st.just(0)), max_size=4),
)
def test_no_way_to_share_needs_fewer_epochs(epochs: set[int], at: list[tuple[int, int]]) -> None:
    states = {Path(str(n)): position for n, position in enumerate(at)}
    jobs = _chains(trials(*sorted(epochs)), "fingerprint", states)

    def least(wanted: int) -> int:
        """What a trial costs if it may begin at any state, and at the end of any smaller trial."""
        begins = [0, *(n for n, _ in at if n <= wanted), *(n for n in epochs if n < wanted)]
        return wanted - max(begins)

    assert sum(job.epochs for job in jobs) == sum(map(least, epochs))
    assert [trial.config.epochs for job in jobs for trial in job.trials] == sorted(epochs)


def test_the_time_of_a_plan_is_that_of_its_longest_training_at_least() -> None:
    jobs = [TrainingJob((trial,), "fingerprint") for trial in trials(2, 8)]
    plan = SweepPlan(tuple(trials(2, 8)), tuple(jobs))
    assert plan.seconds(images_per_second=100, images=1000, workers=1) == pytest.approx(100)
    assert plan.seconds(images_per_second=100, images=1000, workers=4) == pytest.approx(80)


def test_a_sha256_names_the_grid_whatever_the_order_and_state_of_its_trials() -> None:
    plan = SweepPlan(tuple(trials(5, 8)), ())
    done = dataclasses.replace(plan.trials[0], existing=None, aliases=("m1",))
    assert SweepPlan((plan.trials[1], done), ()).sha256 == plan.sha256
    assert SweepPlan(tuple(trials(5)), ()).sha256 != plan.sha256


def test_the_plan_says_what_each_trial_trains_and_what_it_shares() -> None:
    jobs = _chains(trials(5, 8), "fingerprint", {Path("a"): (3, 0)})
    first, second = rows(SweepPlan(tuple(trials(5, 8)), tuple(jobs)))
    assert (first["epochs_trained"], first["shared"], first["from_epoch"]) == (2, 3, 4)
    assert (second["epochs_trained"], second["shared"], second["from_epoch"]) == (3, 5, 6)

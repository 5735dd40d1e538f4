"""A grid as a plan: what is shared, where a training begins, and how it is said."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw2.configuration import TrainingConfig
from hw2.errors import ConfigurationError
from mlflow_project.sweep import Cell, Grid, Plan, Stage, _chains, rows


def cells(*epochs: int) -> list[Cell]:
    return [Cell(TrainingConfig(epochs=n), f"sha of {n}") for n in epochs]


def test_a_grid_has_a_cell_for_each_combination() -> None:
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


def test_cells_that_differ_in_epochs_alone_are_one_training() -> None:
    (stage,) = _chains(cells(5, 8), "fingerprint", {})
    assert [cell.config.epochs for cell in stage.cells] == [5, 8]
    assert stage.epochs == 8
    assert Plan(tuple(cells(5, 8)), (stage,)).epochs_alone == 13


def test_a_training_begins_at_the_most_advanced_state_that_fits() -> None:
    states = {Path("a"): (5, 0), Path("b"): (6, 30), Path("c"): (9, 0)}
    (stage,) = _chains(cells(8), "fingerprint", states)
    assert (stage.start, stage.source, stage.epochs) == ((6, 30), Path("b"), 2)


def test_a_state_beyond_a_cell_serves_only_those_after_it() -> None:
    first, second = _chains(cells(5, 8), "fingerprint", {Path("a"): (7, 0)})
    assert (first.start, first.epochs) == ((0, 0), 5)
    assert (second.start, second.epochs) == ((7, 0), 1)


@given(
    st.sets(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 9), st.just(0)), max_size=4),
)
def test_no_way_to_share_needs_fewer_epochs(epochs: set[int], at: list[tuple[int, int]]) -> None:
    states = {Path(str(n)): position for n, position in enumerate(at)}
    stages = _chains(cells(*sorted(epochs)), "fingerprint", states)

    def least(wanted: int) -> int:
        """What a cell costs if it may begin at any state, and at the end of any smaller cell."""
        begins = [0, *(n for n, _ in at if n <= wanted), *(n for n in epochs if n < wanted)]
        return wanted - max(begins)

    assert sum(stage.epochs for stage in stages) == sum(map(least, epochs))
    assert [cell.config.epochs for stage in stages for cell in stage.cells] == sorted(epochs)


def test_the_time_of_a_plan_is_that_of_its_longest_training_at_least() -> None:
    stages = [Stage((cell,), "fingerprint") for cell in cells(2, 8)]
    plan = Plan(tuple(cells(2, 8)), tuple(stages))
    assert plan.seconds(images_per_second=100, pictures=1000, workers=1) == pytest.approx(100)
    assert plan.seconds(images_per_second=100, pictures=1000, workers=4) == pytest.approx(80)


def test_a_sha256_names_the_grid_whatever_the_order_and_state_of_its_cells() -> None:
    plan = Plan(tuple(cells(5, 8)), ())
    done = dataclasses.replace(plan.cells[0], found=None, aliases=("m1",))
    assert Plan((plan.cells[1], done), ()).sha256 == plan.sha256
    assert Plan(tuple(cells(5)), ()).sha256 != plan.sha256


def test_the_plan_says_what_each_cell_trains_and_what_it_shares() -> None:
    stages = _chains(cells(5, 8), "fingerprint", {Path("a"): (3, 0)})
    first, second = rows(Plan(tuple(cells(5, 8)), tuple(stages)))
    assert (first["epochs_trained"], first["shared"], first["from_epoch"]) == (2, 3, 4)
    assert (second["epochs_trained"], second["shared"], second["from_epoch"]) == (3, 5, 6)

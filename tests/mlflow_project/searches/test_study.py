"""Proposals follow from the results; the record of both survives, and belongs to one search."""

import math
from pathlib import Path

import pytest

from mlflow_project.common.errors import UsageError
from mlflow_project.searches.halving import Outcome, Step, TrialState
from mlflow_project.searches.proposals import STARTUP, importances, propose
from mlflow_project.searches.space import Choices, Interval, SearchSpace, Value
from mlflow_project.searches.study import Proposal, Study

SPACE = SearchSpace({"lr": Interval(0.001, 0.3, log=True), "batch_size": Choices((32, 64))})
RUNGS = (1, 3)


def proposed(sampler: str, seed: int, count: int, running: int = 0) -> list[dict[str, Value]]:
    """Propose again and again, as if a rate of 0.1 were best; `running` trials have no result yet."""
    trials: list[TrialState] = []
    params: list[dict[str, Value]] = []
    for number in range(count):
        values = propose(SPACE, sampler, seed, trials, params, RUNGS)
        assert values is not None
        done = number < count - running
        accuracy = 1 - abs(math.log10(values["lr"]) + 1) / 3
        trials.append(TrialState(number, [Outcome(accuracy, 1.0)] if done else []))
        params.append(values)
    return params


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_and_results_give_the_same_proposals(sampler: str) -> None:
    first = proposed(sampler, 1, 14, running=3)
    assert first == proposed(sampler, 1, 14, running=3)
    assert first != proposed(sampler, 2, 14, running=3)
    assert len({tuple(values.values()) for values in first}) == 14


def test_tpe_learns_where_chance_does_not() -> None:
    def distance(sampler: str) -> float:
        late = [v["lr"] for seed in range(3) for v in proposed(sampler, seed, STARTUP + 8)[STARTUP:]]
        return sum(abs(math.log10(lr) + 1) for lr in late) / len(late)

    assert distance("tpe") < distance("random")


def test_a_space_that_is_used_up_has_no_other_proposal() -> None:
    space = SearchSpace({"lr": Choices((0.1, 0.01)), "batch_size": Choices((32, 64))})
    trials: list[TrialState] = []
    params: list[dict[str, Value]] = []
    while (values := propose(space, "tpe", 0, trials, params, RUNGS)) is not None:
        trials.append(TrialState(len(params), [Outcome(0.5, 1.0)]))
        params.append(values)
    assert sorted(tuple(values.values()) for values in params) == [
        (0.01, 32), (0.01, 64), (0.1, 32), (0.1, 64),
    ]  # fmt: skip


def test_the_record_is_read_back_and_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    where = str(tmp_path / "study.journal")
    study = Study(where, "a" * 64, "lr=1", SPACE)
    study.add(Proposal({"lr": 0.1, "batch_size": 64}))
    study.add(Proposal({"lr": 0.2, "batch_size": 32}, reused_run_id="run"))
    study.record(Step(0, 0), 1, Outcome(0.9, 0.5, 12.0))
    study.record(Step(1, 0), 1, Outcome(0.0, math.inf, 3.0, "the loss is nan"))
    study.end(0, complete=False, failed=False, value=0.9)
    with Path(where).open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # what a killed process leaves

    again = Study(where, "a" * 64, "lr=1", SPACE)
    assert again.proposals == study.proposals
    assert again.outcome(0, 1) == Outcome(0.9, 0.5, 12.0)
    assert again.outcome(1, 1) == Outcome(0.0, math.inf, 3.0, "the loss is nan")
    assert again.outcome(0, 3) is None
    again.add(Proposal({"lr": 0.3, "batch_size": 32}))
    again.end(0, complete=False, failed=False, value=0.9)
    assert len(Study(where, "a" * 64, "lr=1", SPACE).proposals) == 3


@pytest.mark.parametrize("address", ["{}/study.journal", "sqlite:///{}/study.db"])
def test_a_study_of_another_search_is_refused(address: str, tmp_path: Path) -> None:
    where = address.format(tmp_path)
    Study(where, "a" * 64, "lr=0.001..0.3", SPACE)
    Study(where, "a" * 64, "lr=0.001..0.3", SPACE)
    with pytest.raises(UsageError) as refused:
        Study(where, "b" * 64, "lr=0.1..0.3", SPACE)
    assert "has the search lr=0.001..0.3, and this one is lr=0.1..0.3; name another study" in str(
        refused.value
    )


@pytest.mark.parametrize("where", ["nonsense://x", "/proc/no/study"])
def test_a_place_that_takes_no_study_is_one_line(where: str) -> None:
    with pytest.raises(UsageError, match="can't be opened") as refused:
        Study(where, "a" * 64, "lr", SPACE)
    assert "\n" not in str(refused.value)


def test_importance_names_what_decides() -> None:
    params = [{"lr": 0.001 * 1.5**k, "batch_size": (32, 64)[k % 2]} for k in range(14)]
    shares = importances(SPACE, params, [k / 14 for k in range(14)])
    assert shares["lr"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(SPACE, params[:3], [0.1, 0.2, 0.3]) == {}
    assert importances(SPACE, params, [0.5] * 14) == {}

"""The simulated studies have the accuracies that they say, and what `compare` promises is checked."""

from argparse import Namespace

import numpy as np
import pytest

from benchmarks.comparison import verdicts
from benchmarks.comparison.verdicts import BETTER, EQUAL, Scenario, decide, missed, simulate


@pytest.mark.parametrize("interaction", [0.0, 1.0])
def test_a_study_has_the_accuracies_and_the_scatter_that_it_says(interaction: float) -> None:
    scenario = Scenario(name="x", accuracies=(97.5, 95.0), scatters=(0.0, 1.0), interaction=interaction)
    random = np.random.default_rng(1)
    first, second = scenario.draw(400, random)
    shares = 100 * first.mean(axis=1), 100 * second.mean(axis=1)
    assert shares[0].mean() == pytest.approx(97.5, abs=0.4)  # one draw of 10,000 images
    assert shares[1].mean() == pytest.approx(95.0, abs=0.4)
    assert shares[0].std() < 0.2
    assert shares[1].std() == pytest.approx(1.0, abs=0.15)


def test_seeds_that_fail_are_not_in_the_study() -> None:
    scenario = Scenario(name="x", failing=0.5)
    first, _ = scenario.draw(200, np.random.default_rng(1))
    assert 60 < len(first) < 140
    first, second = Scenario(name="x", failing=1.0).draw(3, np.random.default_rng(1))
    assert len(first) == len(second) == 0
    assert not decide([first, second])


def test_a_large_difference_is_found_and_none_is_not() -> None:
    seed = 5
    print(f"seed of the simulation: {seed}")
    random = np.random.default_rng(seed)
    large = Scenario(name="x", accuracies=(97.5, 95.0))
    assert simulate(large, 3, {"compare": decide}, 10, random) == {"compare": 10}
    assert simulate(EQUAL[0], 3, {"compare": decide}, 40, random)["compare"] <= 3


def test_what_is_promised_and_not_held_is_named() -> None:
    assert missed(EQUAL[0], 3, 5.0, 1000) == missed(BETTER[0], 5, 80.0, 1000) == []
    assert missed(EQUAL[0], 3, 7.0, 1000) == ["seeds scatter by 0.1, 3 seeds: called better falsely in 7.0 %"]
    assert missed(BETTER[0], 5, 79.0, 1000) == ["0.5 points better, scatter 0.1, 5 seeds: found in 79.0 %"]
    assert missed(BETTER[0], 2, 1.0, 1000) == []


def test_every_kind_of_study_has_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "SEEDS", (2,))
    report = verdicts.run(Namespace(studies=2, resamples=20, seed=0))
    assert [row["studies"] for row in report.rows] == [one.name for one in (*EQUAL, *BETTER)]
    assert {row["bootstrap (%)"] for row in report.rows if "fail" in str(row["studies"])} == {"–"}

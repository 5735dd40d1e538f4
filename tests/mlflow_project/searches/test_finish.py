"""The verdict: who wins, what can't be told from it, and what is tested."""

import numpy as np
import pytest

from hw2.comparison.model_predictions import ModelPredictions
from mlflow_project.searches.finish import Rival, Verdict, compare_with_best
from mlflow_project.searches.halving import Outcome, TrialState
from mlflow_project.sweeps.job_spec import TrialResult


def answers(name: str, wrong: range) -> ModelPredictions:
    """A model that is wrong on these of 1,000 images."""
    labels = np.zeros(1000, dtype=np.int64)
    predicted = labels.copy()
    predicted[list(wrong)] = 1
    return ModelPredictions(name, {}, labels, predicted, "a" * 64)


def test_only_images_that_one_of_the_two_has_right_count() -> None:
    near, far, same = answers("near", range(5, 27)), answers("far", range(90)), answers("same", range(20))
    rows = compare_with_best(answers("best", range(20)), [near, far, same])
    assert [row[0] for row in rows] == [0.978, 0.91, 0.98]
    assert [row[1] for row in rows] == pytest.approx([0.002, 0.07, 0.0])
    assert [row[4] >= 0.05 for row in rows] == [True, False, True]
    assert rows[1][2] < 0.07 < rows[1][3]
    assert compare_with_best(answers("best", range(20)), []) == []


def rival(number: int, complete: bool, p: float) -> Rival:
    return Rival(number, f"trial {number}", 9 if complete else 3, complete, 0.98, 0.01, -0.01, 0.03, p)


def verdict(*rivals: Rival) -> Verdict:
    winner = TrialState(0, [Outcome(0.99, 0.1)])
    return Verdict(winner=winner, name="trial 0", accuracy=0.99, images=100, rivals=rivals)


def test_what_went_as_far_and_is_not_told_apart_is_tested_and_what_was_stopped_is_not() -> None:
    result = {0: TrialResult(sha256="", state="trained", metrics={"test_accuracy": 0.985})}
    decided = verdict(rival(1, True, 0.4), rival(2, False, 0.3), rival(3, True, 0.001), rival(4, False, 0.01))
    assert decided.finalists == [0, 1]
    assert decided.text(result) == (
        "trial 0 wins on validation: 99.00 % of 100 images; on test 98.50 % (95 % interval 98.50 % to 98.50 %). "
        "It can't be told from trial 1 (98.00 %), which was tested, too. "
        "Nor can it be told on validation from trial 2 (98.00 %), stopped early and not tested."
    )
    clear = verdict(rival(3, True, 0.001)).text(result)
    assert clear.endswith("It is better than trial 3, the next, by 1.00 points (p = 0.001).")
    assert verdict().text(result).endswith("No other comes near.")
    many = verdict(*(rival(number, False, 0.5) for number in range(1, 9))).text(result)
    assert "trial 5 (98.00 %) and 3 others, stopped early" in many

"""The best of several candidates, from hand-made answers whose verdict is known."""

import numpy as np
import pytest

from hw2.common.errors import ComparisonError
from hw2.common.types import BoolArray
from hw2.comparison.best import compare_with_best
from hw2.comparison.significance import best_correction, holm_correction, mcnemar


def answers(*wrong: range) -> BoolArray:
    """Of seeds that are wrong on the images at these places, of 1,000."""
    correct = np.ones((len(wrong), 1000), dtype=bool)
    for row, places in zip(correct, wrong, strict=True):
        row[list(places)] = False
    return correct


def test_the_best_its_rivals_and_the_rest_of_single_models() -> None:
    verdict = compare_with_best(
        {"poor": answers(range(90))[0], "best": answers(range(10))[0], "near": answers(range(5, 17))[0]}
    )
    assert (verdict.best, verdict.rivals, verdict.worse) == ("best", ("near",), ("poor",))
    assert verdict.accuracy == 0.99
    assert verdict.table["candidate"].tolist() == ["near", "poor"]
    assert verdict.table["p"].tolist() == pytest.approx([mcnemar(5, 7), mcnemar(0, 80)])
    assert verdict.sentences() == [
        "The best: best, 99.00 %.",
        "Can't be told from it: near (-0.20 points, -0.90 to +0.51, p = 0.77).",
        "Worse: poor (-8.00 points, -9.67 to -6.29, p < 0.0001).",
    ]


def test_over_seeds_a_lead_that_one_seed_has_is_none() -> None:
    lucky = {"a": answers(range(10))[0], "b": answers(range(30))[0]}
    assert compare_with_best(lucky).worse == ("b",)
    seeds = {
        "a": answers(range(10), range(40), range(25)),
        "b": answers(range(30), range(20), range(35)),
    }
    assert compare_with_best(seeds).rivals == ("b",)


def test_over_seeds_a_lead_that_all_seeds_have_is_one() -> None:
    verdict = compare_with_best(
        {"a": answers(range(10), range(12), range(9)), "b": answers(range(50), range(53), range(49))}
    )
    assert (verdict.best, verdict.worse) == ("a", ("b",))


def test_the_least_p_counts_for_all_pairs_and_each_decided_one_for_fewer() -> None:
    # Four candidates: 6 pairs, then 3 among the three that are left, then 1.
    assert best_correction([0.03, 0.001, 0.02]) == pytest.approx([0.06, 0.006, 0.06])
    assert best_correction([0.03]) == [0.03]
    assert best_correction([]) == []


@pytest.mark.parametrize("p", [[0.01, 0.02, 0.04], [0.004, 0.2, 0.9], [0.5, 0.5, 0.5]])
def test_the_correction_is_stricter_than_holms_for_the_least_p(p: list[float]) -> None:
    """The best was chosen by the same data; Holm's correction takes it as given."""
    assert min(best_correction(p)) >= min(holm_correction(p))


def test_of_six_equal_models_one_is_rarely_called_worse() -> None:
    seed = 3
    print(f"seed of the simulation: {seed}")
    generator = np.random.default_rng(seed)
    called = 0
    for _ in range(200):
        models = generator.random((6, 2000)) < 0.9
        called += bool(compare_with_best({str(n): model for n, model in enumerate(models)}).worse)
    assert called <= 10


def test_one_candidate_is_the_best_of_its_kind() -> None:
    verdict = compare_with_best({"only": answers(range(10))})
    assert (verdict.best, verdict.rivals, verdict.worse) == ("only", (), ())
    assert verdict.sentences() == ["The best: only, 99.00 %."]


def test_what_cant_be_compared_is_refused_in_one_line() -> None:
    with pytest.raises(ComparisonError, match="no candidate"):
        compare_with_best({})
    with pytest.raises(ComparisonError, match="999 and 1,000 images"):
        compare_with_best({"a": answers(range(1)), "b": answers(range(1))[:, 1:]})
    with pytest.raises(ComparisonError, match="b has one seed and others have several"):
        compare_with_best({"a": answers(range(1), range(2)), "b": answers(range(1))})

"""Verdicts on several models, from hand-made predictions whose answer is known."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw2.common.errors import ComparisonError
from hw2.comparison.compare import compare, pareto_front
from hw2.comparison.model_predictions import ModelPredictions
from hw2.evaluation.predictions import Predictions

SHA = "a" * 64
LABELS = np.arange(1000) % 10


def model(
    name: str,
    wrong: range | list[int] = range(0),
    *,
    configuration: Mapping[str, object] | None = None,
    labels: np.ndarray = LABELS,
    sha: str = SHA,
    seconds: float | None = 10.0,
    size: int | None = 579_000,
) -> ModelPredictions:
    """A model that is wrong on the images at these places."""
    predicted = labels.copy()
    predicted[list(wrong)] = (predicted[list(wrong)] + 1) % 10
    return ModelPredictions(name, configuration or {"lr": 0.1}, labels, predicted, sha, seconds, size)


class TestVerdicts:
    def test_a_difference_of_two_images_is_none(self) -> None:
        result = compare([model("m2", range(29)), model("m3", range(29, 60))])
        assert (
            result.pair("m2", "m3")["verdict"] == "no significant difference: 31 images against 29, p = 0.90"
        )
        assert result.pair("m2", "m3")["better"] == ""
        assert result.overall_verdict.startswith(
            "no significant difference among the 2 models: Cochran's Q = 0.07"
        )

    @pytest.mark.parametrize("swapped", [False, True])
    def test_the_better_model_is_named_with_its_images_first(self, swapped: bool) -> None:
        models = [model("good", range(2)), model("bad", range(2, 60))]
        result = compare(models[::-1] if swapped else models)
        row = result.pair("good", "bad")
        assert row["better"] == "good"
        assert row["verdict"] == "good is better: 58 images against 2, p < 0.0001"
        assert "not all equally good" in result.overall_verdict

    def test_models_that_answer_alike_are_a_tie(self) -> None:
        result = compare([model("a", range(5)), model("b", range(5)), model("c", range(5))])
        assert set(result.pairs["verdict"]) == {"a tie: the same answer to each of 1,000 images"}
        assert (result.pairs["p_holm"] == 1.0).all()
        assert tuple(result.overall) == (0.0, 2, 1.0)
        assert result.overall_verdict == "a tie: all 3 models are right and wrong on the same images"

    def test_models_with_the_same_mistakes_but_other_answers_are_a_tie(self) -> None:
        first = model("a", range(5))
        other = first.predicted.copy()
        other[:5] = (other[:5] + 3) % 10
        second = ModelPredictions("b", {}, LABELS, other, SHA)
        assert (
            compare([first, second]).pair("a", "b")["verdict"] == "a tie: right and wrong on the same images"
        )

    def test_p_values_are_corrected_for_the_number_of_pairs(self) -> None:
        models = [model("a", range(10)), model("b", range(10, 14)), model("c", range(14, 30))]
        result = compare(models)
        assert result.pairs["p_holm"].min() == pytest.approx(3 * result.pairs["p"].min())
        assert result.pairs["verdict"].str.contains("corrected for 3 pairs").all()

    def test_what_only_many_tests_make_look_like_a_difference_is_none(self) -> None:
        result = compare([model("a", range(2)), model("b", range(2, 12)), model("c", range(12, 18))])
        row = result.pair("a", "b")
        assert row["p"] == pytest.approx(0.0386, abs=1e-4)
        assert row["better"] == ""
        assert "10 images against 2, p = 0.12 (corrected for 3 pairs)" in row["verdict"]

    def test_the_counts_of_a_pair_worked_by_hand(self) -> None:
        row = compare([model("a", [0, 1, 2]), model("b", [2, 3])]).pairs.iloc[0]
        assert (row["only_first_right"], row["only_second_right"]) == (1, 2)
        assert row["same_answer"] == 997
        assert row["difference"] == pytest.approx(-0.001)
        assert row["low"] < row["difference"] < row["high"]

    def test_one_model_alone_has_an_accuracy_and_no_verdict(self) -> None:
        result = compare([model("only", range(10))])
        assert len(result.pairs) == 0
        assert result.accuracy["accuracy"].tolist() == [0.99]
        assert result.overall_verdict == "one model: nothing to compare it with"

    @given(st.integers(0, 2**32 - 1))
    def test_the_order_of_models_changes_no_p_value(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        models = [model(name, generator.choice(1000, 30, replace=False).tolist()) for name in "abc"]
        forward, backward = compare(models), compare(models[::-1])
        for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
            one, other = forward.pair(first, second), backward.pair(first, second)
            assert one["p_holm"] == pytest.approx(other["p_holm"])
            assert one["difference"] == pytest.approx(-other["difference"])
            assert one["better"] == other["better"]
            assert 0 <= one["p"] <= one["p_holm"] <= 1

    def test_the_best_is_compared_with_each_other_model(self) -> None:
        result = compare([model("poor", range(90)), model("best", range(10)), model("near", range(5, 17))])
        assert (result.best.best, result.best.rivals, result.best.worse) == ("best", ("near",), ("poor",))

    def test_a_pair_that_is_not_there_is_a_key_error(self) -> None:
        with pytest.raises(KeyError):
            compare([model("a"), model("b")]).pair("a", "c")


class TestAccuracies:
    def test_each_has_its_wilson_interval(self) -> None:
        row = compare([model("a", range(14))]).accuracy.iloc[0]
        assert (row["right"], row["pictures"], row["accuracy"]) == (986, 1000, 0.986)
        assert (row["low"], row["high"]) == pytest.approx((0.976637, 0.991642), abs=1e-6)

    def test_the_pareto_front_has_what_no_other_beats(self) -> None:
        models = [
            model("best", range(5), seconds=100),
            model("fast", range(20), seconds=10),
            model("slow and worse", range(20), seconds=11),
            model("small", range(30), seconds=200, size=1000),
        ]
        table = compare(models).accuracy
        assert table.loc[table["pareto"], "model"].tolist() == ["best", "fast", "small"]

    def test_equal_models_are_on_the_front_together(self) -> None:
        assert pareto_front(np.array([0.9, 0.9]), np.array([[1.0], [1.0]])).tolist() == [True, True]

    def test_an_unknown_cost_is_beaten_by_a_known_one(self) -> None:
        table = compare([model("a", seconds=None), model("b", seconds=5)]).accuracy
        assert table["pareto"].tolist() == [False, True]
        assert pd.isna(table["train_seconds"].iloc[0])

    @given(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)
    )
    def test_the_front_equals_a_plain_loop(self, points: list[tuple[int, int, int]]) -> None:
        front = pareto_front(
            np.array([p[0] for p in points], float), np.array([p[1:] for p in points], float)
        )
        for point, on_front in zip(points, front, strict=True):
            beaten = any(
                o != point and o[0] >= point[0] and o[1] <= point[1] and o[2] <= point[2] for o in points
            )
            assert on_front == (not beaten)


class TestRefusals:
    def test_other_images_are_refused_with_both_sums(self) -> None:
        with pytest.raises(ComparisonError) as caught:
            compare([model("a"), model("b", sha="b" * 64)])
        assert "a" * 64 in str(caught.value)
        assert "b" * 64 in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_no_model_two_names_alike_no_sum_or_other_labels_are_refused(self) -> None:
        with pytest.raises(ComparisonError, match="no model to compare"):
            compare([])
        with pytest.raises(ComparisonError, match="two models are called m1"):
            compare([model("m1"), model("m1")])
        with pytest.raises(ComparisonError, match="expected images and their SHA-256"):
            compare([model("a", sha="")])
        with pytest.raises(ComparisonError, match="their stored labels differ"):
            compare([model("a"), model("b", labels=LABELS[::-1].copy())])


def test_stored_predictions_become_a_model() -> None:
    stored = Predictions("mnist", SHA, LABELS, LABELS, np.zeros((1000, 10), np.float32), None, None)
    made = ModelPredictions.of("m1", {"lr": 0.1, "seed": 3}, stored, 12.5, 579_000)
    assert (made.name, made.accuracy, made.seed, made.images_sha256) == ("m1", 1.0, 3, SHA)
    assert (made.train_seconds, made.model_size_bytes) == (12.5, 579_000)

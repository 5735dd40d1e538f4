"""Measures against hand-worked cases, against other libraries, and against plain loops."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hw2.evaluation.metrics import (
    auroc,
    calibration_error,
    confusion_matrix,
    confusion_table,
    coverage_table,
    cross_entropy,
    reliability_table,
    softmax,
    wilson_interval,
)


class TestLossAndConfusion:
    def test_huge_logits_neither_overflow_nor_lose_the_loss(self) -> None:
        logits = np.array([[1e4, -1e4, 0.0]])
        assert softmax(logits).tolist() == [[1.0, 0.0, 0.0]]
        assert cross_entropy(np.array([1]), logits) == pytest.approx(2e4)

    def test_confusion_counts_labels_in_rows_and_predictions_in_columns(self) -> None:
        matrix = confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2]), classes=4)
        assert matrix.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
        table = confusion_table(matrix, ("zero", "one", "two", "three"))
        assert table["label"].tolist() == ["zero", "one", "two", "three"]
        assert table["predicted_2"].tolist() == [1, 0, 1, 0]

    def test_confusion_equals_scikit_learns(self) -> None:
        from sklearn import metrics

        labels, predicted = np.random.default_rng(11).integers(0, 10, (2, 57))
        theirs = metrics.confusion_matrix(labels, predicted, labels=range(10))
        np.testing.assert_array_equal(confusion_matrix(labels, predicted), theirs)


class TestAuroc:
    @given(*[st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 7.0]), min_size=1, max_size=30)] * 2)
    def test_it_equals_scikit_learns_ties_included(self, digits: list[float], outliers: list[float]) -> None:
        from sklearn.metrics import roc_auc_score

        is_outlier = [0] * len(digits) + [1] * len(outliers)
        assert auroc(digits, outliers) == pytest.approx(
            roc_auc_score(is_outlier, digits + outliers), abs=1e-12
        )


class TestWilsonInterval:
    @given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_it_holds_the_share_and_equals_statsmodels(self, counts: tuple[int, int]) -> None:
        from statsmodels.stats.proportion import proportion_confint

        correct, n = counts
        low, high = wilson_interval(correct, n)
        assert 0 <= low <= correct / n <= high <= 1
        assert (low, high) == pytest.approx(proportion_confint(correct, n, method="wilson"), abs=1e-12)

    def test_all_right_still_leaves_room_for_doubt(self) -> None:
        low, high = wilson_interval(10, 10)
        assert low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)  # n / (n + z^2)
        assert high == 1.0

    @pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 2)])
    def test_impossible_counts_are_refused(self, correct: int, n: int) -> None:
        with pytest.raises(ValueError, match="expected 0 <= correct <= n"):
            wilson_interval(correct, n)


class TestCalibration:
    def test_a_confidence_of_exactly_one_counts(self) -> None:
        confidence, correct = np.array([1.0, 1.0, 1.0, 1.0]), np.array([True, True, True, False])
        table = reliability_table(confidence, correct)
        assert table["count"].tolist() == [0] * 14 + [4]
        assert calibration_error(confidence, correct) == pytest.approx(0.25)

    def test_a_confidence_on_an_edge_belongs_to_the_bin_below(self) -> None:
        table = reliability_table(np.array([0.0, 0.2, 0.4]), np.array([True, True, True]), bins=5)
        assert table["count"].tolist() == [2, 1, 0, 0, 0]

    def test_two_bins_worked_by_hand(self) -> None:
        confidence = np.array([0.6, 0.8, 0.2, 0.4])
        correct = np.array([True, False, True, False])
        # Each bin has half of the images and accuracy 0.5; mean confidence is 0.3 in one, 0.7 in the other.
        assert calibration_error(confidence, correct, bins=2) == pytest.approx(0.2)

    @given(
        arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(0.1, 1.0)),
        st.integers(0, 2**32 - 1),
    )
    def test_no_image_is_lost_and_the_error_equals_a_plain_loop(
        self, confidence: np.ndarray, seed: int
    ) -> None:
        correct = np.random.default_rng(seed).random(len(confidence)) < 0.7
        table = reliability_table(confidence, correct)
        assert table["count"].sum() == len(confidence)
        error = 0.0
        for low, high in zip(table["low"], table["high"], strict=True):
            inside = (confidence > low) & (confidence <= high)
            if inside.any():
                error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
        assert calibration_error(confidence, correct) == pytest.approx(error, abs=1e-12)


class TestAccuracyAgainstCoverage:
    def test_the_surest_come_first_and_the_last_row_is_the_accuracy(self) -> None:
        sureness = np.array([0.9, 0.5, 0.8, 0.7])
        correct = np.array([True, False, True, False])
        table = coverage_table(sureness, correct, points=4)
        assert table["count"].tolist() == [1, 2, 3, 4]
        assert table["accuracy"].tolist() == pytest.approx([1, 1, 2 / 3, 0.5])
        assert table["least_sureness"].tolist() == [0.9, 0.8, 0.7, 0.5]
        assert table["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]

    @given(
        st.lists(st.tuples(st.sampled_from([0.2, 0.5, 1.0]), st.booleans()), min_size=1, max_size=40),
        st.randoms(),
    )
    def test_the_order_of_images_does_not_matter(
        self, images: list[tuple[float, bool]], random: object
    ) -> None:
        shuffled = list(images)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        tables = [
            coverage_table(np.array([sure for sure, _ in some]), np.array([right for _, right in some]))
            for some in (images, shuffled)
        ]
        pd.testing.assert_frame_equal(*tables)

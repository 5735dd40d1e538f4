"""Paired tests against hand-worked cases, enumeration and the other library."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw2.comparison.significance import (
    cochran_q,
    holm_correction,
    mcnemar,
    paired_difference_ci,
)

counts = st.integers(0, 300)
p_values = st.lists(st.floats(0, 1), max_size=12)


def binomial_by_counting(first: int, second: int) -> float:
    """All outcomes of fair coins that are no likelier than this one, in exact arithmetic."""
    n = first + second
    ways = sum(comb(n, k) for k in range(n + 1) if comb(n, k) <= comb(n, first))
    return float(Fraction(ways, 2**n))


class TestMcNemar:
    def test_thirty_one_images_against_twenty_nine_tell_nothing(self) -> None:
        assert mcnemar(31, 29) == pytest.approx(0.8974, abs=1e-4)

    def test_six_against_none_worked_by_hand(self) -> None:
        assert mcnemar(6, 0) == pytest.approx(2 / 2**6)

    def test_no_disagreement_is_a_p_of_one_and_no_division_by_zero(self) -> None:
        assert mcnemar(0, 0) == 1.0

    @given(counts, counts)
    def test_it_equals_an_enumeration_of_all_outcomes(self, first: int, second: int) -> None:
        assert mcnemar(first, second) == pytest.approx(binomial_by_counting(first, second), rel=1e-9)

    @given(counts, counts)
    def test_it_is_symmetric_and_a_probability(self, first: int, second: int) -> None:
        assert mcnemar(first, second) == pytest.approx(mcnemar(second, first), rel=1e-12)
        assert 0 <= mcnemar(first, second) <= 1

    @pytest.mark.parametrize(("first", "second"), [(31, 29), (5, 17), (120, 80), (1, 0)])
    def test_it_equals_statsmodels(self, first: int, second: int) -> None:
        from statsmodels.stats.contingency_tables import mcnemar as theirs

        table = [[1000, first], [second, 50]]
        assert mcnemar(first, second) == pytest.approx(theirs(table, exact=True).pvalue, rel=1e-9)


class TestHolm:
    def test_three_values_worked_by_hand(self) -> None:
        assert holm_correction([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])

    @settings(max_examples=10)  # statsmodels takes a tenth of a second for each
    @given(p_values.filter(len))
    def test_it_equals_statsmodels(self, p: list[float]) -> None:
        from statsmodels.stats.multitest import multipletests

        assert holm_correction(p) == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=1e-12)

    @given(p_values)
    def test_it_keeps_the_order_and_never_lowers_a_value(self, p: list[float]) -> None:
        corrected = holm_correction(p)
        assert all(before <= after <= 1 for before, after in zip(p, corrected, strict=True))
        by_before = [after for _, after in sorted(zip(p, corrected, strict=True))]
        assert by_before == sorted(by_before)

    def test_nothing_to_correct_is_nothing(self) -> None:
        assert holm_correction([]) == []


class TestCochran:
    def test_three_models_worked_by_hand(self) -> None:
        # Right: 4, 2 and 1 of 4; images with 3, 2, 1, 1 right. Q = 3 * 2 * (14/3) / (0 + 2 + 2 + 2) = 14/3
        correct = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]], dtype=bool)
        q = cochran_q(correct)
        assert q.statistic == pytest.approx(14 / 3)
        assert q.degrees == 2
        assert q.p == pytest.approx(np.exp(-7 / 3))  # chi-squared with two degrees of freedom

    def test_models_that_agree_everywhere_are_a_tie(self) -> None:
        correct = np.repeat(np.array([[True], [False], [True]]), 4, axis=1)
        assert tuple(cochran_q(correct)) == (0.0, 3, 1.0)

    @given(st.integers(2, 6), st.integers(0, 2**32 - 1))
    def test_it_equals_statsmodels(self, models: int, seed: int) -> None:
        from statsmodels.stats.contingency_tables import cochrans_q

        correct = np.random.default_rng(seed).random((40, models)) < 0.8
        ours = cochran_q(correct)
        if ours.p == 1.0 and ours.statistic == 0.0:
            return
        theirs = cochrans_q(correct.astype(int))
        assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9)
        assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)


class TestIntervalOfADifference:
    def test_it_has_the_difference_inside_and_mirrors(self) -> None:
        low, high = paired_difference_ci(60, 22, 10_000)
        assert low < 38 / 10_000 < high
        assert paired_difference_ci(22, 60, 10_000) == pytest.approx((-high, -low))

    def test_no_disagreement_still_leaves_room_for_doubt(self) -> None:
        low, high = paired_difference_ci(0, 0, 100)
        assert low < 0 < high

    def test_it_holds_the_true_difference_about_95_times_in_100(self) -> None:
        generator = np.random.default_rng(17)
        cells = generator.multinomial(500, [0.9, 0.06, 0.03, 0.01], size=2000)
        held = [
            low <= 0.03 <= high for low, high in (paired_difference_ci(b, c, 500) for _, b, c, _ in cells)
        ]
        assert 0.93 <= np.mean(held) <= 0.97

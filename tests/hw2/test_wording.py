"""Numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw2.wording import LEVEL, percent, said_p


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.8974, "p = 0.90"), (1.0, "p = 1.00"), (0.034, "p = 0.034"), (0.00123, "p = 0.0012"),
        (0.0, "p < 0.0001"), (0.00001, "p < 0.0001"), (0.04996, "p = 0.04996"), (0.05, "p = 0.050"),
    ],
)  # fmt: skip
def test_a_p_value_has_two_figures_and_is_never_zero(p: float, text: str) -> None:
    assert said_p(p) == text


@given(st.floats(0.0001, 1))
def test_rounding_never_crosses_the_level(p: float) -> None:
    assert (float(said_p(p).split("= ")[1]) < LEVEL) == (p < LEVEL)


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.9999, "99.9 %"), (0.986, "98.6 %"), (0.0, "0.0 %"), (0.5, "50.0 %")],
)
def test_only_all_is_a_hundred_percent(share: float, text: str) -> None:
    assert percent(share) == text

"""Numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw2.common.formatting import (
    ALPHA,
    first_line,
    format_ci,
    format_p,
    format_percent,
    format_ratio,
    join_names,
    parse_number,
    plural,
)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.8974, "p = 0.90"), (1.0, "p = 1.00"), (0.034, "p = 0.034"), (0.00123, "p = 0.0012"),
        (0.0, "p < 0.0001"), (0.00001, "p < 0.0001"), (0.04996, "p = 0.04996"), (0.05, "p = 0.050"),
    ],
)  # fmt: skip
def test_a_p_value_has_two_figures_and_is_never_zero(p: float, text: str) -> None:
    assert format_p(p) == text


@given(st.floats(0.0001, 1))
def test_rounding_never_crosses_the_level(p: float) -> None:
    assert (float(format_p(p).split("= ")[1]) < ALPHA) == (p < ALPHA)


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100 %"), (0.9999, "99.9 %"), (0.986, "98.6 %"), (0.0, "0.0 %"), (0.5, "50.0 %")],
)
def test_only_all_is_a_hundred_percent(share: float, text: str) -> None:
    assert format_percent(share) == text


def test_a_share_is_said_with_its_interval() -> None:
    assert format_ci(0.953, 0.9501, 0.956) == "95.3 % (95.0 to 95.6)"
    assert format_ci(1.0, 0.9996, 1.0) == "100 % (99.9 to 100)"
    assert format_ci(float("nan"), float("nan"), float("nan")) == "–"


def test_an_area_is_one_only_where_it_is_exactly_that() -> None:
    assert [format_ratio(area) for area in (1.0, 0.99999, 0.9999, 0.5)] == [
        "1.0000",
        "above 0.9999",
        "0.9999",
        "0.5000",
    ]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1", 1),
        ("1.0", 1),
        ("1e-05", 1e-5),
        (0.5, 0.5),
        ("sgd", "sgd"),
        ("nan", "nan"),
        (True, "True"),
        (None, "None"),
    ],
)
def test_a_text_that_is_a_finite_number_is_read_as_it(value: object, number: object) -> None:
    result = parse_number(value)
    assert (result, type(result)) == (number, type(number))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\nthe first\nthe second"), "the first"),
        (ValueError(), "ValueError"),
        (OSError(" "), "OSError"),
    ],
)
def test_an_error_is_told_in_one_line(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_names_are_joined_as_in_a_sentence() -> None:
    assert join_names(["a"]) == "a"
    assert join_names(["a", "b"]) == "a and b"
    assert join_names(["a", "b", "c"]) == "a, b and c"
    assert join_names(["a", "b", "c"], 3) == "a, b and c"
    assert join_names(["a", "b", "c"], 2) == "a, b and 1 more"
    assert join_names([str(number) for number in range(1002)], 2) == "0, 1 and 1,000 more"


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, ("thread",), "1 thread"),
        (2, ("thread",), "2 threads"),
        (0, ("cell",), "0 cells"),
        (1, ("degree of freedom",), "1 degree of freedom"),
        (4, ("degree of freedom",), "4 degrees of freedom"),
        (1200, ("model or run", "models or runs"), "1,200 models or runs"),
        (1, ("value is", "values are"), "1 value is"),
    ],
)
def test_a_count_agrees_with_its_noun(count: int, noun: tuple[str, ...], text: str) -> None:
    assert plural(count, *noun) == text

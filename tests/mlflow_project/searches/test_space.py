"""Axes as a person writes them, and what can't be one."""

import pytest

from mlflow_project.common.errors import UsageError
from mlflow_project.searches.space import Choices, Interval, SearchSpace, parse_axis


def test_an_interval_and_a_list() -> None:
    assert parse_axis("lr", "0.001..0.3") == Interval(0.001, 0.3, log=True)
    assert parse_axis("batch_size", "16..256") == Interval(16, 256, log=True)
    assert parse_axis("momentum", "0..0.9") == Interval(0.0, 0.9)
    assert parse_axis("batch_size", "32,64,32") == Choices((32, 64))
    assert parse_axis("lr", [0.1, 0.01]) == Choices((0.1, 0.01))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("lr", "0.3..0.001", "begins at 0.3 and ends at 0.001; write the smaller one first"),
        ("lr", "a..b", "'a' is not a number"),
        ("lr", "0.001..", "an interval without an end"),
        ("lr", "..0.3", "an interval without a beginning"),
        ("lr", "0..0.3", "its values must be above 0"),
        ("lr", "0.1,", "'' is not a number"),
        ("lr", "0.1..inf", "'inf' is not a number"),
        ("lr", "0.1..0.2..0.3", "is not a number"),
        ("batch_size", "1.5..3", "1.5 is not a whole number"),
    ],
)
def test_what_is_no_axis_is_refused_with_what_it_lacks(name: str, text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_axis(name, text)
    assert complaint in str(refused.value)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_proposed_rate_has_three_digits_and_stays_in_its_interval() -> None:
    space = SearchSpace({"lr": Interval(0.0012345, 0.3, log=True), "batch_size": Choices((32, 64))})
    assert space.tidy({"lr": 0.0234567, "batch_size": 64}) == {"lr": 0.0235, "batch_size": 64}
    assert space.tidy({"lr": 0.0012345, "batch_size": 32})["lr"] == 0.0012345
    assert space.size is None
    assert SearchSpace({"lr": Choices((0.1, 0.2)), "batch_size": Choices((32, 64, 128))}).size == 6

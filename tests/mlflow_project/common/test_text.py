"""Values as text, text as values, and the names that are stored."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mlflow_project.common import names
from mlflow_project.common.text import first_line, format_time, join_names, parse_number, same_value


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("0.10", 0.1), ("1e-1", 0.1), ("sgd", "sgd"), ("", ""), (None, None)]
)
def test_a_number_is_read_from_a_text_that_says_one(text: str | None, value: object) -> None:
    assert parse_number(text) == value
    assert type(parse_number(text)) is type(value)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("auto", "auto", True),
        ("8", "8.0", True),
        ("0.10", "1e-1", True),
        ("auto", "cpu", False),
        ("0.1", "0.10000001", False),
        ("yes", "True", True),
        ("no", "False", True),
        ("yes", "False", False),
        ("shift, flip", "flip,shift", True),
        ("shift,flip", "flip", False),
    ],
)
def test_parameters_are_equal_as_text_numbers_switches_or_sets(a: str, b: str, same: bool) -> None:
    assert same_value(a, b) is same


def test_names_are_joined_as_in_a_sentence() -> None:
    assert [join_names(list(text)) for text in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]


def test_the_first_line_of_an_error_says_something() -> None:
    assert first_line(ValueError("\n \nthe cause\nmore")) == "the cause"
    assert first_line(ValueError()) == "ValueError"


def test_times_of_every_zone_are_in_utc() -> None:
    moment = datetime(2024, 5, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(moment) == format_time(moment.astimezone(UTC)) == "2024-04-30 23:30:00 UTC"


def test_the_tags_of_mlflow_have_its_names() -> None:
    from mlflow.utils import mlflow_tags

    assert (
        names.NOTE_TAG,
        names.PARENT_TAG,
        names.NAME_TAG,
        names.IMAGES_TAG,
        names.CONTEXT_TAG,
        names.VERSIONS_TAG,
    ) == (
        mlflow_tags.MLFLOW_RUN_NOTE,
        mlflow_tags.MLFLOW_PARENT_RUN_ID,
        mlflow_tags.MLFLOW_RUN_NAME,
        mlflow_tags.MLFLOW_LOGGED_IMAGES,
        mlflow_tags.MLFLOW_DATASET_CONTEXT,
        mlflow_tags.MLFLOW_MODEL_VERSIONS,
    )

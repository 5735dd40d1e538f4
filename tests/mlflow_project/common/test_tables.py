"""Results as text: the same rows to read, as JSON and as CSV."""

import csv
import io
import json

import pytest

from mlflow_project.common.tables import WIDTH, render

ROWS = [{"run": "lr=0.1, epochs=8", "accuracy": 0.98613, "images": 10_000}, {"run": "b", "accuracy": None}]


def test_a_table_lines_its_columns_up_and_rounds_shares_to_four_digits() -> None:
    assert render(ROWS, "table").splitlines() == [
        "run               accuracy  images",
        "----------------  --------  ------",
        "lr=0.1, epochs=8    0.9861   10000",
        "b",
    ]


def test_a_small_rate_is_not_rounded_to_nothing() -> None:
    assert render([{"lr": 0.00001}, {"lr": 0.1}, {"lr": 0.0}], "table").splitlines()[2:] == [
        " 1e-05",
        "0.1000",
        "0.0000",
    ]


def test_json_and_csv_keep_every_digit() -> None:
    assert json.loads(render(ROWS, "json"))[0]["accuracy"] == 0.98613
    assert json.loads(render(ROWS, "json"))[1] == {"run": "b", "accuracy": None, "images": None}
    read = list(csv.DictReader(io.StringIO(render(ROWS, "csv"))))
    assert read[0] == {"run": "lr=0.1, epochs=8", "accuracy": "0.98613", "images": "10000"}


HOSTILE = "a\x1b[2Jb\r\nc\u202ed\x9be"


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_what_anybody_may_write_moves_no_cursor_and_breaks_no_line(format_: str) -> None:
    text = render([{"run": HOSTILE}], format_)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert len(text.splitlines()) == {"table": 3, "csv": 2, "json": 5}[format_]


@pytest.mark.parametrize("text", ["=CMD()", "+1+1", "@SUM(A1)", "-1+1"])
def test_a_spreadsheet_calculates_nothing_that_anybody_may_write(text: str) -> None:
    assert next(csv.DictReader(io.StringIO(render([{"run": text}], "csv"))))["run"] == f"'{text}"


@pytest.mark.parametrize("value", ["-0.5", -0.5, "+1e-3", "lr=0.1"])
def test_numbers_and_names_are_as_they_were_in_csv(value: str | float) -> None:
    assert next(csv.DictReader(io.StringIO(render([{"a": value}], "csv"))))["a"] == str(value)


def test_a_long_sentence_goes_on_below_itself_and_a_path_stays_whole() -> None:
    why, where = "evidence and more of it " * 12, "/a" * 60
    lines = render([{"n": 1, "why": why, "where": where}, {"n": 2}], "table").splitlines()
    assert len(lines) == 2 + 3 + 1
    assert " ".join(line[3:].partition("/")[0] for line in lines[2:5]).split() == why.split()
    assert lines[2].endswith(where)
    assert max(map(len, lines[3:])) <= 3 + WIDTH


def test_what_is_no_number_is_null_in_json() -> None:
    assert json.loads(render([{"a": float("nan")}], "json")) == [{"a": None}]


def test_no_rows_are_a_table_with_its_head_alone() -> None:
    assert render([], "table", ["a", "b"]).splitlines()[0] == "a  b"
    assert json.loads(render([], "json", ["a"])) == []

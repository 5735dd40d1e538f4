"""Results as text: the same rows to read, as JSON and as CSV."""

import csv
import io
import json

from mlflow_project.common.tables import render

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


def test_what_is_no_number_is_null_in_json() -> None:
    assert json.loads(render([{"a": float("nan")}], "json")) == [{"a": None}]


def test_no_rows_are_a_table_with_its_head_alone() -> None:
    assert render([], "table", ["a", "b"]).splitlines()[0] == "a  b"
    assert json.loads(render([], "json", ["a"])) == []

"""What suite `growth` says of known values, and the part itself at tiny sizes."""

import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common import Report
from benchmarks.growth import suite as growth
from benchmarks.growth.fit import ABOVE, COLUMNS, CPU, MEMORY, PROCESS, WORK, Series, exponent, notes, rows
from benchmarks.process import measure

SIZES = [1.0, 2.0, 5.0, 10.0, 40.0, 100.0]


@given(b=st.floats(-3, 3), a=st.floats(1e-6, 1e6), count=st.integers(2, 6))
def test_a_power_law_gives_its_exponent(b: float, a: float, count: int) -> None:
    sizes = SIZES[:count]
    assert exponent(sizes, [a * size**b for size in sizes]) == pytest.approx(b, abs=1e-9)


def test_the_larger_sizes_decide() -> None:
    assert exponent(SIZES, [7.0, 7.0, 7.0, 10.0**2, 40.0**2, 100.0**2]) == pytest.approx(2)


def test_one_point_has_no_exponent_nor_have_values_without_logarithm() -> None:
    assert exponent([10], [3.0]) is None
    assert exponent([10, 20, 40], [-1.0, 0.0, 3.0]) is None


def square(start: float = 0.0, share: float = 1.0) -> Series:
    """Work that grows with the pairs, and memory of which that share of the start comes on top."""
    result = {
        n: {WORK: n * (n - 1) / 2000, MEMORY: 100.0 + start + share * start * n / 40} for n in (5, 10, 20, 40)
    }
    return Series("models", result, {MEMORY: 100.0 + start}, ("pairs", lambda n: n * (n - 1) / 2))


def test_what_is_steeper_than_a_straight_line_is_told_with_what_explains_it() -> None:
    (_, steep) = notes([square()])
    assert steep == (
        "models, work, s: STEEPER than a straight line, exponent 2.06; from 20 to 40 (times 2.0) it grows "
        "times 4.1. Against pairs (780 at 40) the exponent is 1.00, a straight line or less."
    )


def test_a_straight_line_is_told_with_what_each_further_one_costs() -> None:
    series = Series("images", {n: {WORK: 0.002 * n} for n in (10, 20, 40)})
    assert notes([series]) == [
        "images: from 20 to 40, each further one takes 2.0 ms of work.",
        "Nothing is steeper than a straight line (exponent above 1.1).",
    ]


def test_the_exponent_of_memory_is_that_of_what_is_above_the_start() -> None:
    *sizes, last = rows(square(start=900.0))
    assert [row[MEMORY] for row in sizes] == [1112, 1225, 1450, 1900]
    assert [row[ABOVE] for row in sizes] == [112, 225, 450, 900]
    assert (last["size"], last[MEMORY], last[ABOVE], last[WORK]) == ("exponent", "", 1.0, 2.06)
    assert last[PROCESS] == last[CPU] == ""


def test_what_hardly_grows_above_its_start_is_a_constant() -> None:
    assert rows(square(start=900.0, share=0.05))[-1][ABOVE] == "constant"


def test_the_memory_of_a_process_is_its_own_and_not_that_of_who_asks() -> None:
    mine = b"x" * 300_000_000
    measured = measure([sys.executable, "-I", "-S", "-c", "print('said')"], Path.cwd())
    assert measured.peak_bytes < len(mine) / 2
    assert measured.said == "said\n"
    more = measure([sys.executable, "-I", "-S", "-c", "b'x' * 200_000_000"], Path.cwd())
    assert 190e6 < more.peak_bytes - measured.peak_bytes < 210e6


def test_a_process_that_fails_is_named_with_its_last_words() -> None:
    with pytest.raises(SystemExit, match=r"exit\('no room'\) ended with 1: no room"):
        measure([sys.executable, "-c", "exit('no room')"], Path.cwd())


def measured(*arguments: str) -> Report:
    parser = ArgumentParser()
    parser.add_argument("--data-dir", type=Path)
    growth.options(parser)
    return growth.run(parser.parse_args(["--rounds", "1", "--threads", "1", *arguments]))


def checked(report: Report, *expected: tuple[str, int | str]) -> None:
    """All rows have the same columns, and are those of these series and sizes."""
    assert {tuple(row) for row in report.rows} == {("against", "size", *COLUMNS)}
    assert [(row["against"], row["size"]) for row in report.rows] == list(expected)
    for row in report.rows:
        assert row["size"] == "exponent" or float(row[MEMORY]) > 20


@pytest.mark.campaign
def test_growth_against_images_at_tiny_sizes() -> None:
    report = measured("--only", "images", "--images", "128", "64")
    checked(report, ("images", 64), ("images", 128), ("images", "exponent"))
    assert all(0 < float(row[WORK]) < float(row[PROCESS]) for row in report.rows[:2])
    assert list(report.raw["images"]["sizes"]) == [64, 128]
    assert report.raw["images"]["start"][MEMORY] > 20


@pytest.fixture
def ready_store(migrated_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making MLflow's tables takes seconds, and is no part of what is measured."""
    monkeypatch.setattr(
        growth, "fresh_store", lambda folder: shutil.copy(migrated_store, folder / "fresh.db")
    )


@pytest.mark.campaign
@pytest.mark.usefixtures("ready_store")
def test_growth_against_models_at_tiny_sizes() -> None:
    report = measured("--only", "models", "--models", "2", "3", "--predictions", "100")
    whole = "models, whole command"
    series = [(name, size) for name in ("models", whole) for size in (2, 3, "exponent")]
    checked(report, *series)


@pytest.mark.campaign
@pytest.mark.usefixtures("ready_store")
def test_growth_against_epochs_at_a_tiny_size() -> None:
    report = measured("--only", "epochs", "--epochs", "1")
    checked(report, ("epochs", 1), ("epochs", "exponent"))
    assert float(report.rows[0]["journal, KB"]) > 5
    assert float(report.rows[0]["checkpoint, KB"]) > 144_266 * 4 / 1000  # the weights alone


@pytest.mark.campaign
def test_growth_against_runs_at_a_tiny_size(monkeypatch: pytest.MonkeyPatch) -> None:
    some = ("status", "models show champion", "compare --models")
    monkeypatch.setattr(growth, "COMMANDS", {name: growth.COMMANDS[name] for name in some})
    report = measured("--only", "runs", "--runs", "12")
    rows = [row for name in some for row in ((f"runs, {name}", 12), (f"runs, {name}", "exponent"))]
    checked(report, *rows)

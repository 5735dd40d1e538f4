"""What the table of logging says of given measurements."""

from argparse import Namespace
from typing import Any

from benchmarks.logging.suite import report
from benchmarks.logging.ways import ASYNCHRONOUS, DURABLE

ARGUMENTS = Namespace(rounds=2, calls=100, points=100_000, pairs=2, every=1)


def call_rounds(call: float, logged: float, delivered: float | None) -> list[dict[str, Any]]:
    found = {"calls": [call] * 100, "cpu": [call / 2] * 100, "logged": logged, "delivered": delivered}
    return [{**found, "points": 100_000}] * 2


def training(longer: float) -> dict[str, list[tuple[float, float]]]:
    pairs = [(seconds * longer, seconds) for seconds in (10.0, 20.0, 30.0)]
    return {"seconds": pairs, "cpu_seconds": pairs}


def test_limits_are_told_with_the_median_of_all_rounds() -> None:
    calls = {DURABLE: call_rounds(50e-6, 5.0, 20.0), ASYNCHRONOUS: call_rounds(1e-3, 5.0, None)}
    trainings = {f"{DURABLE}, far": training(1.01)}
    result = report(calls, trainings, ARGUMENTS)
    assert result.rows[0]["call, us: median, 99 %"] == "50, 50"
    assert result.rows[0]["its CPU, us"] == "25"
    assert result.rows[0]["delivered, points/s"] == "5,000 (5,000 to 5,000)"
    assert result.rows[1]["delivered, points/s"] == ""
    assert result.rows[2]["longer, %"] == "1.0 (1.0 to 1.0)"
    assert len({tuple(row) for row in result.rows}) == 1
    assert "a call 50.0 us, within 100; 100,000 points logged 5.0 s, within 10" in result.notes[-1]
    assert "delivered 5,000 points/s, within 5,000; durable, far 1.0 % longer, within 2" in result.notes[-1]


def test_what_misses_a_limit_is_told() -> None:
    trainings = {f"{DURABLE}, far": training(1.1)}
    result = report({DURABLE: call_rounds(2e-4, 11.0, None)}, trainings, ARGUMENTS)
    assert "a call 200.0 us, MORE THAN 100; 100,000 points logged 11.0 s, MORE THAN 10" in result.notes[-1]
    assert (
        "delivered 0 points/s, LESS THAN 5,000; durable, far 10.0 % longer, MORE THAN 2" in result.notes[-1]
    )

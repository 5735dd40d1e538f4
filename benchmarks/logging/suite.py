"""The cost of logging: a call, many points, and a training with its server far away or gone."""

import json
import os
import statistics
import sys
import tempfile
import time
import timeit
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Cell, Report, alternate, median_and_spread
from benchmarks.logging.ways import ASYNCHRONOUS, BLOCK, DURABLE, NO_STORE, PLAIN
from benchmarks.process import measure
from tests.faults.proxy import Proxy, well
from tests.faults.server import tracking_server

ROOT = Path(__file__).resolve().parents[2]
CALLS = "benchmarks.logging.calls"
TRAINING = "benchmarks.logging.lightning_training"
COLUMNS = (
    "way",
    "call, us: median, 99 %",
    "its CPU, us",
    "points logged, s",
    "delivered, points/s",
    "a block of the training, s",
    "longer, %",
    "CPU of its thread, % more",
)
Trainings = dict[str, dict[str, list[tuple[float, float]]]]
"""By way and clock, the seconds of each block with a logger and of the one beside it without."""
LIMITS = {"call_us": 100, "logged_s": 10, "delivered": 5_000, "longer": 2}
"""Microseconds of a call, seconds of 100,000 points, points a second, percent of a training."""


def options(parser: ArgumentParser) -> None:
    """Of this suite."""
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument(
        "--calls", type=int, default=1000, help="single calls a round; a plain one takes 50 ms"
    )
    parser.add_argument("--points", type=int, default=100_000, help="logged at once; default 100,000")
    parser.add_argument(
        "--pairs", type=int, default=8, help="of blocks of the training, with a logger and without; default 8"
    )
    parser.add_argument("--every", type=int, default=10, help="steps between two logged; default 10")
    parser.add_argument("--only", choices=("calls", "training"), default=None, help="one half of it")


def run(arguments: Namespace) -> Report:
    """Every way in processes of its own, in turn, against one real server."""
    calls: dict[str, list[dict[str, Any]]] = {}
    trainings: Trainings = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tracking_server(folder / "server") as port:
            direct, proxy = f"http://127.0.0.1:{port}", Proxy(port)
            try:
                if arguments.only != "training":
                    _measure_calls(arguments, folder, direct, calls)
                if arguments.only != "calls":
                    _measure_trainings(arguments, folder, proxy, trainings)
            finally:
                proxy.down()
    return report(calls, trainings, arguments)


def _measure_calls(
    arguments: Namespace, folder: Path, uri: str, results: dict[str, list[dict[str, Any]]]
) -> None:
    sizes = {
        PLAIN: (max(arguments.calls // 5, 1), 0),
        ASYNCHRONOUS: (arguments.calls, arguments.points // 200),  # all of them would take an hour
        DURABLE: (arguments.calls, arguments.points),
        NO_STORE: (arguments.calls, arguments.points),
    }

    def one(way: str, number: int) -> float:
        address = f"durable+{uri}" if way == DURABLE else uri
        results.setdefault(way, []).append(_start(folder, CALLS, address, way, *sizes[way]))
        return 0.0

    alternate({way: partial(one, way) for way in sizes}, arguments.rounds)


def _measure_trainings(arguments: Namespace, folder: Path, proxy: Proxy, results: Trainings) -> None:
    near, far, gone = "server near", "server 50 ms away", "no server"
    ways = {
        f"{DURABLE}, {near}": (DURABLE, near),
        f"{DURABLE}, {far}": (DURABLE, far),
        f"{DURABLE}, {gone}": (DURABLE, gone),
        f"{ASYNCHRONOUS}, {far}": (ASYNCHRONOUS, far),
        f"{PLAIN}, {far}": (PLAIN, far),
    }

    def one(name: str, number: int) -> float:
        way, place = ways[name]
        address = f"durable+{proxy.url}" if way == DURABLE else proxy.url
        with _distance(proxy, 0.05 if place == far else 0.0, there=place != gone):
            found = _start(folder, TRAINING, address, way, arguments.pairs, arguments.every)
        pairs = results.setdefault(name, {"seconds": [], "cpu_seconds": []})
        for clock, measured in pairs.items():
            measured += found[clock]
        return 0.0

    alternate({name: partial(one, name) for name in ways}, arguments.rounds)


@contextmanager
def _distance(proxy: Proxy, delay: float, there: bool) -> Iterator[None]:
    """A server so many seconds away: every request waits that long before it's passed on."""

    def wait(_: str) -> None:
        time.sleep(delay)

    proxy.plan = wait
    if not there:
        proxy.down()
    try:
        yield
    finally:
        proxy.plan = well
        proxy.up()


def _start(folder: Path, module: str, uri: str, *arguments: object) -> dict[str, Any]:
    """What one process found, and the seconds from its first import to its end."""
    place = Path(tempfile.mkdtemp(dir=folder))
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_PROJECT_STATE": str(place / "state"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", module, *map(str, arguments)]
    measured = measure(command, place, environment)
    found: dict[str, Any] = json.loads(measured.said.splitlines()[-1])
    return {**found, "process": measured.seconds}


def report(
    calls: Mapping[str, Sequence[Mapping[str, Any]]],
    trainings: Trainings,
    arguments: Namespace,
) -> Report:
    """One table for both halves, with what the limits say of the durable way."""
    rows = [_call_row(way, rounds) for way, rounds in calls.items()]
    rows += [_training_row(name, pairs) for name, pairs in trainings.items()]
    notes = [
        f"Calls: {arguments.calls:,} of mlflow.log_metric a round (plain: a fifth), 1 ms apart, all rounds together; "
        f"points: {arguments.points:,} more without a pause (asynchronous: a two-hundredth). "
        "The server is a process on this machine (SQLite).",
        f"Training: Lightning with MLFlowLogger, two metrics every {arguments.every} steps, one thread. Of two blocks "
        f"of {BLOCK} steps, one after the other, one has no logger; {arguments.pairs} such pairs a round; "
        "medians of all (their quartiles).",
        f"How fast this machine is at the moment: sum(range(1000)) takes {_speed() * 1e6:.0f} us.",
        f"Limits of the durable way: {_verdicts(calls, trainings, arguments.points)}.",
    ]
    raw = {"calls": calls, "trainings": trainings}
    return Report(f"What logging costs, {arguments.rounds} rounds", rows, notes, raw)


def _call_row(way: str, rounds: Sequence[Mapping[str, Any]]) -> dict[str, Cell]:
    spent = [seconds for found in rounds for seconds in found["calls"]]
    logged = [found["logged"] for found in rounds if found["logged"] is not None]
    rates = [found["points"] / found["delivered"] for found in rounds if found["delivered"] is not None]
    return _row(
        {
            "way": way,
            "call, us: median, 99 %": f"{1e6 * statistics.median(spent):,.0f}, {1e6 * _percentile(spent, 99):,.0f}",
            "its CPU, us": f"{1e6 * statistics.median(s for found in rounds for s in found['cpu']):,.0f}",
            "points logged, s": median_and_spread(logged, 1) if logged else "",
            "delivered, points/s": median_and_spread(rates) if rates else "",
        }
    )


def _training_row(name: str, pairs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Cell]:
    return _row(
        {
            "way": f"Lightning: {name}",
            "a block of the training, s": _quartiles([logged for logged, _ in pairs["seconds"]], 2),
            "longer, %": _quartiles(_longer(pairs["seconds"]), 1),
            "CPU of its thread, % more": _quartiles(_longer(pairs["cpu_seconds"]), 1),
        }
    )


def _row(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    return {name: cells.get(name, "") for name in COLUMNS}


def _longer(pairs: Sequence[tuple[float, float]]) -> list[float]:
    return [100 * (logged / without - 1) for logged, without in pairs]


def _quartiles(values: Sequence[float], digits: int) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _speed() -> float:
    """Seconds of a piece of Python, the shortest of many: a busy or slow machine multiplies every time above."""
    return min(timeit.repeat("sum(range(1000))", number=100, repeat=20)) / 100


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def _verdicts(
    calls: Mapping[str, Sequence[Mapping[str, Any]]],
    trainings: Trainings,
    points: int,
) -> str:
    parts = []
    if rounds := calls.get(DURABLE):
        median = statistics.median(seconds for found in rounds for seconds in found["calls"]) * 1e6
        parts.append(_verdict("a call", median, LIMITS["call_us"], "us"))
        logged = statistics.median(found["logged"] for found in rounds)
        parts.append(_verdict(f"{points:,} points logged", logged, LIMITS["logged_s"], "s"))
        rates = [points / found["delivered"] for found in rounds if found["delivered"] is not None]
        rate = statistics.median(rates) if rates else 0.0
        word = "within" if rate >= LIMITS["delivered"] else "LESS THAN"
        parts.append(f"delivered {rate:,.0f} points/s, {word} {LIMITS['delivered']:,}")
    for name, pairs in trainings.items():
        if name.startswith(DURABLE):
            longer = statistics.median(_longer(pairs["seconds"]))
            parts.append(_verdict(name, longer, LIMITS["longer"], "% longer"))
    return "; ".join(parts)


def _verdict(what: str, value: float, limit: float, unit: str) -> str:
    return f"{what} {value:,.1f} {unit}, {'within' if value <= limit else 'MORE THAN'} {limit:,}"

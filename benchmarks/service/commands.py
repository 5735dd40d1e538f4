"""How long the commands and the UI's first page take on a store with many runs, and what clients can write."""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import requests

from benchmarks.common import Cell, Report
from benchmarks.service.filled_store import LEARNING_RATES, environment, fill, train_one
from mlflow_project.common.names import DEFAULT_NAME
from tests.service import postgres
from tests.service.serving import start

FEW = 10
"""A store of this size is measured first: what a command costs before it reads many runs."""
POINTS = 1000
"""In a batch; MLflow's API takes no more."""
Spent = tuple[float, float]
"""Seconds, and seconds of the processor."""
LIMIT = 3.0
"""Seconds that a command may take, whatever the store holds."""
_MODEL = DEFAULT_NAME
_VERDICT = f"within {LIMIT:g} s"
_GRID = ",".join(str(lr) for lr in LEARNING_RATES[:10])
COMMANDS = {
    "models find": [
        "models",
        "find",
        "--lr",
        str(LEARNING_RATES[7]),
        "--epochs",
        "1",
        "--name",
        _MODEL,
    ],
    "models show champion": ["models", "show", "champion", "--name", _MODEL],
    "compare on ten": ["compare"],
    "compare --models": ["compare", "--models", "champion,2", "--name", _MODEL],
    "sweep --dry-run of ten": [
        "sweep",
        "--lr",
        _GRID,
        "--epochs",
        "1",
        "--dataset",
        "mnist-sample",
        "--dry-run",
    ],
    "status": ["status"],
}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=10_000, help="completed runs in the store")
    parser.add_argument("--rounds", type=int, default=3, help="of each command; the median counts")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16], help="that write at once")
    parser.add_argument(
        "--stores", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"]
    )


def run(arguments: Namespace) -> Report:
    rows: list[Mapping[str, Cell]] = []
    notes = [
        f"Commands are processes of their own that ask a server, from start to end; the median of {arguments.rounds}.",
        "First page: what the UI asks for when it opens the experiment (100 runs, latest first), of a server.",
        f"Values: clients that write through a server at once, each in batches of {POINTS:,} metric points.",
    ]
    for kind in arguments.stores:
        if kind == "postgresql" and postgres.programs() is None:
            notes.append(f"Not on PostgreSQL: {postgres.MISSING}.")
            continue
        with tempfile.TemporaryDirectory() as scratch, _store(kind, Path(scratch)) as store:
            rows += _measured(kind, store, Path(scratch), arguments)
    slow = [f"{row['what']} on {row['store']}" for row in rows if row[_VERDICT] == "no"]
    notes.append(
        f"Each command at {arguments.runs:,} runs takes {LIMIT:g} s at most: "
        + (f"no, not {', '.join(slow)}." if slow else "yes.")
    )
    return Report(f"A store with {arguments.runs:,} completed runs", rows, notes)


@contextmanager
def _store(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder}/mlflow.db"
        return
    with postgres.running() as server:
        yield server.create("mlflow")


def _measured(kind: str, store: str, folder: Path, arguments: Namespace) -> list[Mapping[str, Cell]]:
    print(f"{kind}: training the run that is copied", flush=True)
    train_one(store, folder)
    seconds: dict[str, list[Spent]] = {name: [] for name in (*COMMANDS, "first page")}
    written: dict[int, float] = {}
    before = 1
    for count in (FEW, arguments.runs):
        print(f"{kind}: writing {count:,} runs, and measuring", flush=True)
        fill(store, count, before)
        before = count
        with _served(store, folder) as address:
            for name, command in COMMANDS.items():
                seconds[name].append(_median(partial(_command, command, address, folder), arguments.rounds))
            seconds["first page"].append(_median(partial(_first_page, address), arguments.rounds))
            if count == arguments.runs:
                written = {clients: _values_per_second(address, clients) for clients in arguments.clients}
    rows: list[Mapping[str, Cell]] = [
        {
            "store": kind,
            "what": name,
            f"s at {FEW} runs": round(few[0], 2),
            f"s at {arguments.runs:,} runs": round(many[0], 2),
            # On a busy machine the time says little; what the processor did is the same as on an idle one.
            f"CPU s at {FEW}": round(few[1], 2) if name in COMMANDS else "",
            f"CPU s at {arguments.runs:,}": round(many[1], 2) if name in COMMANDS else "",
            _VERDICT: ("yes" if many[0] <= LIMIT else "no") if name in COMMANDS else "",
        }
        for name, (few, many) in seconds.items()
    ]
    for clients, rate in written.items():
        last: dict[str, Cell] = {"store": kind, "what": f"values per second of {clients} clients"}
        last |= {column: "" for column in rows[0] if column not in last}
        last[f"s at {arguments.runs:,} runs"] = f"{rate:,.0f} /s"
        rows.append(last)
    return rows


def _median(action: Callable[[], None], rounds: int) -> Spent:
    spent = []
    for _ in range(rounds):
        started, before = time.perf_counter(), _processor_seconds()
        action()
        spent.append((time.perf_counter() - started, _processor_seconds() - before))
    wall, processor = zip(*spent, strict=True)
    return statistics.median(wall), statistics.median(processor)


def _processor_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _command(arguments: list[str], store: str, folder: Path) -> None:
    command = [sys.executable, "-m", "mlflow_project", *arguments]
    done = subprocess.run(
        command, env=environment(store, folder), cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr.strip()[-500:]}")


@contextmanager
def _served(store: str, folder: Path) -> Iterator[str]:
    serving = start(folder / "server", MLFLOW_BACKEND_STORE_URI=store)
    try:
        serving.wait_until_ready()
        yield serving.url
    finally:
        serving.end()


def _first_page(address: str) -> None:
    api = f"{address}/ajax-api/2.0/mlflow"
    with requests.Session() as session:
        result = session.get(f"{api}/experiments/search", params={"max_results": 25}, timeout=60)
        result.raise_for_status()
        ids = [each["experiment_id"] for each in result.json()["experiments"] if each["name"] != "Default"]
        query = {
            "experiment_ids": ids,
            "max_results": 100,
            "order_by": ["attributes.start_time DESC"],
            "run_view_type": "ACTIVE_ONLY",
        }
        session.post(f"{api}/runs/search", json=query, timeout=60).raise_for_status()
        models = {"experiment_ids": ids, "max_results": 50}
        session.post(f"{api}/logged-models/search", json=models, timeout=60).raise_for_status()


def _values_per_second(address: str, clients: int, batches: int = 5) -> float:
    api = f"{address}/api/2.0/mlflow"
    name = f"written by {clients}"
    made = requests.post(f"{api}/experiments/create", json={"name": name}, timeout=60)
    experiment = made.json()["experiment_id"]

    def write(client: int) -> None:
        with requests.Session() as session:
            made = session.post(f"{api}/runs/create", json={"experiment_id": experiment}, timeout=60).json()
            run_id = made["run"]["info"]["run_id"]
            for batch in range(batches):
                points = [
                    {"key": "batch_loss", "value": 1 / (1 + step), "timestamp": step, "step": step}
                    for step in range(batch * POINTS, (batch + 1) * POINTS)
                ]
                body = {"run_id": run_id, "metrics": points}
                session.post(f"{api}/runs/log-batch", json=body, timeout=300).raise_for_status()

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(write, range(clients)))
    return clients * batches * POINTS / (time.perf_counter() - started)

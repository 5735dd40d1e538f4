"""Time and memory against what grows: images, epochs, models in `compare`, runs in the store."""

import json
import os
import shutil
import statistics
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.common import Report
from benchmarks.growth.fit import CPU, KEPT, MEMORY, PROCESS, WORK, Series, Values, notes, rows
from benchmarks.growth.store import store_of_models
from benchmarks.process import measure
from benchmarks.programs import fresh_store
from benchmarks.service.commands import COMMANDS
from benchmarks.service.filled_store import environment, fill, train_one

FEW = 10
"""Runs in the store that the others are compared with: what a command costs before it reads many."""
SIZES = {
    "images": ([1_000, 10_000, 60_000, 240_000, 480_000], "trained on for one epoch"),
    "epochs": ([1, 2, 4, 8, 16], "of one run, on the embedded sample"),
    "models": ([2, 5, 10, 20, 40], "in compare"),
    "runs": ([100, 1_000, 10_000], f"in the store, each above {FEW}"),
}


def options(parser: ArgumentParser) -> None:
    for name, (sizes, what) in SIZES.items():
        default = " ".join(map(str, sizes))
        parser.add_argument(
            f"--{name}", type=int, nargs="+", default=sizes, help=f"{what}; default {default}"
        )
    parser.add_argument("--only", nargs="+", choices=tuple(SIZES), default=list(SIZES), help="default all")
    parser.add_argument("--rounds", type=int, default=3, help="of each size; the median counts; default 3")
    parser.add_argument(
        "--predictions", type=int, default=10_000, help="of each model in compare; default 10,000"
    )
    parser.add_argument("--threads", type=int, default=0, help="of the training, default all cores")


def run(arguments: Namespace) -> Report:
    """Every size as a process of its own."""
    measured = {"images": _images, "epochs": _epochs, "models": _models, "runs": _runs}
    result: list[Series] = []
    for name, series in measured.items():
        if name in arguments.only:
            with tempfile.TemporaryDirectory() as scratch:
                result += series(sorted(set(getattr(arguments, name))), arguments, Path(scratch))
    about = [
        f"Medians of {arguments.rounds}. Work: the training of the epochs, or a comparison from stored predictions to "
        "its text, without what is only done the first time. The start: a process that has imported all it needs; "
        f"for runs the same command on a store with {FEW}; for epochs and whole commands nothing.",
        "Exponent: slope of log value against log size over the larger sizes, of what is above the start; 1 is a "
        "straight line, 0 a constant.",
    ]
    raw = {series.name: {"start": series.start, "sizes": series.measured} for series in result}
    return Report(
        "Growth", [row for series in result for row in rows(series)], [*about, *notes(result)], raw=raw
    )


def _images(sizes: Sequence[int], arguments: Namespace, folder: Path) -> Iterable[Series]:
    data = [str(arguments.data_dir.resolve())] if arguments.data_dir else []

    def one(size: int) -> Values:
        return _work(folder, "train", str(size), str(arguments.threads), *data)

    yield _series("images", one, sizes, arguments.rounds, start=0)


def _epochs(sizes: Sequence[int], arguments: Namespace, folder: Path) -> Iterable[Series]:
    template = fresh_store(folder)

    def one(size: int) -> Values:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            own = Path(place)
            shutil.copyfile(template, own / "mlflow.db")
            arguments_ = ["--epochs", str(size), "--lr", "0.01", "--threads", str(arguments.threads)]
            values, printed = _process(
                ["mlflow_project", "train", *arguments_, "--dataset", "mnist-sample", "--format", "json"],
                f"sqlite:///{own}/mlflow.db",
                own,
            )
            (row,) = json.loads(printed)
            values[WORK] = float(row["train_seconds"])
            for file in ("journal.jsonl", "checkpoint.pt"):
                (path,) = (own / "state" / "runs").glob(f"*/{file}")
                values[KEPT[file]] = path.stat().st_size / 1e3
        return values

    yield _series("epochs", one, sizes, arguments.rounds)


def _models(sizes: Sequence[int], arguments: Namespace, folder: Path) -> Iterable[Series]:
    store = f"sqlite:///{fresh_store(folder)}"
    ids = store_of_models(store, max(sizes), arguments.predictions, folder)

    def one(size: int) -> Values:
        return _work(folder, "compare", str(size), str(folder))

    def command(size: int) -> Values:
        return _process(["mlflow_project", "compare", "--runs", ",".join(ids[:size])], store, folder)[0]

    pairs = ("pairs", lambda size: size * (size - 1) / 2)
    yield _series("models", one, sizes, arguments.rounds, start=0, parts=pairs)
    yield _series("models, whole command", command, sizes, arguments.rounds, parts=pairs)


def _runs(sizes: Sequence[int], arguments: Namespace, folder: Path) -> Iterable[Series]:
    sizes = [size for size in sizes if size > FEW]
    store = f"sqlite:///{folder}/mlflow.db"
    train_one(store, folder)
    result: dict[str, dict[int, Values]] = {name: {} for name in COMMANDS}
    before = 1
    for size in (FEW, *sizes):
        fill(store, size, before)
        _fill_state(folder / "state" / "runs", before, size)
        before = size
        for name, command in COMMANDS.items():
            one = partial(_process, ["mlflow_project", *command], store, folder)
            result[name][size] = _median([one()[0] for _ in range(arguments.rounds)])
    for name, values in result.items():
        start = values.pop(FEW)
        yield Series(f"runs, {name}", values, start)


def _fill_state(runs: Path, first: int, count: int) -> None:
    """What the runs have left on this machine: the first one's folder again, its files as links."""
    template = min(runs.iterdir())
    for number in range(first, count):
        # A name that sorts after the first one's; no command asks for these runs' configuration.
        copy = runs / f"{template.name}-{number:06}"
        copy.mkdir()
        for path in template.iterdir():
            if path.is_file() and not path.name.endswith("lock"):
                os.link(path, copy / path.name)


def _series(
    name: str,
    one: Callable[[int], Values],
    sizes: Sequence[int],
    rounds: int,
    start: int | None = None,
    parts: tuple[str, Callable[[int], float]] | None = None,
) -> Series:
    """Measures all sizes in turn, several times, so that what disturbs one disturbs all."""
    wanted = [*([] if start is None else [start]), *sizes]
    seen: dict[int, list[Values]] = {size: [] for size in wanted}
    for _ in range(rounds):
        for size in wanted:
            seen[size].append(one(size))
    result = {size: _median(values) for size, values in seen.items()}
    return Series(
        name, {size: result[size] for size in sizes}, result[start] if start is not None else {}, parts
    )


def _median(values: Sequence[Values]) -> Values:
    return {key: statistics.median(each[key] for each in values) for key in values[0]}


def _work(folder: Path, *arguments: str) -> Values:
    """What `growth_work` measures of itself, and what is measured of its process."""
    values, printed = _process(["benchmarks.growth.work", *arguments], "sqlite://", folder)
    return {WORK: float(printed.splitlines()[-1]), **values}


def _process(module: Sequence[str], store: str, folder: Path) -> tuple[Values, str]:
    done = measure([sys.executable, "-m", *module], folder, environment(store, folder))
    return {PROCESS: done.seconds, CPU: done.cpu_seconds, MEMORY: done.peak_bytes / 1e6}, done.said

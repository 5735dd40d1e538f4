"""The whole of a run, from the command to a registered model, against what a person would write instead."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.common import Cell, Report, alternate, median_and_spread
from benchmarks.stages import EXIT
from benchmarks.usual import torchvision_folder
from hw2.data import load_dataset

ROOT = Path(__file__).resolve().parent.parent
OURS = "this service, train"
ACCURACY_TOLERANCE = 0.01


@dataclass(frozen=True)
class Place:
    """Where the candidates find the pictures, and a store that is made already, for each to have a copy."""

    pictures: Path
    store: Path
    scratch: Path


def options(parser: ArgumentParser) -> None:
    """Of this part."""
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--lr", type=float, default=0.1, help="default 0.1")
    parser.add_argument("--epochs", type=int, default=8, help="default 8")
    parser.add_argument("--only", nargs="*", default=[], help="candidates whose name has one of these words")


def run(arguments: Namespace) -> Report:
    """Every candidate as a process of its own with a fresh store, in turn."""
    dataset = load_dataset("mnist", arguments.data_dir)
    figures: dict[str, list[dict[str, float]]] = {}
    with torchvision_folder(dataset) as pictures, tempfile.TemporaryDirectory() as scratch:
        place = Place(pictures, fresh_store(Path(scratch)), Path(scratch))
        said = [str(pictures), str(arguments.lr), str(arguments.epochs)]
        # The embedded sample is no published set, so it is found by being asked for nothing else.
        data = [] if dataset.is_sample else ["--data-dir", str(pictures)]
        programs = {
            OURS: [
                *("mlflow_project", "train", "--lr", said[1], "--epochs", said[2], *data),
                *("--validation-size", "0", "--format", "json"),
            ],
            "usual loop, mlflow.log_metric": ["benchmarks.opponents.loop", *said],
            "Lightning, MLFlowLogger": ["benchmarks.opponents.lightning_logger", *said],
            "Lightning, mlflow.pytorch.autolog": ["benchmarks.opponents.lightning_logger", *said, "autolog"],
        }
        chosen = {
            n: p for n, p in programs.items() if not arguments.only or any(w in n for w in arguments.only)
        }
        candidates = {n: partial(_measure, place, p, figures.setdefault(n, [])) for n, p in chosen.items()}
        seconds = alternate(candidates, arguments.rounds)
        stages = _stages(place, programs[OURS], arguments.rounds) if OURS in chosen else {}
    rows: list[dict[str, Cell]] = []
    for name, times in seconds.items():
        ratios = [t / ours for t, ours in zip(times, seconds.get(OURS, times), strict=True)]
        rows.append(
            {
                "program": name,
                "seconds": median_and_spread(times, 1),
                "times this service": median_and_spread(ratios, 2),
                "not training or testing, s": _rest(times, figures[name]),
                "peak memory, MB": round(median(f["peak_mb"] for f in figures[name])),
                "test accuracy": f"{median(f['test_accuracy'] for f in figures[name]):.4f}",
            }
        )
    reached = [median(f["test_accuracy"] for f in found) for found in figures.values()]
    within = "within" if max(reached) - min(reached) <= ACCURACY_TOLERANCE else "MORE THAN"
    notes = [
        f"{dataset.name}, lr {arguments.lr}, {arguments.epochs} epochs, all {len(dataset.train):,} training pictures, "
        f"{arguments.rounds} rounds; whole processes with a SQLite store of their own; medians (smallest to largest).",
        f"Accuracies differ by {max(reached) - min(reached):.4f}, {within} the {ACCURACY_TOLERANCE} that is allowed.",
    ]
    if stages:
        said = "; ".join(f"{name} {value:.2f}" for name, value in stages.items())
        notes.append(f"{OURS}, step by step, seconds (medians of {arguments.rounds} more runs): {said}.")
    raw = {"seconds": seconds, "figures": figures, "stages": stages}
    return Report("One run, end to end", rows, notes, raw=raw)


def _stages(place: Place, program: Sequence[str], rounds: int) -> dict[str, float]:
    """Median seconds of each stage of our command, from the start of its process to its end."""
    found: list[dict[str, float]] = []
    for number in range(rounds):
        path = place.scratch / f"stages-{number}.json"
        run_program(place, ["benchmarks.stages", str(path), str(time.time()), *program[1:]])
        ended, written = time.time(), json.loads(path.read_text())
        found.append({**written["seconds"], EXIT: ended - written["ended"]})
    return {name: median(each.get(name, 0.0) for each in found) for name in found[-1]}


def _rest(times: Sequence[float], figures: Sequence[dict[str, float]]) -> str:
    spent = [
        t - f["train_seconds"] - f["test_seconds"] for t, f in zip(times, figures, strict=True) if len(f) > 2
    ]
    return median_and_spread(spent, 1) if spent else ""


def _measure(place: Place, program: Sequence[str], figures: list[dict[str, float]], number: int) -> None:
    said, peak_mb = run_program(place, program)
    figures.append({"peak_mb": peak_mb, **_figures(said)})


def run_program(place: Place, program: Sequence[str]) -> tuple[str, float]:
    """Runs a module with its arguments in a folder with a fresh store; its stdout and peak memory in MB."""
    folder = Path(tempfile.mkdtemp(dir=place.scratch))
    shutil.copyfile(place.store, folder / "mlflow.db")
    variables = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_PROJECT_STATE": str(folder / "state"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", *program]
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | variables, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            err.seek(0)
            raise SystemExit(f"{' '.join(program)} ended with {process.returncode}: {err.read()[-2000:]}")
        out.seek(0)
        said = out.read()
    shutil.rmtree(folder)
    return said, used.ru_maxrss / 1000


def _figures(said: str) -> dict[str, float]:
    """Of ours its row, of the others their last line."""
    try:
        (row,) = json.loads(said)
        return {key: float(row[key]) for key in ("test_accuracy", "train_seconds", "test_seconds")}
    except (ValueError, TypeError):
        return {"test_accuracy": float(said.splitlines()[-1])}


def fresh_store(folder: Path) -> Path:
    """MLflow's tables take seconds to make; nobody's program is charged with them."""
    store = folder / "fresh.db"
    code = (
        "import mlflow; c = mlflow.MlflowClient(); c.search_experiments(); c.search_registered_models(); "
        "c.create_experiment('lightning')"
    )
    uri = f"sqlite:///{store}"
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"MLFLOW_TRACKING_URI": uri}, check=True, cwd=folder
    )
    assert store.exists(), time.monotonic() - started
    return store

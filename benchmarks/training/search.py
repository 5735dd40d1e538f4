"""Our search at an equal budget in epochs against Optuna with Hyperband around the baseline loop, and the whole grid.

The space is a grid's, so that each of its configurations is trained once, by this service's trainer, and each search
then looks its results up: ours would get the same to the last bit, since its trials are bit-equal to trainings straight
through, and the baseline loop the same within rounding (`scripts/benchmark training`). The seconds are those epochs at
the measured speed of each. `--real` runs the command itself, too, and checks that it decides the same.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from benchmarks.baselines.training_loop import BaselineLoop, torchvision_folder
from benchmarks.common import Cell, Report, alternate
from hw2.common.errors import DivergenceError
from hw2.data.image_set import Dataset, ImageSet, load_dataset
from hw2.models.factory import new_model
from hw2.train_step.factory import make_train_step
from hw2.train_step.options import UpdateRule
from hw2.training.config import TrainingConfig
from hw2.training.runtime import native_bfloat16, resolve_runtime
from hw2.training.split import split_validation
from hw2.training.trainer import Trainer
from mlflow_project.searches import proposals
from mlflow_project.searches.halving import Halving, Outcome, Step
from mlflow_project.searches.order import run_in_order
from mlflow_project.searches.request import SearchSpec

OURS, HYPERBAND, GRID = "this search", "Optuna, Hyperband", "the whole grid"
_SPEED_IMAGES = 2_000
Curves = dict[tuple[float, int], list[tuple[float, float]]]
"""Validation accuracy and loss after each epoch, by learning rate and batch size; fewer where it has diverged."""


def options(parser: ArgumentParser) -> None:
    """Of this part."""
    parser.add_argument("--lr", default="0.003,0.01,0.03,0.1,0.3", help="the grid's; default %(default)s")
    parser.add_argument("--batch-size", default="32,64,128", help="the grid's; default %(default)s")
    parser.add_argument("--grid", type=int, default=9, help="epochs of each of its models; default 9")
    parser.add_argument("--budget", type=int, help="epochs of each search; default half of the grid's")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each kind; default 3")
    parser.add_argument("--images", type=int, help="train on so many; default all but those for validation")
    parser.add_argument("--rounds", type=int, default=3, help="of measuring the speeds; default 3")
    parser.add_argument("--curves", type=Path, help="a file that keeps what was trained, to go on with")
    parser.add_argument("--real", action="store_true", help="also run the command, with the first seed")


@dataclass(frozen=True)
class Point:
    """Where a search stands: epochs so far, of which batch sizes, and its best validation accuracy.

    That of a model in hand, which was trained to its last epoch: 0 before there is one.
    """

    epochs: Mapping[int, int]
    best: float


def run(arguments: Namespace) -> Report:
    """Train the grid, measure the speeds, and let each search look its results up."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dataset = load_dataset("mnist", arguments.data_dir)
    lrs = [float(value) for value in arguments.lr.split(",")]
    sizes = [int(value) for value in arguments.batch_size.split(",")]
    curves = train_grid(dataset, lrs, sizes, arguments.grid, arguments.images, arguments.curves)
    whole = sum(map(len, curves.values()))
    budget = arguments.budget or whole // 2
    spec = SearchSpec.of(
        lr=arguments.lr,
        batch_size=arguments.batch_size,
        epochs=f"1..{arguments.grid}",
        budget=f"{budget}epochs",
    )
    ways = {
        OURS: [ours(spec, curves, seed) for seed in range(arguments.seeds)],
        HYPERBAND: [hyperband(curves, seed, budget) for seed in range(arguments.seeds)],
        GRID: [grid(curves)],
    }
    validation = TrainingConfig().for_training_set(len(dataset.train)).validation_size
    images = arguments.images or len(dataset.train) - (validation or 0)
    seconds = measure_epochs(dataset, sizes, images, arguments.rounds)
    real = run_real(spec, arguments, ways[OURS][0]) if arguments.real else {}
    about = (
        f"{dataset.name}, {images:,} images to train; {len(curves)} configurations of {arguments.grid} epochs, "
        f"{whole} in all; {budget} epochs a search, {arguments.seeds} seeds."
    )
    return report(ways, seconds, about, real)


def train_grid(
    dataset: Dataset,
    lrs: Sequence[float],
    sizes: Sequence[int],
    epochs: int,
    images: int | None,
    file: Path | None,
) -> Curves:
    """Train each configuration once; what `file` has already isn't trained again."""
    kept: dict[str, list[tuple[float, float]]] = {}
    if file is not None and file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
    base = TrainingConfig().for_training_set(len(dataset.train))
    train, validation = split_validation(dataset.train, base.validation_size or 0)
    train = train.subset(torch.arange(images)) if images else train
    curves: Curves = {}
    for lr, size in product(lrs, sizes):
        key = f"lr={lr:g} batch_size={size} epochs={epochs} images={len(train)} {dataset.name}"
        if key not in kept:
            config = TrainingConfig(
                lr=lr, batch_size=size, epochs=epochs, validation_size=base.validation_size
            )
            kept[key] = _train(config, dataset, train, validation)
            if file is not None:
                file.write_text(json.dumps(kept), encoding="utf-8")
            print(f"{key}: {kept[key][-1:]}", file=sys.stderr)
        curves[lr, size] = [(accuracy, loss) for accuracy, loss in kept[key]]
    return curves


def _train(
    config: TrainingConfig, dataset: Dataset, train: ImageSet, validation: ImageSet | None
) -> list[tuple[float, float]]:
    runtime = resolve_runtime(config, lambda *_: 0)
    trainer = Trainer(config, runtime, dataset.sha256, train, validation)
    with suppress(DivergenceError):
        deque(trainer.epochs(), maxlen=0)
    return [(r.validation_accuracy or 0.0, r.validation_loss or 0.0) for r in trainer.history]


def ours(spec: SearchSpec, curves: Curves, seed: int) -> list[Point]:
    """Decide as the command does, on looked-up results."""
    params: list[dict[str, float | int]] = []
    points: list[Point] = []
    spent: dict[int, int] = {}

    def propose(number: int) -> bool:
        values = proposals.propose(spec.space, spec.sampler, seed, halving.trials, params, spec.rungs)
        if values is not None:
            params.append(values)
        return values is not None

    def find(step: Step) -> Outcome:
        values = params[step.number]
        curve = curves[float(values["lr"]), int(values["batch_size"])]
        if len(curve) < spec.rungs[step.rung]:
            return Outcome(0.0, math.inf, failed="diverged")
        return Outcome(*curve[spec.rungs[step.rung] - 1])

    def announce(step: Step) -> None:
        size = int(params[step.number]["batch_size"])
        spent[size] = spent.get(size, 0) + halving.cost(step)
        ended = find(step).accuracy if step.rung == len(spec.rungs) - 1 else 0.0
        points.append(_better(spent, ended, points))

    halving = Halving(spec.rungs, spec.reduction, spec.trials, spec.budget, 1, propose, lambda number: False)
    run_in_order(halving, 1, find, lambda step: None, find, announce)
    return points


def hyperband(curves: Curves, seed: int, budget: int) -> list[Point]:
    """Search as Optuna's documentation does: each trial from its beginning, asked after each epoch."""
    import optuna

    lrs, sizes = (sorted({key[axis] for key in curves}) for axis in (0, 1))
    most = max(map(len, curves.values()))
    study = optuna.create_study(
        study_name=f"seed {seed}",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=most, reduction_factor=3),
    )
    spent: dict[int, int] = {}
    points: list[Point] = []
    while sum(spent.values()) < budget:
        trial = study.ask()
        lr = trial.suggest_categorical("lr", lrs)
        size = int(trial.suggest_categorical("batch_size", sizes))
        state = optuna.trial.TrialState.COMPLETE
        if len(curves[float(lr), size]) < most:  # it diverges in the epoch after these
            state = optuna.trial.TrialState.FAIL
            spent[size] = spent.get(size, 0) + 1
        for epoch, (accuracy, _) in enumerate(curves[float(lr), size], 1):
            spent[size] = spent.get(size, 0) + 1
            points.append(_better(spent, accuracy if epoch == most else 0.0, points))
            trial.report(accuracy, epoch)
            if sum(spent.values()) == budget or (epoch < most and trial.should_prune()):
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, accuracy if state == optuna.trial.TrialState.COMPLETE else None, state)
    return points


def grid(curves: Curves) -> list[Point]:
    """Train every configuration to its end, one after another."""
    spent: dict[int, int] = {}
    points: list[Point] = []
    most = max(map(len, curves.values()))
    for (_, size), curve in curves.items():
        for epoch, (accuracy, _) in enumerate(curve, 1):
            spent[size] = spent.get(size, 0) + 1
            points.append(_better(spent, accuracy if epoch == most else 0.0, points))
    return points


def _better(spent: Mapping[int, int], accuracy: float, points: Sequence[Point]) -> Point:
    return Point(dict(spent), max([accuracy, *(point.best for point in points[-1:])]))


def measure_epochs(
    dataset: Dataset, sizes: Sequence[int], images: int, rounds: int
) -> dict[str, dict[int, float]]:
    """Measure the seconds of an epoch, by way of computing and batch size, all in turn."""
    precisions = ["bfloat16", "float32"] if native_bfloat16() else ["float32"]
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0))[:_SPEED_IMAGES]
    with torchvision_folder(dataset) as folder:
        candidates: dict[str, Callable[[int], None]] = {}
        for size in sizes:
            candidates[f"baseline {size}"] = _epochs_of_baseline(folder, size, order)
            for precision in precisions:
                candidates[f"{precision} {size}"] = _epochs_of_step(dataset, precision, size, order)
        for candidate in candidates.values():
            candidate(0)  # the first batches fill caches and choose kernels
        seconds = alternate(candidates, rounds)
    scale = images / len(order)
    return {
        way: {size: statistics.median(seconds[f"{way} {size}"]) * scale for size in sizes}
        for way in ("baseline", *precisions)
    }


def _epochs_of_baseline(folder: Path, size: int, order: torch.Tensor) -> Callable[[int], None]:
    loop = BaselineLoop(folder, 0.05, size)
    return lambda _: loop.train(order)


def _epochs_of_step(
    dataset: Dataset, precision: str, size: int, order: torch.Tensor
) -> Callable[[int], None]:
    step = make_train_step(
        new_model(0), lr=0.05, rule=UpdateRule(), precision=precision, device="cpu", batch_size=size
    )
    images = step.prepare(dataset.train.images)

    def train(_: int) -> None:
        for index in order.split(size):
            loss, _correct = step(images, dataset.train.labels, index)
        float(loss)

    return train


def run_real(spec: SearchSpec, arguments: Namespace, expected: Sequence[Point]) -> dict[str, float]:
    """Run the command in a process of its own: its seconds, and what it has found."""
    command = [sys.executable, "-m", "mlflow_project", "search", "--format", "json", "--no-register"]
    command += [
        "--lr",
        arguments.lr,
        "--batch-size",
        arguments.batch_size,
        "--epochs",
        f"1..{arguments.grid}",
    ]
    command += ["--budget", f"{spec.budget.epochs}epochs"]
    command += ["--data-dir", str(arguments.data_dir)] if arguments.data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        place = {
            "MLFLOW_PROJECT_STATE": f"{folder}/state",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        }
        started = time.perf_counter()
        done = subprocess.run(
            command, env={**os.environ, **place}, check=True, stdout=subprocess.PIPE, encoding="utf-8"
        )
        seconds = time.perf_counter() - started
    best = max(row["validation_accuracy"] or 0.0 for row in json.loads(done.stdout))
    return {"seconds": seconds, "found": best, "expected": expected[-1].best}


def report(
    ways: Mapping[str, Sequence[Sequence[Point]]],
    seconds: Mapping[str, Mapping[int, float]],
    about: str,
    real: Mapping[str, float],
) -> Report:
    """Tabulate what each way finds, after how many epochs and seconds."""
    best = ways[GRID][0][-1].best
    level = min(points[-1].best for name in (OURS, HYPERBAND) for points in ways[name])
    rows: list[dict[str, Cell]] = []
    for name, searches in ways.items():
        for seed, points in enumerate(searches):
            hit = next((sum(p.epochs.values()) for p in points if p.best >= best), None)
            row: dict[str, Cell] = {
                "way": name,
                "seed": seed if len(searches) > 1 else "",
                "epochs": sum(points[-1].epochs.values()),
                "validation accuracy found": f"{points[-1].best:.4f}",
                "epochs to the grid's best": "not reached" if hit is None else hit,
            }
            for way in seconds if name != HYPERBAND else ("baseline",):
                if name == HYPERBAND or way != "baseline":
                    row[f"seconds, {way}"] = f"{_seconds(points[-1], seconds[way]):,.0f}"
                    first = next(p for p in points if p.best >= level)
                    row[f"seconds to {level:.4f}, {way}"] = f"{_seconds(first, seconds[way]):,.0f}"
            rows.append(row)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    rows = [{key: row.get(key, "") for key in keys} for row in rows]
    notes = [about, *_ratios(ways, seconds, best, level)]
    wrong = []
    if real:
        notes.append(
            f"The command itself: {real['seconds']:,.0f} s in all, validation accuracy {real['found']:.4f} found."
        )
        if abs(real["found"] - real["expected"]) > 1e-9:
            wrong.append(f"the command found {real['found']:.4f}, looked up it was {real['expected']:.4f}")
    raw = {"seconds_of_an_epoch": seconds, "real": real, "points": _raw(ways)}
    return Report("Searches", rows, notes, raw, wrong)


def _seconds(point: Point, epoch: Mapping[int, float]) -> float:
    return sum(count * epoch[size] for size, count in point.epochs.items())


def _ratios(
    ways: Mapping[str, Sequence[Sequence[Point]]],
    seconds: Mapping[str, Mapping[int, float]],
    best: float,
    level: float,
) -> list[str]:
    """The two promises, and by how much they hold."""
    whole = sum(ways[GRID][0][-1].epochs.values())
    hits = [next((sum(p.epochs.values()) for p in points if p.best >= best), None) for points in ways[OURS]]
    shares = ", ".join("not reached" if hit is None else f"{hit / whole:.0%}" for hit in hits)
    short = ", ".join(f"{100 * (best - points[-1].best):.2f}" for points in ways[OURS])
    notes = [
        f"Share of the grid's {whole} epochs after which ours has the grid's best ({best:.4f}), by seed: {shares}; at "
        f"the end it lacks {short} points.",
    ]
    for way in seconds:
        if way == "baseline":
            continue
        budget, reach = [], []
        for mine, theirs in zip(ways[OURS], ways[HYPERBAND], strict=True):
            budget.append(_seconds(theirs[-1], seconds["baseline"]) / _seconds(mine[-1], seconds[way]))
            first = [next(p for p in points if p.best >= level) for points in (mine, theirs)]
            reach.append(_seconds(first[1], seconds["baseline"]) / _seconds(first[0], seconds[way]))
        notes.append(
            f"In {way}, Optuna with the baseline loop takes {statistics.median(budget):.2f} times as long for the "
            f"whole search ({min(budget):.2f} to {max(budget):.2f}), and {statistics.median(reach):.2f} times as long "
            f"until {level:.4f} is found ({min(reach):.2f} to {max(reach):.2f})."
        )
    return notes


def _raw(ways: Mapping[str, Sequence[Sequence[Point]]]) -> dict[str, list[list[tuple[int, float]]]]:
    return {
        name: [[(sum(p.epochs.values()), p.best) for p in points] for points in searches]
        for name, searches in ways.items()
    }

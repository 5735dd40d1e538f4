"""The whole of a run, from the command to a registered model, against what a person would write instead."""

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.baselines.training_loop import torchvision_folder
from benchmarks.common import Cell, Report, alternate, median_and_spread
from benchmarks.programs import (
    TEST_IMAGES,
    Logged,
    Place,
    allowed_difference,
    home,
    logged,
    prepare_place,
    run_program,
    stages,
)
from benchmarks.training.stages import TESTING, TRAINING
from hw2.data.image_set import load_dataset

OURS = "this service, train"
# The others compute on the processor, so ours does.
OPTIONS = ["--validation-size", "0", "--device", "cpu", "--format", "json"]
REST_SECONDS = 6.0
"""What all steps but training and testing may take."""
MEMORY_MB = 1_500
"""What a run may need of memory."""


@dataclass(frozen=True)
class Done:
    """One program's run, and what of it its store had afterwards."""

    seconds: float
    memory_mb: float
    logged: Logged

    @property
    def rest(self) -> float | None:
        """Seconds that are in neither train_seconds nor test_seconds, where the run says both."""
        known = self.logged.seconds
        return self.seconds - sum(known.values()) if len(known) == 2 else None


def options(parser: ArgumentParser) -> None:
    """Options of this suite."""
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--lr", type=float, default=0.1, help="default 0.1")
    parser.add_argument("--epochs", type=int, default=8, help="default 8")
    parser.add_argument("--only", nargs="*", default=[], help="candidates whose name has one of these words")


def run(arguments: Namespace) -> Report:
    """Every candidate as a process of its own with a fresh store, in turn."""
    dataset = load_dataset("mnist", arguments.data_dir)
    done: dict[str, list[Done]] = {}
    with torchvision_folder(dataset) as images, tempfile.TemporaryDirectory() as scratch:
        place = prepare_place(Path(scratch))
        values = [str(images), str(arguments.lr), str(arguments.epochs)]
        # The embedded sample is no published set, so it is found by being asked for nothing else.
        data = [] if dataset.is_sample else ["--data-dir", str(images)]
        ours = ["train", "--lr", values[1], "--epochs", values[2], *data, *OPTIONS]
        programs = {
            OURS: ["mlflow_project", *ours],
            "usual loop, mlflow.log_metric": ["benchmarks.baselines.mlflow_loop", *values],
            "Lightning, MLFlowLogger": ["benchmarks.baselines.lightning_logger", *values],
            "Lightning, mlflow.pytorch.autolog": [
                "benchmarks.baselines.lightning_logger",
                *values,
                "autolog",
            ],
        }
        chosen = {
            n: p for n, p in programs.items() if not arguments.only or any(w in n for w in arguments.only)
        }
        candidates = {n: partial(_measure, place, p, done.setdefault(n, [])) for n, p in chosen.items()}
        alternate(candidates, arguments.rounds)
        parts = _stages(place, ours, arguments.rounds) if OURS in chosen else {}
    about = (
        f"{dataset.name}, lr {arguments.lr}, {arguments.epochs} epochs, all {len(dataset.train):,} training images, "
        f"{arguments.rounds} rounds; whole processes with a SQLite store of their own, kernels compiled before; "
        "medians (smallest to largest)."
    )
    return report(done, parts, about, len(dataset.test))


def report(
    done: Mapping[str, Sequence[Done]],
    parts: Mapping[str, Sequence[float]],
    about: str,
    test_images: int = TEST_IMAGES,
) -> Report:
    """done: by candidate, each round; parts: seconds of our command's stages, each round."""
    ours = done.get(OURS)
    rows: list[dict[str, Cell]] = []
    for name, rounds in done.items():
        ratios = [one.seconds / base.seconds for one, base in zip(rounds, ours or rounds, strict=True)]
        rests = [one.rest for one in rounds if one.rest is not None]
        last = rounds[-1].logged
        rows.append(
            {
                "program": name,
                "seconds": median_and_spread([one.seconds for one in rounds], 1),
                "times this service": median_and_spread(ratios, 2),
                "without train_seconds, test_seconds": median_and_spread(rests, 1) if rests else "",
                "peak memory, MB": round(median(one.memory_mb for one in rounds)),
                "test accuracy": f"{_accuracy(rounds):.4f}",
                "points, files, figures, versions": f"{last.points:,}, {last.files}, {last.figures}, {last.versions}",
            }
        )
    notes = [about]
    if parts:
        text = "; ".join(f"{name} {median_and_spread(spent, 2)}" for name, spent in parts.items())
        total = sum(median(spent) for spent in parts.values())
        beside = [name for name in parts if name not in (TRAINING, TESTING)]
        rest = median(map(sum, zip(*(parts[name] for name in beside), strict=True)))
        rounds = len(next(iter(parts.values())))
        notes += [
            f"{OURS}, step by step, s ({rounds} more runs): {text}; together {total:.2f}.",
            f"Limit: {_verdict(rest, REST_SECONDS, 's beside training and testing')}.",
        ]
    if ours:
        notes.append(f"Limit: {_verdict(median(one.memory_mb for one in ours), MEMORY_MB, 'MB')}.")
    raw = {"done": {name: [asdict(one) for one in rounds] for name, rounds in done.items()}, "stages": parts}
    return Report("One run, end to end", rows, notes, raw, _wrong(done, test_images))


def _wrong(done: Mapping[str, Sequence[Done]], test_images: int) -> list[str]:
    """What would make the comparison unfair."""
    accuracies = {name: _accuracy(rounds) for name, rounds in done.items()}
    furthest = max(accuracies.values()) - min(accuracies.values())
    allowed = allowed_difference(min(accuracies.values()), test_images)
    wrong = []
    if furthest > allowed:
        wrong.append(f"test accuracies differ by {furthest:.4f}, allowed are {allowed:.4f}: {accuracies}")
    for name, rounds in done.items():
        for other in done.get(OURS, []):
            for kind in ("figures", "versions"):
                less, more = getattr(other.logged, kind), min(getattr(one.logged, kind) for one in rounds)
                if less < more:
                    wrong.append(f"{OURS} logged {less} {kind}, {name} logged {more}")
    return wrong


def _accuracy(rounds: Sequence[Done]) -> float:
    return median(one.logged.accuracy for one in rounds)


def _verdict(result: float, limit: float, unit: str) -> str:
    return f"{result:,.1f} {unit}, {'within' if result <= limit else 'MORE THAN'} {limit:,.0f}"


def _stages(place: Place, arguments: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each stage of our command, each round."""
    result = [stages(place, arguments) for _ in range(rounds)]
    return {name: [each.get(name, 0.0) for each in result] for name in result[-1]}


def _measure(place: Place, program: Sequence[str], done: list[Done], number: int) -> float:
    with home(place) as (folder, variables):
        measured = run_program(program, folder, variables)
        (run,) = logged(folder)
    done.append(Done(measured.seconds, measured.peak_bytes / 1e6, run))
    return measured.seconds

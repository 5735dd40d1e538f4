"""The study's five models as one sweep, against training each alone, and against the usual loop."""

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

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
)
from benchmarks.training.run import OPTIONS
from hw2.data.image_set import load_dataset

OURS, ALONE, BASELINE = "this service, shared trainings", "this service, each alone", "usual loop, each alone"
# (lr, epochs): three shared trainings, which a grid says as two lists and one single trial.
MODELS = ((0.001, 10), (0.1, 5), (0.1, 8), (0.01, 5), (0.01, 8))


def options(parser: ArgumentParser) -> None:
    """Options of this suite."""
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument(
        "--without-baseline", action="store_true", help="leave the baseline training loop out"
    )
    parser.add_argument(
        "--divide-epochs", type=int, default=1, help="of each model, for a quick look; default 1"
    )


def run(arguments: Namespace) -> Report:
    """Each way as processes of their own, one after another on one fresh store, the ways in turn."""
    dataset = load_dataset("mnist", arguments.data_dir)
    models = [(lr, max(1, epochs // arguments.divide_epochs)) for lr, epochs in MODELS]
    result: dict[str, list[list[Logged]]] = {}
    with torchvision_folder(dataset) as images, tempfile.TemporaryDirectory() as scratch:
        place = prepare_place(Path(scratch))
        common = [*([] if dataset.is_sample else ["--data-dir", str(images)]), *OPTIONS]
        (long, *grid) = models
        shared = [
            ["sweep", "--lr", "0.1,0.01", "--epochs", ",".join(sorted({str(n) for _, n in grid})), *common],
            ["sweep", "--lr", str(long[0]), "--epochs", str(long[1]), *common],
        ]
        alone = [["train", "--lr", str(lr), "--epochs", str(epochs), *common] for lr, epochs in models]
        baselines = [
            ["benchmarks.baselines.mlflow_loop", str(images), str(lr), str(epochs)] for lr, epochs in models
        ]
        ways = {
            OURS: [["mlflow_project", *command] for command in shared],
            ALONE: [["mlflow_project", *command] for command in alone],
        } | ({} if arguments.without_baseline else {BASELINE: baselines})
        candidates = {
            name: partial(_all, place, programs, result.setdefault(name, []))
            for name, programs in ways.items()
        }
        seconds = alternate(candidates, arguments.rounds)
    epochs = sum(n for _, n in models), sum(dict(sorted(models)).values())
    about = (
        f"{dataset.name}, five models ({epochs[0]} epochs alone, {epochs[1]} shared), {arguments.rounds} rounds; whole "
        "processes, one after another: two of the shared trainings, five of the others."
    )
    return report(seconds, result, about, len(dataset.test))


def report(
    seconds: Mapping[str, Sequence[float]],
    result: Mapping[str, Sequence[Sequence[Logged]]],
    about: str,
    test_images: int = TEST_IMAGES,
) -> Report:
    """seconds: by way, each round; found: what each round has left in its store."""
    rows: list[dict[str, Cell]] = []
    for name, times in seconds.items():
        ratios = [t / ours for t, ours in zip(times, seconds[OURS], strict=True)]
        accuracies = ", ".join(f"{run.accuracy:.4f}" for run in _sorted(result[name][-1]))
        rows.append(
            {
                "way": name,
                "seconds": median_and_spread(times, 1),
                "times the shared trainings": median_and_spread(ratios, 2),
                "test accuracies": accuracies,
            }
        )
    raw = {"seconds": seconds, "accuracies": {row["way"]: row["test accuracies"] for row in rows}}
    order = ", ".join(f"lr={run.lr:g} epochs={run.epochs}" for run in _sorted(result[OURS][-1]))
    notes = [about, f"Accuracies in the order {order}."]
    return Report("The study's five models", rows, notes, raw, _wrong(result, test_images))


def _wrong(result: Mapping[str, Sequence[Sequence[Logged]]], test_images: int) -> list[str]:
    """What would make the comparison worthless: other models, or other weights than alone."""
    wrong = []
    expected = _sorted(result[OURS][0])
    for name, rounds in result.items():
        for runs in map(_sorted, rounds):
            if [(run.lr, run.epochs) for run in runs] != [(run.lr, run.epochs) for run in expected]:
                wrong.append(f"{name} left other models than {OURS}")
                continue
            for run, other in zip(runs, expected, strict=True):
                what = f"lr={run.lr:g} epochs={run.epochs}: {name}"
                if name != BASELINE and run.weights_sha256 != other.weights_sha256:
                    wrong.append(f"{what} ended with other weights than {OURS}")
                if abs(run.accuracy - other.accuracy) > allowed_difference(other.accuracy, test_images):
                    wrong.append(f"{what} reached {run.accuracy:.4f}, {OURS} {other.accuracy:.4f}")
    return wrong


def _sorted(runs: Sequence[Logged]) -> list[Logged]:
    return sorted(runs, key=lambda run: (run.lr, run.epochs or 0))


def _all(place: Place, programs: list[list[str]], result: list[list[Logged]], number: int) -> float:
    with home(place) as (folder, variables):
        seconds = sum(run_program(program, folder, variables).seconds for program in programs)
        result.append(logged(folder))
    return seconds

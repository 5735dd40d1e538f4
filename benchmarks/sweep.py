"""The study's five models as one sweep, against training each alone, and against the usual loop."""

import tempfile
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from benchmarks.common import Cell, Report, alternate, median_and_spread
from benchmarks.run import Place, fresh_store, run_program
from benchmarks.usual import torchvision_folder
from hw2.data import load_dataset

OURS, ALONE, USUAL = "this service, shared trainings", "this service, each alone", "usual loop, each alone"
# (lr, epochs): three shared trainings, which a grid says as two lists and one single cell.
MODELS = ((0.001, 10), (0.1, 5), (0.1, 8), (0.01, 5), (0.01, 8))


def options(parser: ArgumentParser) -> None:
    """Of this part."""
    parser.add_argument("--rounds", type=int, default=2, help="default 2")
    parser.add_argument("--without-usual", action="store_true", help="leave the usual loop out")


def run(arguments: Namespace) -> Report:
    """Each way as processes of their own with a fresh store, in turn."""
    dataset = load_dataset("mnist", arguments.data_dir)
    with torchvision_folder(dataset) as pictures, tempfile.TemporaryDirectory() as scratch:
        place = Place(pictures, fresh_store(Path(scratch)), Path(scratch))
        data = [] if dataset.is_sample else ["--data-dir", str(pictures)]
        common = [*data, "--validation-size", "0", "--format", "json"]
        shared = [
            ["sweep", "--lr", "0.1,0.01", "--epochs", "5,8", *common],
            ["sweep", "--epochs", "10", *common],
        ]
        alone = [["train", "--lr", str(lr), "--epochs", str(epochs), *common] for lr, epochs in MODELS]
        usual = [["benchmarks.opponents.loop", str(pictures), str(lr), str(epochs)] for lr, epochs in MODELS]
        ways = {
            OURS: [["mlflow_project", *command] for command in shared],
            ALONE: [["mlflow_project", *command] for command in alone],
        } | ({} if arguments.without_usual else {USUAL: usual})
        seconds = alternate({name: partial(_all, place, ps) for name, ps in ways.items()}, arguments.rounds)
    rows: list[dict[str, Cell]] = [
        {
            "way": name,
            "seconds": median_and_spread(times, 1),
            "times the shared trainings": median_and_spread(
                [t / ours for t, ours in zip(times, seconds[OURS], strict=True)], 2
            ),
        }
        for name, times in seconds.items()
    ]
    notes = [
        f"{dataset.name}, five models (36 epochs alone, 26 shared), {arguments.rounds} rounds; whole processes."
    ]
    return Report("The study's five models", rows, notes, raw={"seconds": seconds})


def _all(place: Place, programs: list[list[str]], number: int) -> None:
    # A sweep's second command finds nothing of the first: what it does is charged in full.
    for program in programs:
        run_program(place, program)

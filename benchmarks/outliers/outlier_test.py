"""`mlflow-project outliers` over three registered models: all test digits and all garments, as a whole process."""

import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from benchmarks.common import Report, median_and_spread
from benchmarks.programs import Place, fresh_store, home, run_program
from hw2.data.image_set import load_dataset
from hw2.outliers.datasets import load_outliers

SEEDS = "0,2,3"  # one model each; how well they are trained doesn't change the time
LIMIT_SECONDS = 60.0


def options(parser: ArgumentParser) -> None:
    """Options of this suite."""
    parser.add_argument("--rounds", type=int, default=3, help="default 3")


def run(arguments: Namespace) -> Report:
    """Trains three models for an epoch, then asks for the outlier test of all three, several times."""
    dataset = load_dataset("mnist", arguments.data_dir)
    outliers = load_outliers("fashion-mnist", arguments.data_dir, dataset.test)
    data = ["--data-dir", str(arguments.data_dir.resolve())] if arguments.data_dir else []
    with (
        tempfile.TemporaryDirectory() as scratch,
        home(Place(fresh_store(Path(scratch)), Path(scratch))) as at,
    ):
        folder, variables = at
        run_program(
            ["mlflow_project", "sweep", "--lr", "0.05", "--epochs", "1", "--seeds", SEEDS, *data],
            folder,
            variables,
        )
        command = ["mlflow_project", "outliers", "--models", "1,2,3", *data]
        result = [run_program(command, folder, variables) for _ in range(arguments.rounds)]
    seconds = [one.seconds for one in result]
    row = {
        "models": 3,
        "digits": len(dataset.test),
        "outliers": len(outliers),
        "seconds": median_and_spread(seconds, 1),
        "peak memory, MB": round(max(one.peak_bytes for one in result) / 1e6),
        f"within {LIMIT_SECONDS:.0f} s": "yes" if max(seconds) <= LIMIT_SECONDS else "NO",
    }
    notes = [
        f"{dataset.name} and {outliers.name}, {arguments.rounds} rounds; the whole command: look-up, verification, the "
        "training images that scores are fitted on, both sets, all scores with intervals, figures, delivery."
    ]
    return Report("The outlier test", [row], notes, raw={"seconds": seconds})

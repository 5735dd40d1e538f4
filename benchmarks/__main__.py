"""`python -m benchmarks SUITE`; a suite is a module with `options(parser)` and `run(arguments) -> Report`."""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmarks.all_suites import run_all
from benchmarks.common import Report, machine, show, write
from hw2.common.errors import Hw2Error
from mlflow_project.common.errors import ServiceError

SUITES = {  # by name: the module below benchmarks, and what it measures
    "training": ("training.train_step", "images per second of the training step against the baseline loop"),
    "run": (
        "training.run",
        "a whole run, from the command to a registered model, against the baseline programs",
    ),
    "sweep": ("training.sweep", "the reference study's five models as one sweep, against each alone"),
    "search": (
        "training.search",
        "a search at an equal budget against Optuna's Hyperband around the baseline loop, and the whole grid",
    ),
    "outliers": ("outliers.scores", "every outlier score on every outlier set, over several seeds"),
    "outlier_test": (
        "outliers.outlier_test",
        "the command outliers over three models, all test images of both sets",
    ),
    "verdicts": (
        "comparison.verdicts",
        "how often configurations are called better in simulated studies",
    ),
    "profile": ("training.profile", "where a training step's time goes, operator by operator"),
    "serving": ("service.serving", "the time that an image takes through mlflow models serve"),
    "service": ("service.commands", "commands, the UI and writers on a store with 10,000 runs"),
    "growth": (
        "growth.suite",
        "time and memory against images, epochs, models in compare and runs in the store",
    ),
}
ALL = "all"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    suites = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    descriptions = {name: description for name, (_, description) in SUITES.items()}
    chosen = next((argument for argument in sys.argv[1:] if argument in SUITES), None)
    for name, help_ in {
        **descriptions,
        ALL: "every suite in turn, each with its defaults, in one file",
    }.items():
        suite = suites.add_parser(name, help=help_, description=help_)
        suite.add_argument(
            "--data-dir", type=Path, help="folder of MNIST/raw; without it the embedded sample"
        )
        suite.add_argument("--json", type=Path, help="where to write; default benchmarks/results/SUITE.json")
        if name == chosen:  # a suite imports what it measures
            load_suite(name).options(suite)
    arguments = parser.parse_args()
    path = arguments.json or Path(__file__).parent / "results" / f"{arguments.suite}.json"
    if arguments.suite == ALL:
        data = ["--data-dir", str(arguments.data_dir)] if arguments.data_dir else []
        command = [sys.executable, "-m", "benchmarks"]
        raise SystemExit(run_all(list(SUITES), lambda suite: [*command, suite, *data], path))
    facts = machine()
    try:
        report: Report = load_suite(arguments.suite).run(arguments)
    except (Hw2Error, ServiceError) as error:
        raise SystemExit(f"scripts/benchmark: {error}") from error
    show(report, facts)
    write(report, facts, path)
    print(f"written to {path}")
    sys.exit(1 if report.wrong else 0)


def load_suite(name: str) -> ModuleType:
    return import_module(f"benchmarks.{SUITES[name][0]}")


if __name__ == "__main__":
    main()

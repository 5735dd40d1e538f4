"""`python -m benchmarks PART`; each part is a module with `options(parser)` and `run(arguments) -> Report`."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.common import Report, machine, show, write
from benchmarks.every_part import run_all
from hw2.common.errors import Hw2Error
from mlflow_project.common.errors import ServiceError

PARTS = {
    "training": "images per second of the training step against the loop that everybody writes",
    "run": "a whole run, from the command to a registered model, against what a person would write instead",
    "sweep": "the study's five models as one sweep, against each alone",
    "outliers": "every outlier score on every outlier set, over several seeds",
    "outlier_test": "the command outliers over three models, all digits and all garments",
    "profile": "where a training step's time goes, operator by operator",
    "serving": "the time that an image takes through mlflow models serve",
    "service": "commands, the UI and writers on a store with 10,000 runs",
    "growth": "time and memory against images, epochs, models in compare and runs in the store",
}
ALL = "all"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    chosen = next((argument for argument in sys.argv[1:] if argument in PARTS), None)
    for name, help_ in {**PARTS, ALL: "every part in turn, each with its defaults, in one file"}.items():
        part = parts.add_parser(name, help=help_, description=help_)
        part.add_argument("--data-dir", type=Path, help="folder of MNIST/raw; without it the embedded sample")
        part.add_argument("--json", type=Path, help="where to write; default benchmarks/results/PART.json")
        if name == chosen:  # a part imports what it measures
            import_module(f"benchmarks.{name}").options(part)
    arguments = parser.parse_args()
    path = arguments.json or Path(__file__).parent / "results" / f"{arguments.part}.json"
    if arguments.part == ALL:
        data = ["--data-dir", str(arguments.data_dir)] if arguments.data_dir else []
        command = [sys.executable, "-m", "benchmarks"]
        raise SystemExit(run_all(list(PARTS), lambda part: [*command, part, *data], path))
    facts = machine()
    try:
        report: Report = import_module(f"benchmarks.{arguments.part}").run(arguments)
    except (Hw2Error, ServiceError) as error:
        raise SystemExit(f"scripts/benchmark: {error}") from error
    show(report, facts)
    write(report, facts, path)
    print(f"written to {path}")
    sys.exit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()

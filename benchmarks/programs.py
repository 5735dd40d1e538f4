"""Whole programs, ours and others', each with a store of its own, and what each has left there."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Measured, measure
from benchmarks.training.stages import EXIT

EXPORTED = "exported"  # of the state folder
ROOT = Path(__file__).resolve().parent.parent
ACCURACY_TOLERANCE = 0.01
"""Same net, data, batch and epochs: what is left between programs is another order of images, and rounding."""
TEST_IMAGES = 10_000
"""Of the full set, whose accuracies that tolerance is for."""


@dataclass(frozen=True)
class Place:
    """A store that is made already, for each program to have a copy, and where the copies go.

    exported: what our service has kept for later runs of this machine, also for each to have.
    """

    store: Path
    scratch: Path
    exported: Path | None = None


@dataclass(frozen=True)
class Logged:
    """A finished run as its store has it."""

    lr: float
    epochs: int | None  # not everybody logs it
    accuracy: float
    seconds: dict[str, float]  # train_seconds and test_seconds, where they were logged
    points: int  # of all metrics
    files: int  # artifacts and the model's files
    figures: int  # among them
    versions: int  # of registered models
    weights_sha256: str | None


def allowed_difference(accuracy: float, images: int) -> float:
    """How far two programs' accuracies on so many test images may be apart.

    Three standard deviations of the difference of two shares, which for few images is more than the tolerance.
    """
    return float(max(ACCURACY_TOLERANCE, 3 * (2 * accuracy * (1 - accuracy) / images) ** 0.5))


@contextmanager
def home(place: Place) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with a fresh store, and the variables of a program that works there; gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir=place.scratch))
    shutil.copyfile(place.store, folder / "mlflow.db")
    if place.exported is not None:
        shutil.copytree(place.exported, folder / "state" / EXPORTED)
    variables = {
        "MLFLOW_TRACKING_URI": _store(folder),
        "MLFLOW_PROJECT_STATE": str(folder / "state"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(ROOT),
    }
    try:
        yield folder, os.environ | variables
    finally:
        shutil.rmtree(folder)


def prepare_place(scratch: Path) -> Place:
    """A place where all is made that is made once: MLflow's tables, our compiled kernels and traced program.

    Whole runs are compared as the second and every later one on a machine is.
    """
    new = Place(fresh_store(scratch), scratch)
    exported = scratch / EXPORTED
    with home(new) as (folder, variables):
        run_program(
            ["mlflow_project", "train", "--dataset", "mnist-sample", "--epochs", "1"], folder, variables
        )
        shutil.copytree(folder / "state" / EXPORTED, exported)
    return Place(new.store, scratch, exported)


def run_program(program: Sequence[str], folder: Path, variables: dict[str, str]) -> Measured:
    """Runs a module with its arguments. SystemExit where it fails."""
    return measure([sys.executable, "-m", *program], folder, variables)


def logged(folder: Path) -> list[Logged]:
    """The finished runs of a folder's store, from the first to the last, without those above others.

    SystemExit where a run isn't finished: who leaves something for later would count as fast.
    """
    from mlflow import MlflowClient

    client = MlflowClient(_store(folder))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time"])
    above = {run.data.tags.get("mlflow.parentRunId") for run in runs}
    versions = [version.run_id for version in client.search_model_versions()]
    result = []
    for run in runs:
        if run.info.run_id in above:
            continue
        if run.info.status != "FINISHED":
            raise SystemExit(f"a program left its run {run.info.status}")
        run_id, metrics, parameters = run.info.run_id, run.data.metrics, run.data.params
        models = client.search_logged_models(experiments, filter_string=f"source_run_id = '{run_id}'")
        places = [run.info.artifact_uri, *(model.artifact_location for model in models)]
        files = [path for place in places for path in _files(str(place))]
        result.append(
            Logged(
                lr=float(parameters["lr"]),
                epochs=int(parameters["epochs"]) if "epochs" in parameters else None,
                accuracy=metrics["test_accuracy"],
                seconds={k: metrics[k] for k in ("train_seconds", "test_seconds") if k in metrics},
                points=sum(len(client.get_metric_history(run_id, key)) for key in metrics),
                files=len(files),
                figures=sum(path.suffix == ".png" for path in files),
                versions=versions.count(run_id),
                weights_sha256=run.data.tags.get("weights_sha256"),
            )
        )
    return result


def fresh_store(folder: Path) -> Path:
    """MLflow's tables take seconds to make; nobody's program is charged with them."""
    code = (
        "import mlflow; c = mlflow.MlflowClient(); c.search_experiments(); c.search_registered_models(); "
        "c.create_experiment('lightning')"
    )
    store = folder / "fresh.db"
    variables = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}"}
    subprocess.run([sys.executable, "-c", code], env=variables, check=True, cwd=folder)
    return store


def stages(place: Place, arguments: Sequence[str]) -> dict[str, float]:
    """Seconds of each stage of one of our commands, from the start of its process to its end."""
    with home(place) as (folder, variables):
        path = folder / "stages.json"
        run_program(
            ["benchmarks.training.stages", str(path), str(time.time()), *arguments], folder, variables
        )
        # Here, before the folder is removed, which is nobody's work but ours.
        ended, written = time.time(), json.loads(path.read_text(encoding="utf-8"))
    return {**written["seconds"], EXIT: ended - written["ended"]}


def _store(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def _files(uri: str) -> list[Path]:
    folder = Path(uri.removeprefix("file://"))
    return [path for path in folder.rglob("*") if path.is_file()]

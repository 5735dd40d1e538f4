"""`mlflow models serve` on one of our models: how soon it is ready, and how long a request takes."""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
import torch

from benchmarks.common import Report
from hw2.data.image_set import load_dataset
from hw2.evaluation.evaluate import evaluate
from hw2.models.factory import new_model
from hw2.outliers.detector import OutlierDetector
from mlflow_project.packaging.model_files import write_model_files

READY_SECONDS = 180
FITTED_ON = 1000


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=300, help="of each size, after ten that don't count")
    parser.add_argument("--images", type=int, nargs="+", default=[1, 100], help="in one request")


def run(arguments: Namespace) -> Report:
    dataset = load_dataset("mnist", arguments.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "model"
        _write(files, dataset.train.images[:2].clone())
        with served(files) as (address, ready):
            rows = []
            for images in arguments.images:
                body = {"inputs": dataset.test.images[:images].tolist()}
                spent = _ask(address, body, arguments.requests)
                rows.append(
                    {
                        "images in a request": images,
                        "requests": len(spent),
                        "median ms": round(1000 * statistics.median(spent), 1),
                        "95 % within ms": round(1000 * statistics.quantiles(spent, n=20)[-1], 1),
                    }
                )
    title = f"mlflow models serve, one request after another; ready after {ready:.1f} s"
    notes = ["Each request is JSON over a kept connection; the time is that until the answer is read."]
    return Report(title, rows, notes)


def _write(files: Path, example: torch.Tensor) -> None:
    """A model as it is registered. Untrained: the time is the same."""
    model = new_model(0).eval()
    train = load_dataset("mnist-sample").train
    fitted, held_out = (evaluate(model, train.subset(torch.arange(n, n + FITTED_ON))) for n in (0, FITTED_ON))
    write_model_files(files, model, OutlierDetector.fit(fitted, held_out), example)


@contextmanager
def served(model: Path) -> Iterator[tuple[str, float]]:
    """The address of a server of a model, and the seconds until it answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # MLflow starts uvicorn by its name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["models", "serve", "-m", str(model), "--env-manager", "local", "-p", str(port)]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command],
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            try:
                requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                if process.poll() is not None or time.monotonic() - started > READY_SECONDS:
                    raise SystemExit("mlflow models serve didn't start") from None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", time.monotonic() - started
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _ask(address: str, body: object, count: int) -> list[float]:
    """Seconds of each request."""
    spent = []
    with requests.Session() as session:
        for number in range(count + 10):
            started = time.perf_counter()
            session.post(f"{address}/invocations", json=body, timeout=60).raise_for_status()
            if number >= 10:
                spent.append(time.perf_counter() - started)
    return spent

"""`python -m benchmarks.logging.calls WAY CALLS POINTS`, with MLFLOW_TRACKING_URI set: one way of logging, measured.

Prints JSON: seconds, and processor seconds, of each of CALLS single `mlflow.log_metric`, then the seconds in which
POINTS are logged, and those in which the server has all of them.
"""

import json
import os
import sys
import time

import mlflow
from mlflow import MlflowClient

from benchmarks.logging.ways import ASYNCHRONOUS, NO_STORE

WAIT_SECONDS = 300
WARM_UP = 20


def main(way: str, calls: int, points: int) -> None:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    mlflow.set_experiment("logging")
    synchronous = None if way != ASYNCHRONOUS else False
    with mlflow.start_run() as run:
        if way == NO_STORE:
            store = MlflowClient()._tracking_client.store
            store.log_metric = lambda *_: None
        spent, used = [], []
        for step in range(calls + WARM_UP):
            started, cpu = time.perf_counter(), time.thread_time()
            mlflow.log_metric("single", 0.5, step=step, synchronous=synchronous)
            used.append(time.thread_time() - cpu)
            spent.append(time.perf_counter() - started)
            time.sleep(0.001)  # as between the steps of a training
        logged = delivered = None
        if points:
            started = time.perf_counter()
            for step in range(points):
                mlflow.log_metric("many", step, step=step, synchronous=synchronous)
            logged = time.perf_counter() - started
            if way != NO_STORE and wait_for(uri.removeprefix("durable+"), run.info.run_id, points):
                delivered = time.perf_counter() - started
    found = {"calls": spent[WARM_UP:], "cpu": used[WARM_UP:], "points": points}
    print(json.dumps({**found, "logged": logged, "delivered": delivered}))


def wait_for(uri: str, run_id: str, points: int) -> bool:
    """Whether the server has the last of these points within WAIT_SECONDS."""
    client = MlflowClient(uri)
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if client.get_run(run_id).data.metrics.get("many") == points - 1:
            return True
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

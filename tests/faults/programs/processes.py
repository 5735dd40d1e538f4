"""Several processes write to one run: forked, spawned, and a program that is started with MLFLOW_RUN_ID."""

import multiprocessing
import os
import subprocess
import sys
import time

import mlflow
from mlflow import MlflowClient

RANKS = 2
STEPS = 40
PROGRAM = """
import mlflow
with mlflow.start_run():
    mlflow.log_param("started_by", "variable")
    for step in range(20):
        mlflow.log_metric("grandchild", step * 0.5, step=step)
"""


def work(run_id: str, rank: int, way: str) -> None:
    """Log as a rank of a distributed training does: by the run's ID."""
    client = MlflowClient()
    for step in range(STEPS):
        client.log_metric(run_id, f"{way}/rank-{rank}", rank + step / 10, step=step)
        client.log_metric(run_id, f"{way}/shared", float(rank), step=step * RANKS + rank)
        time.sleep(0.02)
    client.log_text(run_id, f"{way} {rank}", f"ranks/{way}-{rank}.txt")
    client.set_tag(run_id, f"{way}.{rank}", "done")


def main() -> None:
    mlflow.set_experiment("processes")
    with mlflow.start_run(run_name="shared") as run:
        mlflow.log_metric("main", 0.0, step=0)
        for way in ("fork", "spawn"):
            context = multiprocessing.get_context(way)
            ranks = [context.Process(target=work, args=(run.info.run_id, rank, way)) for rank in range(RANKS)]
            for process in ranks:
                process.start()
            for step in range(1, STEPS):
                mlflow.log_metric(f"main during {way}", step, step=step)
            for process in ranks:
                process.join()
                assert process.exitcode == 0, process.exitcode
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "MLFLOW_RUN_ID": run.info.run_id}, check=True
        )
        mlflow.log_metric("main", 1.0, step=1)


if __name__ == "__main__":
    main()

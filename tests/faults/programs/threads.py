"""Several threads write to one run, and each to a run of its own."""

import threading
import time
from pathlib import Path

import mlflow
from mlflow import MlflowClient

THREADS = 6
STEPS = 50


def work(shared: str, number: int, failures: list[BaseException]) -> None:
    try:
        client = MlflowClient()
        with mlflow.start_run(run_name=f"thread-{number}", nested=True, parent_run_id=shared):
            for step in range(STEPS):
                mlflow.log_metric("own", number * step, step=step)
                client.log_metric(shared, f"thread-{number}", step / (number + 1), step=step)
                time.sleep(0.01)
            path = Path(f"thread-{number}.bin")
            path.write_bytes(bytes([number]) * 300_000)
            mlflow.log_artifact(str(path))
            client.log_dict(shared, {"thread": number}, f"threads/{number}.json")
    except BaseException as error:
        failures.append(error)
        raise


def main() -> None:
    mlflow.set_experiment("threads")
    failures: list[BaseException] = []
    with mlflow.start_run(run_name="shared") as run:
        workers = [
            threading.Thread(target=work, args=(run.info.run_id, number, failures))
            for number in range(THREADS)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        mlflow.log_metric("threads", len(workers))
    assert not failures, failures


if __name__ == "__main__":
    main()

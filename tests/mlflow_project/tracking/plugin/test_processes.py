"""Several processes write to one run, and a process ends however it likes: the states are true and nothing is lost."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import pytest

from mlflow_project.tracking.hub import lifecycle
from mlflow_project.tracking.journal import format, local_runs
from mlflow_project.tracking.journal.entities import RunEnded
from mlflow_project.tracking.stale_runs import mark_killed
from tests.support.durable import deliver_all, end_program, sync_to

pytestmark = pytest.mark.process

PROGRAM = """
import os, sys, mlflow
with mlflow.start_run(run_name="alone"):
    for step in range(20):
        mlflow.log_metric("loss", step, step=step)
    mlflow.log_text("text", "a.txt")
    print("ready", flush=True)
    {end}
"""


def log_points(run_id: str, key: str) -> None:
    client = mlflow.MlflowClient()
    for step in range(30):
        client.log_metric(run_id, key, step, step=step)


def counts(store: str) -> dict[str, dict[str, int]]:
    client = mlflow.MlflowClient(store, store)
    return {
        run.info.run_name: {
            key: len(client.get_metric_history(run.info.run_id, key)) for key in sorted(run.data.metrics)
        }
        for run in client.search_runs(["0"])
    }


@pytest.mark.parametrize("kind", ["durable", "away"])
def test_threads_forks_and_processes_write_to_one_run(
    kind: str, request: pytest.FixtureRequest, store: str
) -> None:
    request.getfixturevalue(kind)
    with mlflow.start_run(run_name="shared") as run:
        run_id = run.info.run_id
        mlflow.log_param("lr", 1)
        threads = [threading.Thread(target=log_points, args=(run_id, f"thread {n}")) for n in range(3)]
        processes = [
            multiprocessing.get_context(start).Process(target=log_points, args=(run_id, start))
            for start in ("fork", "spawn")
        ]
        for process in processes:
            process.start()
        for worker in (*threads, *processes):
            if worker in threads:
                worker.start()
        for worker in (*threads, *processes):
            worker.join()
        child = os.fork()
        if child == 0:
            log_points(run_id, "forked")
            os._exit(0)
        os.waitpid(child, 0)
    assert [process.exitcode for process in processes] == [0, 0]
    if kind == "durable":
        deliver_all()
        lifecycle.finish(20)
    else:
        end_program()
        sync_to(store)
    # The child of `spawn` ended with a wait of its own.
    for left in local_runs.undelivered():
        raise AssertionError(f"{left.header.run_name}: {left.pending}")
    assert counts(store) == {
        "shared": dict.fromkeys(["fork", "forked", "spawn", "thread 0", "thread 1", "thread 2"], 30)
    }


def test_the_last_end_of_a_run_counts_whichever_journal_is_uploaded_last(away: str, store: str) -> None:
    run = mlflow.start_run(run_name="shared")
    inner = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('inner', 1)"
    environment = {**os.environ, "MLFLOW_RUN_ID": run.info.run_id}
    subprocess.run([sys.executable, "-c", inner], env=environment, check=True)
    mlflow.end_run("FAILED")
    end_program()
    own, added = local_runs.in_order(local_runs.local_runs())
    assert (own.header.adds_to, added.header.adds_to) == (None, run.info.run_id)
    sync_to(store)  # in this order, so that the inner program's end, FINISHED and earlier, comes last
    (found,) = mlflow.MlflowClient(store, store).search_runs(["0"])
    values = (item.value for item in format.read_entries(own.folder) if isinstance(item, format.Entry))
    (end,) = (value for value in values if isinstance(value, RunEnded))
    assert (found.info.status, found.info.end_time) == ("FAILED", end.timestamp_ms)
    assert found.data.metrics == {"inner": 1}


def start(end: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(end=end)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "ready\n":
        assert line, process.stderr and process.stderr.read()
    return process


@pytest.mark.parametrize(
    ("number", "status", "state"),
    [(signal.SIGTERM, -15, "killed"), (signal.SIGKILL, -9, "interrupted"), (signal.SIGINT, -2, "failed")],
)
def test_a_signal_leaves_true_states(away: str, store: str, number: int, status: int, state: str) -> None:
    process = start("import time; time.sleep(100)")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (status, 1)
    if number != signal.SIGKILL:
        assert (
            errors.splitlines()[-1].endswith("upload the rest with: mlflow-project sync")
            or "Interrupt" in errors
        )
    (run,) = local_runs.local_runs()
    assert run.state == state
    if state == "interrupted":
        mark_killed(run)
    sync_to(store)
    (found,) = mlflow.MlflowClient(store, store).search_runs(["0"])
    assert found.info.status == {"failed": "FAILED"}.get(state, "KILLED")
    assert counts(store) == {"alone": {"loss": 20}}
    assert (Path(found.info.artifact_uri) / "a.txt").read_text(encoding="utf-8") == "text"


def test_the_end_says_once_what_is_left_and_waits_no_longer_than_it_was_told(away: str) -> None:
    process = start("pass")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = [line for line in errors.splitlines() if line.startswith("durable tracking: ")]
    assert len(lines) == 2
    assert "is unreachable; what is logged waits in" in lines[0]
    assert lines[1].startswith("durable tracking: 1 journal of this process not uploaded completely (http")


def test_the_end_waits_for_a_store_that_is_there(
    durable: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DURABLE_WAIT", "60")
    process = start("pass")
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert counts(store) == {"alone": {"loss": 20}}
    assert local_runs.undelivered() == []


def test_the_programs_own_handler_of_sigterm_is_left_alone(durable: str) -> None:
    def own(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        lifecycle._is_watching = False
        mlflow.get_experiment("0")
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)

"""A run that was stopped under `mlflow run` says KILLED, although MLflow says FAILED at its own end."""

import subprocess
import sys
import threading

import pytest
from mlflow import MlflowClient

from mlflow_project import afterwards


@pytest.mark.parametrize(("said", "kept"), [("interrupted", "KILLED"), ("failed", "FAILED")])
def test_only_an_interrupted_run_is_said_to_be_killed_once_its_parent_has_ended(
    said: str, kept: str, store: str
) -> None:
    client = MlflowClient(store)
    run_id = client.create_run("0").info.run_id
    client.set_tag(run_id, "status", said)
    client.set_terminated(run_id, "KILLED")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        work = threading.Thread(target=afterwards.main, args=(run_id, parent.pid))
        work.start()
        client.set_terminated(run_id, "FAILED", 1_234_567)  # as MLflow does before it ends
        assert parent.stdin is not None
        parent.stdin.close()
        parent.wait()
    work.join()
    info = client.get_run(run_id).info
    assert (info.status, info.end_time) == (kept, 1_234_567)

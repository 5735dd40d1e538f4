"""What a run has said of its end under `mlflow run` stands, although MLflow says FAILED at its own end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_project.cli import mlflow_run
from tests.support.tiny import VALIDATION, make_tiny

ROOT = Path(__file__).resolve().parents[3]


def mlflow_run_command(data: Path, **parameters: float) -> tuple[list[str], dict[str, str]]:
    """`mlflow run` on that data with these parameters, and its environment.

    As after `. scripts/activate`: the ID that `mlflow run` hands on counts before the name.
    """
    arguments = {**parameters, "dataset": data, "threads": 1, "validation_size": VALIDATION}
    words = [word for name, value in arguments.items() for word in ("-P", f"{name}={value}")]
    programs = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_EXPERIMENT_NAME": "mnist-base-cnn",
    }
    return [str(programs / "mlflow"), "run", str(ROOT), "--env-manager", "local", *words], environment


@pytest.mark.parametrize(
    ("tag", "status"), [("interrupted", "KILLED"), ("completed", "FINISHED"), ("failed", "FAILED")]
)
def test_what_a_run_has_said_of_its_end_stands_again_once_its_parent_has_ended(
    tag: str, status: str, store: str
) -> None:
    client = MlflowClient(store)
    run_id = client.create_run("0").info.run_id
    client.set_tag(run_id, "status", tag)
    client.set_terminated(run_id, "KILLED")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as parent:
        work = threading.Thread(target=mlflow_run.main, args=(run_id, parent.pid))
        work.start()
        client.set_terminated(run_id, "FAILED", 1_234_567)  # as MLflow does before it ends
        assert parent.stdin is not None
        parent.stdin.close()
        parent.wait()
    work.join()
    info = client.get_run(run_id).info
    assert (info.status, info.end_time) == (status, 1_234_567)


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_training_that_is_stopped_under_mlflow_run_stays_killed(
    number: signal.Signals, store: str, tmp_path: Path
) -> None:
    client = MlflowClient(store)
    # Made ahead: `mlflow run .` would keep the artifacts of a new experiment in the checkout.
    experiment = client.create_experiment("mnist-base-cnn", (tmp_path / "artifacts").as_uri())
    command, environment = mlflow_run_command(make_tiny(tmp_path / "tiny"), epochs=2000)
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, encoding="utf-8"
    ) as process:
        assert process.stderr is not None
        output = ""
        while "epoch    2/2000" not in output:
            line = process.stderr.readline()
            assert line, output
            output += line
        while "owner" not in (run := client.search_runs([experiment])[0]).data.tags:
            time.sleep(0.1)
        os.kill(int(run.data.tags["owner"].split()[-1]), number)
        output += process.communicate(timeout=300)[1]
    assert process.returncode == 1
    # MLflow's own end of the run came last, and is put right by a process that outlives both.
    deadline = time.monotonic() + 300
    while (run := client.get_run(run.info.run_id)).info.status != "KILLED":
        assert time.monotonic() < deadline, output
        time.sleep(0.1)
    assert run.data.tags["status"] == "interrupted"


@pytest.mark.process
def test_all_runs_of_a_sweep_are_in_the_experiment_that_mlflow_run_was_told(
    store: str, tmp_path: Path
) -> None:
    client = MlflowClient(store)
    artifacts = tmp_path / "elsewhere"
    experiment = client.create_experiment("foo", artifacts.as_uri())
    command, environment = mlflow_run_command(make_tiny(tmp_path / "tiny"), lr=0.1, epochs=1)
    done = subprocess.run(
        [*command, "-e", "sweep", "--experiment-name", "foo"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    runs = client.search_runs([experiment])
    assert sorted(run.info.run_name.partition(" ")[0] for run in runs) == ["lr=0.1", "sweep"]
    assert all(str(run.info.artifact_uri).startswith(artifacts.as_uri()) for run in runs)
    assert client.get_experiment_by_name("mnist-base-cnn") is None

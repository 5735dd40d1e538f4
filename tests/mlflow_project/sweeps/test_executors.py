"""Every executor gives the same runs with the same weights, also where a worker dies."""

import contextlib
import os
import socket
import threading
from pathlib import Path

import psutil
import pytest

from mlflow_project.cli.main import run
from mlflow_project.sweeps.job_spec import JobSpec, TrialResult
from tests.support.sweeps import begin
from tests.support.tiny import move, options, sweep_runs, weights

pytestmark = pytest.mark.usefixtures("unrendered")

LR = "0.03,0.02"


RAY = "Ray isn't installed: pip install '.[ray]'"


class Killer(threading.Thread):
    """Kills, while it is entered, the first process below this test's own whose training has left a checkpoint."""

    def __init__(self, state: Path) -> None:
        super().__init__(daemon=True)
        self.state = state
        self.killed: int | None = None
        self.left = threading.Event()

    def __enter__(self) -> "Killer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        self.join()

    def run(self) -> None:
        while self.killed is None and not self.left.wait(0.02):
            for checkpoint in self.state.glob("runs/*/checkpoint.pt"):
                self.kill_owner_of(str(checkpoint.with_name("journal.jsonl")))

    def kill_owner_of(self, journal: str) -> None:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if journal in [file.path for file in process.open_files()]:
                    process.kill()
                    self.killed = process.pid
                    return


def in_process(
    tiny: Path, epochs: str, folder: Path, store: Path, patch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The weights that one process gives."""
    uri = move(folder, store, patch)
    assert run(["sweep", "--lr", LR, "--epochs", epochs, *options(tiny)]) == 0
    return weights(uri)


@pytest.mark.process
def test_two_processes_give_the_weights_of_one_and_a_killed_one_is_replaced(
    tiny: Path,
    store: str,
    tmp_path: Path,
    migrated_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Killer(tmp_path / "state") as killer:
        assert run(["sweep", "--lr", LR, "--epochs", "1,8", "--workers", "2", *options(tiny)]) == 0
    out, err = capfd.readouterr()
    assert killer.killed
    assert "was killed by signal 9; another worker resumes it" in err
    assert "resumed" in out
    (parent,), trials = sweep_runs(store)
    assert {trial.tags["mlflow.parentRunId"] for trial in trials} == {parent.run_id}
    by_two = weights(store)
    assert in_process(tiny, "1,8", tmp_path / "one", migrated_store, monkeypatch) == by_two


@pytest.mark.cluster
def test_a_ray_cluster_gives_the_same_weights_and_a_killed_worker_is_replaced(
    tiny: Path,
    store: str,
    tmp_path: Path,
    migrated_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ray", reason=RAY)
    command = ["sweep", "--lr", LR, "--epochs", "1,8", "--workers", "2", "--engine", "ray", *options(tiny)]
    with Killer(tmp_path / "state") as killer:
        assert run(command) == 0
    out, err = capfd.readouterr()
    assert killer.killed
    assert "was lost (WorkerCrashedError: The worker died" in err
    assert "another worker resumes it" in err
    assert "resumed" in out
    by_ray = weights(store)
    assert in_process(tiny, "1,8", tmp_path / "one", migrated_store, monkeypatch) == by_ray


@pytest.mark.cluster
def test_a_ray_sweep_that_is_asked_to_end_marks_its_runs(tiny: Path, store: str, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason=RAY)
    command = ["sweep", "--lr", LR, "--epochs", "500", "--workers", "2", "--engine", "ray", *options(tiny)]
    with begin(command, tmp_path / "state") as process:
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM" in err.splitlines()[-1]
    (parent,), trials = sweep_runs(store)
    assert {parent.status, *(trial.status for trial in trials)} == {"KILLED"}


@pytest.mark.cluster
def test_a_ray_cluster_that_is_there_already_is_used_by_its_address(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason=RAY)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        command = ["sweep", "--lr", "0.03", "--epochs", "1", "--engine", "ray", "--address", cluster.address]
        assert run([*command, *options(tiny)]) == 0
    finally:
        cluster.shutdown()
    assert len(weights(store)) == 1


@pytest.mark.parametrize("listener", ["nobody", "no Ray", "silent"])
def test_an_unreachable_ray_cluster_is_one_line_before_there_is_a_run(
    listener: str, tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason=RAY)
    from mlflow_project.sweeps import ray_executor

    monkeypatch.setattr(ray_executor, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(ray_executor, "_import", lambda: pytest.fail("Ray tries for minutes"))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if listener != "nobody":
            server.listen()
        if listener == "no Ray":

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            threading.Thread(target=answer, daemon=True).start()
        command = [
            "sweep",
            "--lr",
            "0.03",
            "--epochs",
            "1",
            "--engine",
            "ray",
            "--address",
            f"127.0.0.1:{port}",
        ]
        assert run([*command, *options(tiny)]) == 1
    error = capsys.readouterr().err.splitlines()
    assert f"no Ray cluster answers at 127.0.0.1:{port}" in error[-1]
    assert sweep_runs(store) == ([], [])


def test_an_address_that_is_none_is_wrong_usage(tiny: Path) -> None:
    pytest.importorskip("ray", reason=RAY)
    assert run(["sweep", "--engine", "ray", "--address", "host:port", *options(tiny)]) == 2


def test_each_line_of_a_ray_worker_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason=RAY)
    from mlflow_project.sweeps import ray_executor

    for name in ("RAY_DEDUP_LOGS", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    ray_executor._import()
    assert os.environ["RAY_DEDUP_LOGS"] == "0"


@pytest.mark.parametrize(("gpus", "workers", "share"), [(0, 2, 0), (1, 2, 0.5), (4, 4, 1), (8, 3, 2)])
def test_a_ray_worker_has_a_part_of_one_gpu_or_whole_ones(gpus: int, workers: int, share: float) -> None:
    from mlflow_project.sweeps.ray_executor import _gpus

    assert _gpus(gpus, workers) == share


@pytest.mark.cluster
def test_what_our_own_code_raises_in_a_ray_worker_is_said_and_not_tried_again(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason=RAY)
    from mlflow_project.sweeps import ray_executor

    def broken(spec: JobSpec) -> list[TrialResult]:
        raise ValueError("no such thing\nas this")

    monkeypatch.setattr(ray_executor, "_work", broken)
    command = ["sweep", "--lr", "0.03", "--epochs", "1", "--engine", "ray", *options(tiny)]
    assert run(command) == 1
    err = capsys.readouterr().err
    assert "ValueError: no such thing" in err.splitlines()[-1]
    assert "another worker resumes it" not in err

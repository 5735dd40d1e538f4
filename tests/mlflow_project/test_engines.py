"""Every engine gives the same runs with the same weights, also where a worker dies."""

import contextlib
import threading
import time
from pathlib import Path

import psutil
import pytest

from mlflow_project.cli import run
from tests.mlflow_project.tiny import kept, make_tiny, move, options, weights

LR = "0.03,0.02"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny(tmp_path / "tiny")


class Killer(threading.Thread):
    """Kills the first process below this test's own whose training has left a checkpoint."""

    def __init__(self, state: Path) -> None:
        super().__init__(daemon=True)
        self.state = state
        self.killed: int | None = None

    def run(self) -> None:
        deadline = time.monotonic() + 200
        while self.killed is None and time.monotonic() < deadline:
            for checkpoint in self.state.glob("runs/*/checkpoint.pt"):
                self.kill_owner_of(str(checkpoint.with_name("journal.jsonl")))
            time.sleep(0.02)

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


def test_two_processes_give_the_weights_of_one_and_a_killed_one_is_replaced(
    tiny: Path,
    store: str,
    tmp_path: Path,
    migrated_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    killer = Killer(tmp_path / "state")
    killer.start()
    assert run(["sweep", "--lr", LR, "--epochs", "1,8", "--workers", "2", *options(tiny)]) == 0
    out, err = capfd.readouterr()
    assert killer.killed
    assert "was killed by signal 9; its training goes on in another" in err
    assert "resumed" in out
    (parent,), cells = kept(store)
    assert {cell.tags["mlflow.parentRunId"] for cell in cells} == {parent.run_id}
    by_two = weights(store)
    assert in_process(tiny, "1,8", tmp_path / "one", migrated_store, monkeypatch) == by_two


def test_a_ray_cluster_gives_the_same_weights_and_a_killed_worker_is_replaced(
    tiny: Path,
    store: str,
    tmp_path: Path,
    migrated_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("ray", reason="Ray isn't installed: pip install 'mlflow-project[ray]'")
    killer = Killer(tmp_path / "state")
    killer.start()
    command = ["sweep", "--lr", LR, "--epochs", "1,8", "--workers", "2", "--engine", "ray", *options(tiny)]
    assert run(command) == 0
    out, err = capfd.readouterr()
    assert killer.killed
    assert "was lost (WorkerCrashedError); its training goes on in another" in err
    assert "resumed" in out
    by_ray = weights(store)
    assert in_process(tiny, "1,8", tmp_path / "one", migrated_store, monkeypatch) == by_ray

"""A store that was moved, or another one at its place, is never made or written to by who only delivers."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_project.cli import main
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.entities import Metric, RunEnded
from mlflow_project.tracking.journal.store_record import StoreRecord
from mlflow_project.tracking.journal.writer import Journal
from tests.support.tiny import options

pytestmark = pytest.mark.usefixtures("unrendered")

ROOT = Path(__file__).resolve().parents[4]


def last_line(capfd: pytest.CaptureFixture[str]) -> str:
    """The last line of stderr."""
    return capfd.readouterr().err.splitlines()[-1]


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "mlflow_project", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, encoding="utf-8"
    )


def half_delivered(store: str) -> Journal:
    """The journal of a run that has met its store and has more to deliver."""
    journal = Journal.create(store, "experiment", "lr=0.1")
    journal.append(Metric("m", 1.0, 1))
    assert deliver(journal.folder).complete
    journal.append(Metric("m", 2.0, 2), RunEnded())
    journal.close()
    return journal


@pytest.fixture
def moved(store: str, tmp_path: Path) -> tuple[Journal, Path]:
    """A run with values to deliver, and where its store is now."""
    journal = half_delivered(store)
    (tmp_path / "new").mkdir()
    return journal, (tmp_path / "mlflow.db").rename(tmp_path / "new" / "mlflow.db")


def points(uri: str, name: str = "lr=0.1") -> list[list[float]]:
    """The metric of each run of this name in a store."""
    client = open_client(uri)
    experiment = client.get_experiment_by_name("experiment")
    found = [] if experiment is None else client.search_runs([experiment.experiment_id])
    return [[point.value for point in client.get_metric_history(run.info.run_id, "m")] for run in found]


def test_a_store_that_was_moved_is_not_made_anew_and_gets_the_values_where_it_is(
    moved: tuple[Journal, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    journal, now = moved
    assert main.run(["sync"]) == 1
    line = last_line(capfd)
    assert "isn't there; say where the store is now by mlflow-project sync --to URI" in line
    assert "try again later" not in line
    assert main.run(["status"]) == 0
    assert "sync --to URI" in capfd.readouterr().out
    assert not (tmp_path / "mlflow.db").exists()
    assert main.run(["sync", "--to", f"sqlite:///{now}"]) == 0
    assert points(f"sqlite:///{now}") == [[1.0, 2.0]]
    assert not (tmp_path / "mlflow.db").exists()
    assert local_runs.local_run(journal.folder).header.tracking_uri == f"sqlite:///{now}"
    assert not local_runs.local_run(journal.folder).blocked


def test_another_store_at_the_old_place_gets_nothing(
    moved: tuple[Journal, Path],
    store: str,
    migrated_store: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    journal, now = moved
    shutil.copyfile(migrated_store, tmp_path / "mlflow.db")
    # In a process of its own: MLflow keeps the file that was moved open in this one.
    done = program("sync")
    assert done.returncode == 1
    assert "is another store than the one this run went to" in done.stderr.splitlines()[-1]
    shutil.copyfile(migrated_store, tmp_path / "other.db")
    run_id = local_runs.local_run(journal.folder).run_id
    assert main.run(["sync", "--to", f"sqlite:///{tmp_path}/other.db", str(run_id)]) == 1
    assert "isn't the store that run" in last_line(capfd)
    assert points(f"sqlite:///{tmp_path}/other.db") == []
    assert main.run(["sync", "--to", f"sqlite:///{now}", str(run_id)]) == 0
    assert points(f"sqlite:///{now}") == [[1.0, 2.0]]
    copy = tmp_path / "copy.db"
    shutil.copyfile(tmp_path / "mlflow.db", copy)
    assert points(f"sqlite:///{copy}") == []


def test_a_run_of_a_lost_store_is_sent_as_a_new_one_where_that_is_wanted(
    moved: tuple[Journal, Path], migrated_store: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    shutil.copyfile(migrated_store, other)
    assert main.run(["sync", "--as-new", "--to", f"sqlite:///{other}"]) == 0
    assert points(f"sqlite:///{other}") == [[1.0, 2.0]]
    assert main.run(["sync"]) == 0
    assert points(f"sqlite:///{moved[1]}") == [[1.0]]


def test_sync_makes_no_store_at_the_place_that_is_named(
    moved: tuple[Journal, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["sync", "--to", f"sqlite:///{tmp_path}/nowhere.db"]) == 1
    assert "there is no store" in last_line(capfd)
    assert not (tmp_path / "nowhere.db").exists()


def gc(store: str, run_id: str) -> None:
    """Delete a run for good."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    MlflowClient(store).delete_run(run_id)
    SqlAlchemyStore(store, "mlruns")._hard_delete_run(run_id)


def test_a_run_that_was_removed_for_good_is_made_anew_or_forgotten(
    store: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = half_delivered(store), half_delivered(store)
    for journal in (first, second):
        gc(store, str(local_runs.local_run(journal.folder).run_id))
    assert main.run(["sync"]) == 1
    line = last_line(capfd)
    run_id = local_runs.local_run(first.folder).run_id
    assert f"run {run_id} isn't in" in line
    assert f"sync --as-new {run_id}" in line
    assert f"status --forget {run_id}" in line
    assert points(store) == []
    assert main.run(["sync", "--as-new", str(run_id)]) == 0
    assert points(store) == [[1.0, 2.0]]
    other = local_runs.local_run(second.folder).run_id
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main.run(["status", "--forget", str(other)]) != 0
    assert second.folder.exists()
    assert main.run(["status", "--forget", str(other), "--yes"]) == 0
    assert not second.folder.exists()
    capfd.readouterr()
    assert main.run(["status"]) == 0
    assert last_line(capfd) == "no run needs attention"


def test_a_run_that_was_deleted_is_made_anew_where_that_is_wanted(
    store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = half_delivered(store)
    run_id = str(local_runs.local_run(journal.folder).run_id)
    open_client(store).delete_run(run_id)
    assert main.run(["sync"]) == 1
    line = last_line(capfd)
    assert f"run {run_id} was deleted; `mlflow runs restore --run-id {run_id}` brings it back" in line
    assert "try again later" not in line
    assert main.run(["sync", "--as-new", run_id]) == 0
    assert points(store) == [[1.0, 2.0]]
    open_client(store).restore_run(run_id)
    assert sorted(points(store)) == [[1.0], [1.0, 2.0]]


def test_a_run_that_is_given_and_gone_before_anything_arrives_is_named(
    store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    made = open_client(store).create_run("0").info.run_id
    journal = Journal.create(store, "experiment", "lr=0.1", made)
    journal.append(Metric("m", 1.0, 1), RunEnded())
    journal.close()
    gc(store, made)
    assert main.run(["sync"]) == 1
    assert f"sync --as-new {made}" in last_line(capfd)
    assert main.run(["sync", "--as-new", made]) == 0
    assert points(store) == [[1.0]]


def test_a_store_is_known_by_one_id_that_moves_with_it(store: str) -> None:
    first, second = half_delivered(store), half_delivered(store)
    ids = {StoreRecord.load(journal.folder).store_id for journal in (first, second)}
    assert len(ids) == 1
    assert None not in ids


@pytest.mark.parametrize("command", [["status"], ["compare"], ["models", "list"], ["sync"], ["report"]])
def test_no_reading_command_makes_a_store(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    main.run(command)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.process
def test_a_killed_training_whose_store_was_moved_does_not_go_on_beside_it(
    tiny: Path, store: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mlflow_project", "train", "--epochs", "300", *options(tiny)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, encoding="utf-8"
    ) as process:
        assert process.stderr is not None
        while "epoch   3/300" not in process.stderr.readline():
            assert process.poll() is None
        (folder,) = local_runs.folders()
        deadline = time.monotonic() + 60
        while StoreRecord.load(folder).store_id is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    run_id = str(local_runs.local_run(folder).run_id)
    now = (tmp_path / "mlflow.db").rename(tmp_path / "moved.db")
    done = program("train", "--resume", run_id)
    assert done.returncode == 1
    assert "isn't there; say where the store is now" in done.stderr.splitlines()[-1]
    assert "epoch" not in done.stderr
    assert not (tmp_path / "mlflow.db").exists()
    assert program("sync", "--to", f"sqlite:///{now}", run_id).returncode == 0
    run = open_client(f"sqlite:///{now}").get_run(run_id)
    assert run.data.metrics["train_loss"] > 0
    assert not (tmp_path / "mlflow.db").exists()

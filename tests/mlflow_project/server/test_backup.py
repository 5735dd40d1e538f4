"""What is put back is what was there, whoever was writing; nothing damaged is put back, nothing is overwritten."""

import json
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_project.cli import main
from mlflow_project.common.errors import BackupError
from mlflow_project.server import backup as backups
from mlflow_project.server import database
from mlflow_project.server.settings import ServerSettings
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.journal.entities import Artifact, Metric, ModelArtifact, RunEnded
from mlflow_project.tracking.journal.writer import Journal
from tests.support.tiny import full


def write_run(store: str, files: Path, number: int) -> str:
    """A delivered run with a point, an artifact and a registered model."""
    journal = Journal.create(store, "experiment", f"run {number}")
    table = files / f"{number}.csv"
    table.write_text(f"run,{number}\n" * 100, encoding="utf-8")
    model = files / f"model-{number}"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    (model / "weights").write_bytes(bytes([number % 256]) * 50_000)
    journal.append(
        Metric("m", number),
        Artifact("table.csv", table),
        ModelArtifact("model", model, "registered"),
        RunEnded(),
    )
    journal.close()
    delivery = deliver(journal.folder, attempts=5)
    assert delivery.complete, delivery
    return str(delivery.run_id)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    return folder


def assert_whole(client: MlflowClient, root: Path) -> int:
    """Each run and model of the store can be read; the number of runs."""
    (experiment,) = [e for e in client.search_experiments() if e.name == "experiment"]
    runs = client.search_runs([experiment.experiment_id])
    for run in runs:
        artifact = Path(run.info.artifact_uri.removeprefix("file://"))
        assert artifact.is_relative_to(root)
        number = int(run.info.run_name.removeprefix("run "))
        if run.info.status == "FINISHED":
            assert (artifact / "table.csv").read_text(encoding="utf-8") == f"run,{number}\n" * 100
            assert run.data.metrics == {"m": number}
    for model in client.search_logged_models([experiment.experiment_id]):
        if str(model.status) == "READY":
            folder = Path(model.artifact_location.removeprefix("file://"))
            assert (folder / "MLmodel").is_file()
            assert len((folder / "weights").read_bytes()) == 50_000
    return len(runs)


def test_a_backup_put_back_elsewhere_is_a_whole_service(store: str, files: Path, tmp_path: Path) -> None:
    write_run(store, files, 1)
    made = backups.backup(store, [tmp_path / "mlruns"], tmp_path / "backup")
    assert (made.store, made.runs, made.versions, made.missing) == ("sqlite", 1, 1, [])
    new = tmp_path / "new"
    backups.restore(tmp_path / "backup", f"sqlite:///{new}/mlflow.db", new / "mlruns")
    shutil.rmtree(tmp_path / "mlruns")  # nothing may still point there
    client = open_client(f"sqlite:///{new}/mlflow.db")
    assert assert_whole(client, new) == 1
    version = client.get_model_version("registered", "1")
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{new}/mlflow.db")
    folder = Path(
        mlflow.artifacts.download_artifacts("models:/registered/1", dst_path=str(tmp_path / "down"))
    )
    assert (folder / "weights").read_bytes() == bytes([1]) * 50_000
    assert version.run_id
    write_run(f"sqlite:///{new}/mlflow.db", files, 2)


def test_a_backup_made_while_runs_write_is_consistent(store: str, files: Path, tmp_path: Path) -> None:
    write_run(store, files, 0)
    stop, failures = threading.Event(), list[BaseException]()

    def write(first: int) -> None:
        try:
            for number in range(first, first + 100):
                if stop.is_set():
                    return
                write_run(store, files, number)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(first,)) for first in (1, 101)]
    for writer in writers:
        writer.start()
    try:
        made = [backups.backup(store, [tmp_path / "mlruns"], tmp_path / f"backup{i}") for i in range(4)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not failures
    counts = []
    for i, manifest in enumerate(made):
        assert manifest.missing == []
        new = tmp_path / f"new{i}"
        backups.restore(tmp_path / f"backup{i}", f"sqlite:///{new}/mlflow.db", new / "mlruns")
        counts.append(assert_whole(open_client(f"sqlite:///{new}/mlflow.db"), new))
        assert counts[-1] == manifest.runs
    assert counts == sorted(counts)


@pytest.mark.parametrize("name", ["100 % done", "a#b"])
def test_a_store_of_any_name_is_copied(store: str, files: Path, tmp_path: Path, name: str) -> None:
    write_run(store, files, 1)
    odd = tmp_path / name / "mlflow.db"
    odd.parent.mkdir()
    shutil.copyfile(tmp_path / "mlflow.db", odd)
    assert backups.backup(f"sqlite:///{odd}", [tmp_path / "mlruns"], tmp_path / "backup").runs == 1


def test_a_backup_that_breaks_off_leaves_the_place_as_it_was(
    store: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(store, files, 1)
    with monkeypatch.context() as patch:
        patch.setattr("mlflow_project.server.backup._copy", full)
        with pytest.raises(BackupError, match="No space left on device; free disk space and do it again"):
            backups.backup(store, [tmp_path / "mlruns"], tmp_path / "backup")
    backups.backup(store, [tmp_path / "mlruns"], tmp_path / "backup")
    new = tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr("mlflow_project.server.backup.shutil.copyfile", full)
        with pytest.raises(BackupError, match="No space left on device; free disk space and do it again"):
            backups.restore(tmp_path / "backup", f"sqlite:///{new}/mlflow.db", new / "mlruns")
    backups.restore(tmp_path / "backup", f"sqlite:///{new}/mlflow.db", new / "mlruns")


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "no manifest"])
def test_a_damaged_backup_is_named_and_not_put_back(
    store: str, files: Path, tmp_path: Path, damage: str
) -> None:
    write_run(store, files, 1)
    made = backups.backup(store, [tmp_path / "mlruns"], tmp_path / "backup")
    name = next(name for name in made.files if name.endswith("weights"))
    path = tmp_path / "backup" / name
    if "manifest" in damage:
        path = tmp_path / "backup" / backups.MANIFEST
    content = bytearray(path.read_bytes())
    match damage:
        case "flip" | "manifest":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[:-1])
        case _:
            path.unlink()
    with pytest.raises(BackupError, match=path.name):
        backups.restore(tmp_path / "backup", f"sqlite:///{tmp_path}/new.db", tmp_path / "new")
    assert not (tmp_path / "new.db").exists()
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(store: str, files: Path, tmp_path: Path) -> None:
    write_run(store, files, 1)
    mlruns = tmp_path / "mlruns"
    with pytest.raises(BackupError, match="isn't empty"):
        backups.backup(store, [mlruns], files)
    with pytest.raises(BackupError, match="lies in the artifact folder"):
        backups.backup(store, [mlruns], mlruns / "backup")
    backups.backup(store, [mlruns], tmp_path / "backup")
    with pytest.raises(BackupError, match="overwrites nothing"):
        backups.restore(tmp_path / "backup", store, tmp_path / "new")
    with pytest.raises(BackupError, match="isn't empty"):
        backups.restore(tmp_path / "backup", f"sqlite:///{tmp_path}/new.db", mlruns)


class TestSeveralFolders:
    """A run without a server, then one with it: two folders, as earlier versions of `serve` made them."""

    @pytest.fixture
    def service(self, store: str, files: Path, tmp_path: Path) -> str:
        write_run(store, files, 1)
        connection = sqlite3.connect(tmp_path / "mlflow.db")
        with connection:
            connection.execute("UPDATE experiments SET name = 'without server' WHERE name = 'experiment'")
        write_run(store, files, 2)
        (number,) = connection.execute(
            "SELECT experiment_id FROM experiments WHERE name = 'experiment'"
        ).fetchone()
        (tmp_path / "mlartifacts").mkdir()
        (tmp_path / "mlruns" / str(number)).rename(tmp_path / "mlartifacts" / str(number))
        with connection:
            for table, column in database.LOCATIONS:
                connection.execute(
                    f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE {column} LIKE ?",
                    (f"{tmp_path}/mlruns", "mlflow-artifacts:", f"%/mlruns/{number}%"),
                )
        connection.close()
        return store

    @pytest.mark.parametrize("arguments", [(), ("mlruns",), ("mlruns", "mlartifacts"), ("mlartifacts",)])
    def test_all_is_backed_up_or_what_lacks_is_said(
        self, service: str, tmp_path: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        named = [word for name in arguments for word in ("--artifacts", str(tmp_path / name))]
        status = main.run(["backup", "backup", "--store", service, *named])
        if arguments == ("mlruns",):  # nothing in the store says where the server's files lie
            assert status == 1
            assert (
                "lacks the files of 1 model or run, the first is mlflow-artifacts:/"
                in capsys.readouterr().err
            )
            return
        assert status == 0
        assert (
            main.run(["restore", "backup", "--store", "sqlite:///new/mlflow.db", "--artifacts", "new/mlruns"])
            == 0
        )
        for name in ("mlruns", "mlartifacts"):
            shutil.rmtree(tmp_path / name)
        new = tmp_path / "new"
        (without, beside) = sorted(self.models(new), key=lambda place: place.startswith("mlflow-artifacts:"))
        assert without.startswith(f"{new}/mlruns/")
        for folder in (Path(without), new / "mlruns" / beside.removeprefix("mlflow-artifacts:/")):
            assert (folder / "MLmodel").is_file()
        assert ServerSettings(store=f"sqlite:///{new}/mlflow.db").artifact_place == f"{new}/mlruns"

    def models(self, folder: Path) -> list[str]:
        connection = sqlite3.connect(folder / "mlflow.db")
        result = [row[0] for row in connection.execute("SELECT artifact_location FROM logged_models")]
        connection.close()
        return result

    def test_a_place_that_the_store_names_is_found_and_what_lies_beside_it_is_left(
        self, store: str, files: Path, tmp_path: Path
    ) -> None:
        client = open_client(store)
        client.create_experiment("experiment", artifact_location=f"{tmp_path}/home/runs")
        write_run(store, files, 1)
        (tmp_path / "home" / "letters").write_text("private", encoding="utf-8")
        made = backups.backup(store, [], tmp_path / "backup")
        assert made.missing == []
        assert not [name for name in made.files if name.endswith("letters")]
        new = tmp_path / "home" / "runs" / "new"  # below what it comes from
        backups.restore(tmp_path / "backup", f"sqlite:///{tmp_path}/new.db", new)
        assert assert_whole(open_client(f"sqlite:///{tmp_path}/new.db"), new) == 1

    def test_a_completed_run_without_its_files_is_named(
        self, store: str, files: Path, tmp_path: Path
    ) -> None:
        run_id = write_run(store, files, 1)
        client = open_client(store)
        client.set_tag(run_id, "status", "completed")
        place = client.get_run(run_id).info.artifact_uri
        shutil.rmtree(place.removeprefix("file://"))
        assert backups.backup(store, [], tmp_path / "backup").missing == [place]


def test_a_backup_that_fails_leaves_no_folder(store: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="there is no store"):
        backups.backup(f"sqlite:///{tmp_path}/nothing.db", [], tmp_path / "backups" / "monday")
    assert not (tmp_path / "backups").exists()


def test_a_store_of_mlflow_2_is_backed_up_and_put_back(store: str, files: Path, tmp_path: Path) -> None:
    write_run(store, files, 1)
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    with connection:  # what the upgrade to MLflow 3 adds and nothing else points to
        for table in ("logged_model_metrics", "logged_model_params", "logged_model_tags", "logged_models"):
            connection.execute(f"DROP TABLE {table}")
    connection.close()
    made = backups.backup(store, [], tmp_path / "backup")
    assert (made.runs, made.versions, made.missing) == (1, 1, [])
    backups.restore(tmp_path / "backup", f"sqlite:///{tmp_path}/new.db", tmp_path / "new")
    connection = sqlite3.connect(tmp_path / "new.db")
    (place,) = connection.execute("SELECT storage_location FROM model_versions").fetchone()
    connection.close()
    assert (tmp_path / "new") in Path(place.removeprefix("file://")).parents


def test_a_model_whose_files_are_gone_is_told(store: str, files: Path, tmp_path: Path) -> None:
    write_run(store, files, 1)
    (weights,) = (tmp_path / "mlruns").glob("**/MLmodel")
    weights.unlink()
    made = backups.backup(store, [tmp_path / "mlruns"], tmp_path / "backup")
    assert made.missing == [str(weights.parent)]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:5000", "not its server"),
        ("mysql://x/y", "can't be backed up"),
        ("sqlite:////nowhere/x.db", "there is no store"),
    ],
)
def test_a_store_that_cannot_be_copied_is_said_in_one_line(tmp_path: Path, uri: str, reason: str) -> None:
    (tmp_path / "mlruns").mkdir()
    with pytest.raises(BackupError, match=reason):
        backups.backup(uri, [tmp_path / "mlruns"], tmp_path / "backup")


def test_a_damaged_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "x.db").write_bytes(b"no database" * 1000)
    with pytest.raises(BackupError, match="damaged"):
        backups.backup(f"sqlite:///{tmp_path}/x.db", [tmp_path / "mlruns"], tmp_path / "backup")


def test_the_copy_of_a_database_in_wal_mode_has_what_is_only_in_its_log(
    store: str, files: Path, tmp_path: Path
) -> None:
    connection = sqlite3.connect(store.removeprefix("sqlite:///"))
    assert connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    write_run(store, files, 1)
    made = backups.backup(store, [tmp_path / "mlruns"], tmp_path / "backup")
    connection.close()
    assert made.runs == 1
    assert json.loads((tmp_path / "backup" / backups.MANIFEST).read_text(encoding="utf-8"))["sha256"]

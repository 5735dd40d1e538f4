"""Delivering once, twice, or in pieces after every possible crash gives the same run in MLflow."""

import hashlib
import json
import math
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from PIL import Image

from mlflow_project.common.names import KEY_TAG
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.delivery.uploader import JournalUploader
from mlflow_project.tracking.identity.alias_log import changes
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import (
    Artifact,
    DatasetInput,
    LoggedImage,
    Metric,
    ModelArtifact,
    Param,
    RunEnded,
    RunResumed,
    Tag,
)
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.sync import sync


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    (folder / "model" / "data").mkdir(parents=True)
    (folder / "table.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (folder / "model" / "MLmodel").write_text(
        "flavors: {}\nmodel_id: null\nmodel_uuid: x\n", encoding="utf-8"
    )
    (folder / "model" / "data" / "weights").write_bytes(bytes(range(256)))
    Image.new("RGB", (300, 200), "red").save(folder / "figure.png")
    return folder


def journal_of(store: str, files: Path, **more: Any) -> Journal:
    """A short run that says something of every kind."""
    journal = Journal.create(store, "experiment", "lr=0.1 epochs=2", **more)
    journal.append(Param("lr", "0.1"), Param("epochs", "2"), Tag("status", "started"))
    journal.append(DatasetInput("mnist", "abc", "/data", tags={"sha": "1"}))
    for epoch in (1, 2):
        journal.append(Metric("train_loss", 1 / epoch, epoch), Metric("validation_loss", math.nan, epoch))
    journal.append(
        LoggedImage("confusion_matrix", 2, files / "figure.png"),
        Artifact("figure.png", files / "figure.png"),
        Artifact("tables/table.csv", files / "table.csv"),
        ModelArtifact(
            "model",
            files / "model",
            "mnist-base-cnn",
            version_tags={"lr": "0.1"},
            aliases=("m1",),
            description="A card",
            params={"lr": "0.1"},
        ),
        Tag("status", "completed"),
        RunEnded(),
    )
    journal.close()
    return journal


def whole_store(store: str) -> dict[str, Any]:
    """Everything that MLflow shows of the experiment, without the names and times that it makes up itself."""
    client = open_client(store)
    (experiment,) = [e for e in client.search_experiments() if e.name == "experiment"]
    found = []
    for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL):
        tags = {key: value for key, value in run.data.tags.items() if key != KEY_TAG}
        history = {
            key: [
                (m.step, m.timestamp, str(m.value)) for m in client.get_metric_history(run.info.run_id, key)
            ]
            for key in run.data.metrics
        }
        info = (run.info.status, run.info.lifecycle_stage, run.info.start_time, run.info.end_time)
        datasets = [(d.dataset.name, {t.key: t.value for t in d.tags}) for d in run.inputs.dataset_inputs]
        root = Path(run.info.artifact_uri.removeprefix("file://"))
        found.append(
            (info, run.data.params, tags, history, datasets, digests(root), len(run.outputs.model_outputs))
        )
    models = []
    for model in client.search_logged_models([experiment.experiment_id]):
        files = digests(Path(model.artifact_location.removeprefix("file://")))
        card = files.pop("MLmodel", None)
        models.append((model.name, str(model.status), model.params, files, card is not None))
    versions = [(v.name, v.version, v.description, v.source == f"models:/{model.model_id}")
                for v in client.search_model_versions()]  # fmt: skip
    return {"runs": found, "models": models, "versions": versions}


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_store_that_may_only_be_read_is_said_without_sql(tmp_path: Path) -> None:
    import sqlalchemy
    from mlflow.exceptions import MlflowException

    from mlflow_project.common.errors import StoreError
    from mlflow_project.tracking.delivery.client import mlflow_errors

    path = tmp_path / "read.db"
    sqlite3.connect(path).close()
    engine = sqlalchemy.create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    with engine.connect() as connection, pytest.raises(sqlalchemy.exc.OperationalError) as error:
        connection.execute(sqlalchemy.text("CREATE TABLE runs (secret TEXT)"))
    with pytest.raises(StoreError) as refused, mlflow_errors(f"sqlite:///{path}"):
        raise MlflowException(message=error.value)  # as MLflow does
    engine.dispose()
    assert str(refused.value).startswith(f"sqlite:///{path} can't be written by this user; ")
    assert "secret" not in str(refused.value)


def test_everything_arrives(store: str, files: Path) -> None:
    journal = journal_of(store, files, tags={"purpose": "test"})
    delivery = deliver(journal.folder)
    assert delivery.complete
    assert delivery.delivered == journal.count
    assert delivery.versions == {"model": "mnist-base-cnn/1"}
    client = open_client(store)
    run = client.get_run(str(delivery.run_id))
    assert run.info.run_name == "lr=0.1 epochs=2"
    assert run.info.status == "FINISHED"
    assert run.info.start_time == journal.header.start_time_ms
    assert run.data.params == {"lr": "0.1", "epochs": "2"}
    assert run.data.tags["purpose"] == "test"
    assert run.data.tags["status"] == "completed"
    assert run.data.tags["mlflow.loggedImages"] == "True"
    assert [m.value for m in client.get_metric_history(run.info.run_id, "train_loss")] == [1.0, 0.5]
    root = Path(run.info.artifact_uri)
    assert (root / "tables" / "table.csv").read_bytes() == (files / "table.csv").read_bytes()
    assert (root / "figure.png").read_bytes() == (files / "figure.png").read_bytes()
    names = sorted(path.name for path in (root / "images").iterdir())
    assert [name.split("+timestamp+")[0] for name in names] == ["confusion_matrix+step+2"] * 2
    with Image.open(root / "images" / names[0]) as small:
        assert (small.format, small.size) == ("WEBP", (256, 171))
    model_id = delivery.models["model"]
    model = client.get_logged_model(model_id)
    assert (str(model.status), model.source_run_id, model.params) == ("READY", run.info.run_id, {"lr": "0.1"})
    card = (Path(model.artifact_location) / "MLmodel").read_text(encoding="utf-8")
    assert f"model_id: {model_id}" in card
    assert f"run_id: {run.info.run_id}" in card
    version = client.get_model_version_by_alias("mnist-base-cnn", "m1")
    assert (version.version, version.source, version.run_id) == (1, f"models:/{model_id}", run.info.run_id)
    assert version.tags["lr"] == "0.1"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "mnist-base-cnn", "version": "1"}]


def test_delivering_again_changes_nothing(store: str, files: Path) -> None:
    journal = journal_of(store, files)
    deliver(journal.folder)
    once = whole_store(store)
    for _ in range(2):
        (journal.folder / format.CURSOR).unlink()
        assert deliver(journal.folder).complete
        assert deliver(journal.folder).refused == ()
        assert whole_store(store) == once


class Crash(Exception):
    pass


class Flaky:
    """A client of which every call fails once, before or after it was carried out."""

    def __init__(self, client: MlflowClient, seen: set[tuple[Any, ...]], after: bool) -> None:
        self.client, self.seen, self.after = client, seen, after

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)

        def call(*arguments: Any, **more: Any) -> Any:
            place = (name, re.sub(r"/\.(image|model)-\w+|0x\w+", "", repr((arguments, more))))
            if place in self.seen:
                return method(*arguments, **more)
            self.seen.add(place)
            if self.after:
                method(*arguments, **more)
            raise Crash(name)

        return call


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("forget", [False, True])
def test_a_crash_at_any_call_changes_nothing(store: str, files: Path, after: bool, forget: bool) -> None:
    client = open_client(store)
    journal = journal_of(store, files)
    crashes, seen = 0, set[tuple[Any, ...]]()
    while True:
        deliverer = JournalUploader(journal.folder, lambda _: Flaky(client, seen, after))  # type: ignore[arg-type,return-value]
        try:
            while deliverer.step():
                pass
            break
        except Crash:
            crashes += 1
            assert crashes < 200
            if forget:
                (journal.folder / format.CURSOR).unlink(missing_ok=True)
    assert crashes > 25
    result = whole_store(store)
    assert len(result["runs"]) == len(result["models"]) == len(result["versions"]) == 1
    (journal.folder / format.CURSOR).unlink()
    deliver(journal.folder)
    assert whole_store(store) == result
    (_, params, tags, history, datasets, artifacts, outputs) = result["runs"][0]
    assert params == {"lr": "0.1", "epochs": "2"}
    assert tags["status"] == "completed"
    assert [point[0] for point in history["train_loss"]] == [1, 2]
    assert (len(datasets), len(artifacts)) == (1, 4)
    assert outputs == 1


def test_what_a_late_request_made_twice_is_removed(store: str, files: Path) -> None:
    client = open_client(store)
    journal = journal_of(store, files)
    deliverer = JournalUploader(journal.folder)
    deliverer.session.open_run()
    header = journal.header
    late = client.create_run(str(deliverer.session.cursor.experiment_id), tags={KEY_TAG: header.key})
    tags = {KEY_TAG: f"{header.key}/model"}
    while deliverer.session.cursor.ended is None and not deliverer.session.cursor.models:
        deliverer.step()
    client.create_logged_model(
        str(deliverer.session.cursor.experiment_id), "model", deliverer.session.run_id, tags
    )
    source = f"models:/{deliverer.session.cursor.models['model']}"
    import mlflow

    mlflow.set_tracking_uri(store)
    client.create_model_version("mnist-base-cnn", source, deliverer.session.run_id, tags=tags)
    while deliverer.step():
        pass
    assert client.get_run(late.info.run_id).info.lifecycle_stage == "deleted"
    assert len(client.search_logged_models([str(deliverer.session.cursor.experiment_id)])) == 1
    assert [v.version for v in client.search_model_versions()] == [1]


def test_more_values_than_one_request_takes_arrive_in_order(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    journal.append(*(Metric("m", i, i) for i in range(2500)))
    journal.append(*(Param(f"p{i}", str(i)) for i in range(250)), *(Tag(f"t{i}", str(i)) for i in range(250)))
    journal.append(*(Tag("last", str(i)) for i in range(250)))
    journal.close()
    delivery = deliver(journal.folder)
    client = open_client(store)
    run = client.get_run(str(delivery.run_id))
    assert [m.step for m in client.get_metric_history(run.info.run_id, "m")] == list(range(2500))
    assert len(run.data.params) == 250
    assert run.data.tags["last"] == "249"


def test_damaged_lines_are_told_and_the_rest_arrives(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    journal.append(*(Metric("m", i, i) for i in range(5)), RunEnded())
    journal.close()
    path = journal.folder / format.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3][:80] + b"#" + lines[3][81:]
    path.write_bytes(b"".join(lines))
    delivery = deliver(journal.folder)
    assert delivery.complete
    (refused,) = delivery.refused
    assert refused.startswith("journal damaged at byte ")
    client = open_client(store)
    assert [m.step for m in client.get_metric_history(str(delivery.run_id), "m")] == [0, 1, 3, 4]
    assert client.get_run(str(delivery.run_id)).info.status == "FINISHED"


def test_a_kept_file_that_changed_is_never_delivered(store: str, files: Path) -> None:
    journal = journal_of(store, files)
    (kept,) = (journal.folder / format.FILES).glob("*/table.csv")
    kept.write_text("other", encoding="utf-8")
    delivery = deliver(journal.folder)
    assert delivery.complete
    assert "'tables/table.csv' was rejected: the spooled file isn't what was journaled" in delivery.refused[0]
    (run,) = whole_store(store)["runs"]
    assert "figure.png" in run[5]
    assert "tables/table.csv" not in run[5]


def test_files_are_kept_until_the_run_is_delivered_and_no_longer(store: str, files: Path) -> None:
    journal = journal_of(store, files)
    kept = journal.folder / format.FILES
    assert list(kept.iterdir())
    deliver(journal.folder)
    assert not list(kept.iterdir())


def test_a_resumed_run_is_running_again_and_ends_again(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    journal.append(Metric("m", 1.0, 1), Tag("reason", "stopped by SIGTERM"), RunEnded("KILLED"))
    journal.close()
    run_id = str(deliver(journal.folder).run_id)
    client = open_client(store)
    assert client.get_run(run_id).info.status == "KILLED"
    assert client.get_run(run_id).data.tags["reason"] == "stopped by SIGTERM"
    again = Journal.open(journal.folder)
    again.append(RunResumed(), Metric("m", 2.0, 2))
    deliver(journal.folder)
    assert client.get_run(run_id).info.status == "RUNNING"
    again.append(RunEnded("FINISHED"))
    again.close()
    deliver(journal.folder)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert "reason" not in client.get_run(run_id).data.tags
    assert [m.step for m in client.get_metric_history(run_id, "m")] == [1, 2]


def test_a_deleted_run_keeps_its_values_here_and_says_how_to_bring_it_back(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    journal.append(Metric("m", 1.0, 1))
    run_id = str(deliver(journal.folder).run_id)
    client = open_client(store)
    client.delete_run(run_id)
    journal.append(Metric("m", 2.0, 2))
    delivery = deliver(journal.folder)
    assert (delivery.pending, delivery.refused) == (1, ())
    assert "mlflow runs restore" in str(delivery.problem)
    client.restore_run(run_id)
    assert deliver(journal.folder).complete


def test_a_late_delivery_takes_no_alias_back_from_a_newer_version(store: str, files: Path) -> None:
    old, new = (journal_of(store, files) for _ in range(2))
    deliver(old.folder)
    assert deliver(new.folder).versions == {"model": "mnist-base-cnn/2"}
    (old.folder / format.CURSOR).unlink()
    deliver(old.folder)
    assert open_client(store).get_model_version_by_alias("mnist-base-cnn", "m1").version == 2


def test_an_alias_that_is_moved_between_two_attempts_is_recorded_from_where_it_was_then(
    store: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(journal_of(store, files).folder)
    client, name = open_client(store), "mnist-base-cnn"
    client.delete_registered_model_alias(name, "m1")
    journal = journal_of(store, files)
    set_alias = MlflowClient.set_registered_model_alias
    attempts = []

    def fail_twice(self: MlflowClient, *arguments: Any) -> None:
        attempts.append(arguments)
        if len(attempts) < 3:
            raise ConnectionError("away")
        set_alias(self, *arguments)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", fail_twice)
    for _ in range(2):  # recorded by the first attempt, and not again by the second
        assert not deliver(journal.folder).complete
    set_alias(client, name, "m1", "1")
    assert deliver(journal.folder).complete
    assert attempts == [(name, "m1", "2")] * 3
    moves = [
        (change.from_version, change.to_version)
        for change in changes(client.get_registered_model(name).tags)
        if change.to_version == 2
    ]
    assert moves == [(None, 2), (1, 2)]


def test_a_child_that_is_sent_before_its_parent_needs_one_sync(store: str) -> None:
    child, parent = (
        Journal.create(store, "experiment", name, start_time_ms=start)
        for name, start in (("child", 1_000), ("parent", 2_000))
    )
    child.append(Tag("mlflow.parentRunId", f"journal:{parent.header.key}"), RunEnded())
    parent.append(Metric("m", 1.0), RunEnded())
    for journal in (child, parent):
        journal.close()
    first, second = sync()
    assert [(result.run, result.pending) for result in (first, second)] == [("child", 0), ("parent", 0)]
    assert open_client(store).get_run(first.run_id).data.tags["mlflow.parentRunId"] == second.run_id

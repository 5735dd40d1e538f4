"""What MLflow documents of runs holds under a durable address, with a server and without."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pytest
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from mlflow_project.tracking.delivery.program_uploader import ProgramUploader
from mlflow_project.tracking.hub import lifecycle
from mlflow_project.tracking.hub.hub import Hub
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.plugin import registry
from tests.mlflow_project.tracking.plugin.programs import log_model
from tests.support.durable import deliver_all, end_program, sync_to


@dataclass(frozen=True)
class Place:
    """Where a program logs to, and the store in which it is in the end."""

    kind: str
    store: str

    def runs(self, experiment: str) -> list[Any]:
        """Return the runs in the store, once the program has ended."""
        end_program()
        if self.kind == "away":
            sync_to(self.store)
        found = self.client.get_experiment_by_name(experiment)
        assert found is not None
        return list(self.client.search_runs([found.experiment_id]))

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.store, self.store)


@pytest.fixture(params=["durable", "away", pytest.param("served", marks=pytest.mark.server)])
def place(request: pytest.FixtureRequest, store: str) -> Place:
    uri: str = request.getfixturevalue(request.param)
    return Place(request.param, uri.removeprefix("durable+") if request.param == "served" else store)


def deliver(place: Place) -> None:
    if place.kind != "away":
        deliver_all()


def test_a_run_is_found_again_with_its_own_writes(place: Place) -> None:
    with mlflow.start_run(run_name="named", tags={"a": "b"}) as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_metric("loss", 2, step=1)
        mlflow.log_metric("loss", 1, step=0)
        found = mlflow.get_run(run.info.run_id)
        assert found.data.params == {"lr": "0.1"}
        assert found.data.metrics == {"loss": 2}
        assert (found.data.tags["a"], found.info.run_name, found.info.status) == ("b", "named", "RUNNING")
        points = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
        assert sorted((point.step, point.value) for point in points) == [(0, 1), (1, 2)]
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"
    assert mlflow.active_run() is None
    last = mlflow.last_active_run()
    assert last is not None
    assert last.info.run_id == run.info.run_id


def test_a_run_is_resumed_by_its_id(place: Place) -> None:
    mlflow.set_experiment("resumed")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1, step=0)
    with mlflow.start_run(run_id=run.info.run_id) as again:
        assert again.info.run_id == run.info.run_id
        assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("loss", 2, step=1)
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"
    deliver(place)
    (found,) = place.runs("resumed")
    assert [point.value for point in place.client.get_metric_history(found.info.run_id, "loss")] == [1, 2]
    assert found.info.status == "FINISHED"


def test_a_failing_block_ends_its_run_as_failed(place: Place) -> None:
    with pytest.raises(ZeroDivisionError), mlflow.start_run() as run:
        1 / 0  # noqa: B018
    assert mlflow.get_run(run.info.run_id).info.status == "FAILED"


def test_nested_runs_name_their_parent(place: Place) -> None:
    mlflow.set_experiment("nested")
    with (
        mlflow.start_run(run_name="parent") as parent,
        mlflow.start_run(nested=True, run_name="child") as child,
    ):
        active = mlflow.active_run()
        assert active is not None
        assert active.info.run_id == child.info.run_id
        known = mlflow.get_parent_run(child.info.run_id)
        assert known is not None
        assert known.info.run_id == parent.info.run_id
    deliver(place)
    runs = {run.info.run_name: run for run in place.runs("nested")}
    assert runs["child"].data.tags["mlflow.parentRunId"] == runs["parent"].info.run_id


def test_search_runs_finds_what_was_just_logged(durable: str) -> None:
    with mlflow.start_run():
        mlflow.log_metric("loss", 0.5)
        found = mlflow.search_runs(filter_string="metrics.loss < 1", output_format="list")
    assert [run.data.metrics for run in found] == [{"loss": 0.5}]
    with pytest.raises(MlflowException, match="is unreachable"):
        mlflow.MlflowClient("durable+http://127.0.0.1:9/none").search_runs(["0"])


def test_an_experiment_is_read_with_its_new_tags(durable: str) -> None:
    made = mlflow.set_experiment("tagged")
    mlflow.set_experiment_tags({"team": "a", "stage": "b"})
    assert mlflow.get_experiment(made.experiment_id).tags.items() >= {"team": "a", "stage": "b"}.items()
    mlflow.set_experiment_tag("team", "c")
    found = mlflow.get_experiment_by_name("tagged")
    assert found is not None
    assert found.tags["team"] == "c"


def test_artifacts_are_listed_and_read(place: Place) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("hello", "texts/a.txt")
        mlflow.log_dict({"a": 1}, "d.json")
        client = mlflow.MlflowClient()
        assert [(file.path, file.is_dir) for file in client.list_artifacts(run.info.run_id)] == [
            ("d.json", False),
            ("texts", True),
        ]
        assert [file.path for file in client.list_artifacts(run.info.run_id, "texts")] == ["texts/a.txt"]
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/texts/a.txt") == "hello"
        assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/d.json") == {"a": 1}
        assert (
            Path(client.download_artifacts(run.info.run_id, "texts")).joinpath("a.txt").read_text("utf-8")
            == "hello"
        )
        assert mlflow.get_artifact_uri("x") == f"{run.info.artifact_uri}/x"


def test_a_model_is_read_by_its_id(place: Place) -> None:
    with mlflow.start_run() as run:
        info = log_model(params={"depth": 3})
        model = mlflow.get_logged_model(info.model_id)
        assert (model.source_run_id, model.params, model.status) == (run.info.run_id, {"depth": "3"}, "READY")
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{info.model_id}"))
        assert (folder / "data" / "weights.bin").read_bytes() == b"weights"
        assert [output.model_id for output in mlflow.get_run(run.info.run_id).outputs.model_outputs] == [
            info.model_id
        ]


def test_a_version_is_read_as_it_was_registered(place: Place) -> None:
    with mlflow.start_run():
        info = log_model(registered_model_name="doubling")
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("doubling", "champion", info.registered_model_version)
    client.set_model_version_tag("doubling", info.registered_model_version, "checked", "yes")
    version = client.get_model_version_by_alias("doubling", "champion")
    assert str(version.version) == str(info.registered_model_version)
    assert version.status == ("PENDING_REGISTRATION" if place.kind == "away" else "READY")
    folder = Path(mlflow.artifacts.download_artifacts("models:/doubling@champion"))
    assert (folder / "data" / "weights.bin").read_bytes() == b"weights"


def test_an_alias_is_known_before_the_files_of_its_version_are_there(
    durable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "VERSION_SECONDS", 0)
    monkeypatch.setattr(ProgramUploader, "step_files", lambda self: False)  # large ones
    monkeypatch.setattr(Hub, "wait", lambda self, done, seconds=0.0: bool(done()))
    with mlflow.start_run():
        version = log_model(registered_model_name="doubling").registered_model_version
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("doubling", "champion", version)
    found = client.get_model_version_by_alias("doubling", "champion")
    assert (str(found.version), found.status) == (str(version), "PENDING_REGISTRATION")
    folder = Path(mlflow.artifacts.download_artifacts("models:/doubling@champion"))
    assert (folder / "data" / "weights.bin").read_bytes() == b"weights"
    client.delete_registered_model_alias("doubling", "champion")
    with pytest.raises(MlflowException):
        client.get_model_version_by_alias("doubling", "champion")


def test_a_model_becomes_the_active_one_by_its_name(place: Place) -> None:
    model = mlflow.set_active_model(name="agent")
    assert mlflow.set_active_model(name="agent").model_id == model.model_id
    mlflow.clear_active_model()


def wrong_calls() -> list[Callable[[], object]]:
    client, run = mlflow.MlflowClient(), mlflow.active_run()
    assert run is not None
    run_id = run.info.run_id
    return [
        lambda: mlflow.log_metric("a:b" * 100, 1),
        lambda: mlflow.log_metric("m", "high"),  # type: ignore[arg-type]
        lambda: mlflow.log_param("bad\tname", 1),
        lambda: mlflow.log_param("lr", 2),
        lambda: mlflow.log_params({"lr": 3, "new": 1}),
        lambda: mlflow.set_tag("../up", 1),
        lambda: client.log_batch(run_id, [Metric("m", 1, -5, 0)]),
        lambda: client.delete_tag(run_id, "none"),
        lambda: mlflow.log_text("x", "/absolute"),
        lambda: mlflow.log_text("x", "../up"),
        lambda: mlflow.log_artifact("none.csv"),
        lambda: client.create_run("0", tags={"mlflow.runName": "a"}, run_name="b"),
        lambda: client.create_registered_model(""),
        lambda: client.create_experiment(""),
        lambda: client.create_logged_model("0", name="a/b"),
    ]


def raised_by_each() -> list[tuple[str, str]]:
    raised = []
    with mlflow.start_run():
        mlflow.log_param("lr", 1)
        for call in wrong_calls():
            with pytest.raises(Exception) as error:  # noqa: PT011
                call()
            raised.append((type(error.value).__name__, getattr(error.value, "error_code", "")))
    return raised


def test_a_program_that_is_wrong_is_told_at_the_same_call(store: str, place: Place) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store)
        plain = raised_by_each()
    assert raised_by_each() == plain


def test_a_run_or_experiment_that_is_not_there_is_told_at_once(durable: str) -> None:
    client = mlflow.MlflowClient()
    for call in (
        lambda: client.get_run("0" * 32),
        lambda: client.log_metric("0" * 32, "m", 1),
        lambda: client.create_run("77"),
        lambda: client.get_experiment("77"),
        lambda: client.get_logged_model("m-" + "0" * 32),
    ):
        with pytest.raises(MlflowException) as error:
            call()
        assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert mlflow.get_experiment_by_name("none") is None
    assert local_runs.undelivered() == []


def test_an_ended_run_is_let_go_and_still_takes_values(durable: str, store: str) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1, step=0)
    deliver_all()
    (hub,) = lifecycle.hubs()
    assert hub.wait(lambda: not hub._by_run)
    mlflow.MlflowClient().log_metric(run.info.run_id, "loss", 2, step=1)
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"
    deliver_all()
    client = mlflow.MlflowClient(store, store)
    assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]


def test_an_experiment_is_one_whoever_begins_it_without_a_server(away: str, store: str) -> None:
    first = mlflow.set_experiment("named")
    mlflow.tracking.fluent._active_experiment_id = None
    lifecycle.finish(0)
    assert mlflow.set_experiment("named").experiment_id == first.experiment_id
    with mlflow.start_run():
        mlflow.set_experiment_tag("purpose", "tests")
    end_program()
    sync_to(store)
    found = mlflow.MlflowClient(store, store).get_experiment_by_name("named")
    assert found is not None
    assert found.tags["purpose"] == "tests"
    assert len(mlflow.MlflowClient(store, store).search_runs([found.experiment_id])) == 1


class Sought:
    """Notes which modules are looked for, and finds none."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        self.names.append(name)


def test_no_call_looks_for_spark(durable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sought = Sought()
    with mlflow.start_run():
        monkeypatch.setattr(sys, "meta_path", [sought, *sys.meta_path])
        mlflow.log_metric("loss", 1)
    assert "pyspark" not in sought.names


def test_the_registry_is_where_the_runs_are_or_where_the_program_says(
    durable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "")  # where MLflow writes it, too
    for name in ("models.db", "other.db"):
        shutil.copyfile(tmp_path / "mlflow.db", tmp_path / name)
    mlflow.set_registry_uri(f"sqlite:///{tmp_path}/models.db")
    mlflow.search_experiments()
    assert mlflow.get_registry_uri() == f"sqlite:///{tmp_path}/models.db"
    mlflow.set_registry_uri(None)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "")
    other = f"durable+sqlite:///{tmp_path}/other.db"
    mlflow.set_tracking_uri(other)
    mlflow.search_experiments()
    assert mlflow.get_registry_uri() == other
    mlflow.set_tracking_uri(durable)
    assert mlflow.get_registry_uri() == durable


def test_a_registry_that_is_named_stays_where_it_is(
    durable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", durable)
    monkeypatch.setattr("mlflow.tracking._model_registry.utils._registry_uri", None)
    other = f"durable+sqlite:///{tmp_path}/other.db"
    shutil.copyfile(tmp_path / "mlflow.db", tmp_path / "other.db")
    mlflow.search_experiments()
    mlflow.set_tracking_uri(other)
    mlflow.search_experiments()
    assert mlflow.get_registry_uri() == durable


def test_a_program_may_have_put_something_in_the_place_of_spark(
    durable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", ModuleType("pyspark"))  # has no specification
    mlflow.search_experiments()

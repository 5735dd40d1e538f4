"""What a program reads of its own while its server is late or away."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from mlflow_project.tracking.delivery.program_uploader import ProgramUploader
from mlflow_project.tracking.hub import hub as hub_module
from mlflow_project.tracking.hub import lifecycle
from mlflow_project.tracking.hub.hub import Hub
from mlflow_project.tracking.hub.reachability import Reachability, Unreachable
from mlflow_project.tracking.hub.run_log import RunLog
from mlflow_project.tracking.hub.uploaded_copies import UploadedCopies
from mlflow_project.tracking.hub.worker import Worker
from mlflow_project.tracking.journal.entities import Artifact, RunEnded
from mlflow_project.tracking.journal.state_dir import runs_folder
from mlflow_project.tracking.journal.writer import Journal
from tests.mlflow_project.tracking.plugin.programs import log_model
from tests.support.durable import deliver_all, end_program, sync_to


class Clock:
    """A time that passes only when somebody sleeps or takes long."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which a hub waits for an answer."""
    clock = Clock()
    monkeypatch.setattr(hub_module, "time", clock)
    return clock


@pytest.fixture
def hub(durable: str) -> Hub:
    mlflow.search_experiments()
    (hub,) = lifecycle.hubs()
    return hub


def go_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server answer no question of the program any more, though it takes what is delivered."""

    def refuse(*_: Any, **__: Any) -> None:
        raise Unreachable("away")

    monkeypatch.setattr(Hub, "ask", refuse)


def read_table() -> list[int]:
    run = mlflow.active_run()
    assert run is not None
    path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="table.json")
    return list(pd.read_json(Path(path), orient="split")["label"])


def test_a_request_that_is_late_is_made_again(
    hub: Hub, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    requests = []

    def answer_the_second() -> str:
        requests.append(clock.now)
        if len(requests) == 1:
            clock.sleep(2.1)
            raise OSError("Read timed out")
        return "answer"

    assert hub.ask(answer_the_second) == "answer"


def test_no_question_takes_longer_than_15_seconds(
    hub: Hub, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for timeout in (1, 4, 12):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeout))
        began = clock.now

        def be_late(timeout: float = timeout) -> None:
            clock.sleep(timeout)
            raise OSError("Read timed out")

        hub.reachability.note_answer()
        with pytest.raises(Unreachable):
            hub.ask(be_late)
        assert clock.now - began <= 15


@pytest.mark.parametrize("deliver", [deliver_all, lambda: None], ids=["uploaded", "waiting"])
def test_a_table_grows_while_the_server_is_away(
    durable: str, store: str, deliver: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_table({"label": [1]}, "table.json")
        deliver()
        with monkeypatch.context() as patch:
            go_away(patch)
            mlflow.log_table({"label": [2]}, "table.json")
            assert read_table() == [1, 2]
            assert [file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)] == [
                "table.json"
            ]
        deliver_all()
        with monkeypatch.context() as patch:
            go_away(patch)
            mlflow.log_table({"label": [3]}, "table.json")
    deliver_all()
    end_program()
    found = mlflow.MlflowClient(store).download_artifacts(run.info.run_id, "table.json")
    assert list(pd.read_json(Path(found), orient="split")["label"]) == [1, 2, 3]


def test_what_is_uploaded_and_not_here_any_more_is_no_missing_file(
    durable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UploadedCopies, "add", lambda self, artifact: artifact.file.unlink())
    with mlflow.start_run():
        mlflow.log_table({"label": [1]}, "table.json")
        deliver_all()
        go_away(monkeypatch)
        with pytest.raises(MlflowException):  # rather than a table without its first part
            mlflow.log_table({"label": [2]}, "table.json")


def test_a_run_of_which_others_know_more_is_not_listed_without_the_server(
    durable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("first", "first.txt")
    lifecycle.finish(60)
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_text("second", "second.txt")
        go_away(monkeypatch)
        with pytest.raises(MlflowException):
            mlflow.MlflowClient().list_artifacts(run.info.run_id)
        assert mlflow.artifacts.load_text(f"{mlflow.get_artifact_uri()}/second.txt") == "second"


def test_copies_of_uploaded_files_go_with_the_end_of_their_run(durable: str) -> None:
    with mlflow.start_run():
        mlflow.log_text("text", "a.txt")
        deliver_all()
        (copy,) = runs_folder().glob("*/files/*/a.txt")
        assert copy.read_text(encoding="utf-8") == "text"
    deliver_all()
    assert not copy.parent.exists()


def test_copies_that_a_killed_process_has_kept_go_with_the_end_of_its_run(durable: str) -> None:
    mlflow.start_run()
    mlflow.log_text("text", "a.txt")
    deliver_all()
    (copy,) = runs_folder().glob("*/files/*/a.txt")
    content = copy.read_bytes()
    lifecycle.finish(60)
    copy.parent.mkdir()
    copy.write_bytes(content)
    with closing(Journal.open(copy.parents[2])) as journal:  # as `status --repair` does
        journal.append(RunEnded("KILLED"))
    sync_to(durable.removeprefix("durable+"))
    assert not copy.parent.exists()


def test_the_newest_copies_stay_within_a_bound(tmp_path: Path) -> None:
    copies = UploadedCopies(limit=10)

    def add(number: int, path: str, size: int) -> Path:
        file = tmp_path / str(number) / "file"
        file.parent.mkdir()
        file.write_bytes(bytes(size))
        copies.add(Artifact(path, file, None))
        return file

    first, again, second = add(1, "a", 6), add(2, "a", 6), add(3, "b", 4)
    assert [file.exists() for file in (first, again, second)] == [False, True, True]
    third, huge = add(4, "c", 5), add(5, "d", 11)
    assert [file.exists() for file in (again, second, third, huge)] == [False, False, False, False]


def test_a_search_waits_for_a_server_that_has_come_back(
    durable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow.start_run():
        mlflow.log_param("fold", 1)
        deliver_all()
        (hub,) = lifecycle.hubs()
        uploaded, waited = [], []

        def wait(done: Callable[[], bool], seconds: float) -> bool:
            waited.append(seconds)
            if len(waited) == 1:
                hub.reachability.problem = None  # it is back, though nothing of what waits is there
            else:
                uploaded.append(True)
            return True

        hub.worker.stop()
        hub.reachability.problem = "away"
        monkeypatch.setattr(hub.worker, "wait", wait)
        mlflow.log_metric("loss", 1)
        mlflow.search_runs()
        assert uploaded
        assert waited[0] < waited[1] <= 15


def test_a_search_that_misses_something_says_so(durable: str, capsys: pytest.CaptureFixture[str]) -> None:
    with mlflow.start_run():
        deliver_all()
        (hub,) = lifecycle.hubs()
        hub.worker.stop()
        hub.worker.wait = lambda done, seconds: False  # type: ignore[method-assign]
        mlflow.log_metric("loss", 1)
        mlflow.search_runs()
        assert "before all that this process has logged is there" in capsys.readouterr().err


def test_an_experiment_that_was_just_created_is_known_without_the_server(
    durable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mlflow.create_experiment("new")
    go_away(monkeypatch)
    assert mlflow.get_experiment(made).name == "new"
    assert mlflow.set_experiment("new").experiment_id == made


def test_an_experiment_keeps_the_id_that_the_program_was_given(
    durable: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        go_away(patch)
        given = mlflow.set_experiment("early").experiment_id
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1)
    deliver_all()
    (hub,) = lifecycle.hubs()
    assert hub.wait(lambda: not hub._by_run)  # the run is let go, and opened again below
    assert mlflow.get_experiment(given).experiment_id == given
    assert mlflow.set_experiment("early").experiment_id == given
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_metric("late", 2)
    deliver_all()
    client = mlflow.MlflowClient(store, store)
    real = client.get_experiment_by_name("early")
    assert real is not None
    assert real.experiment_id != given
    assert [found.data.metrics for found in client.search_runs([real.experiment_id])] == [
        {"loss": 1, "late": 2}
    ]


def test_a_model_is_found_by_the_real_id_that_came_late(
    durable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow.start_run():
        with monkeypatch.context() as patch:
            patch.setattr(Hub, "wait", lambda *_, **__: False)
            patch.setattr(RunLog, "real_id", lambda *_: None)  # however soon it is uploaded
            given = mlflow.initialize_logged_model("late").model_id
        deliver_all()
        (hub,) = lifecycle.hubs()
        real = mlflow.get_logged_model(given).model_id
        assert real != given
        # So its files are listed with those that still wait, also by the address that the server's answer has.
        assert hub.find_model(real) == hub.find_model(given) is not None
        assert hub.find_model("m-" + 32 * "0") is None


def test_a_model_is_read_and_written_after_its_run_was_let_go(hub: Hub, store: str) -> None:
    with mlflow.start_run() as run:
        model_id = log_model().model_id
    deliver_all()
    assert hub.wait(lambda: not hub._by_run)
    client = mlflow.MlflowClient(store, store)
    client.set_logged_model_tags(model_id, {"by": "another program"})
    assert mlflow.get_logged_model(model_id).tags["by"] == "another program"
    mlflow.set_logged_model_tags(model_id, {"checked": "yes"})
    mlflow.MlflowClient().log_metric(run.info.run_id, "late", 1, model_id=model_id)
    mlflow.set_logged_model_tags(model_id, {"twice": "yes"})
    assert {"checked", "twice"} <= mlflow.get_logged_model(model_id).tags.keys()
    deliver_all()
    found = client.get_logged_model(model_id)
    assert {"checked", "twice"} <= found.tags.keys()
    assert [metric.key for metric in found.metrics or []] == ["late"]


def test_a_search_takes_the_provisional_id_of_a_parent(durable: str) -> None:
    with mlflow.start_run():
        (hub,) = lifecycle.hubs()
        (log,) = hub.running()
        parent = log.header.provisional_id
        with mlflow.start_run(run_name="child", tags={"mlflow.parentRunId": str(parent)}, nested=True):
            deliver_all()
        found = mlflow.search_runs(
            filter_string=f"tags.mlflow.parentRunId = '{parent}'", output_format="list"
        )
    assert [run.info.run_name for run in found] == ["child"]


def test_who_waits_does_not_keep_the_upload_busy() -> None:
    rounds = []

    def logs() -> list[RunLog]:
        rounds.append(1)
        return []

    worker = Worker(logs, Reachability("http://127.0.0.1:9", ""), lambda log: None, lambda: None)
    assert not worker.wait(lambda: False, 0.5)
    worker.stop()
    assert len(rounds) < 50  # thousands, where each wakes the other


def test_a_batch_is_as_large_as_mlflow_takes_it(away: str) -> None:
    with mlflow.start_run():
        mlflow.log_params({f"p{number}": number for number in range(100)})
        client, run = mlflow.MlflowClient(), mlflow.active_run()
        assert run is not None
        for step in range(1500):
            client.log_metric(run.info.run_id, "loss", 0, step=step)
        (hub,) = lifecycle.hubs()
        (log,) = hub.running()
        uploader = ProgramUploader(log.folder)
        sizes = []
        while batch := uploader._next():
            sizes.append(len(batch))
            uploader.session.cursor.position = batch[-1].end
    assert sizes[:2] == [1000, 601]  # with the header

"""Whatever stands in the address or answers there: one line, no hang, and the program goes on."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2

from mlflow_project.common.errors import JournalError
from mlflow_project.tracking.hub import hub as hubs
from mlflow_project.tracking.hub import lifecycle, worker
from mlflow_project.tracking.hub.reachability import Unreachable
from mlflow_project.tracking.journal import local_runs, writer
from tests.support.answering import Answer
from tests.support.disk import Disk
from tests.support.durable import deliver_all, end_program, use


def log_something() -> str:
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1)
        mlflow.log_text("text", "a.txt")
    return str(run.info.run_id)


@pytest.mark.parametrize(
    "uri",
    [
        "durable+http://",
        "durable+http:///path",
        "durable+sqlite:",
        "durable+http://127.0.0.1:port",
        "durable+http://127.0.0.1:99999",
        "durable+https://my host/path",
    ],
)
def test_an_address_that_names_nothing_is_refused(
    uri: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(MlflowException, match=r"names no store; write durable\+ and the address"):
        mlflow.start_run()


def test_a_scheme_may_be_written_in_any_case(durable: str) -> None:
    mlflow.set_tracking_uri(durable.replace("durable+sqlite", "DURABLE+SQLite"))
    log_something()
    deliver_all()
    assert len(mlflow.search_runs(["0"])) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, "text/plain", "You are not authenticated."), "access denied; check MLFLOW_TRACKING_USERNAME"),
        (
            (403, "application/json", '{"error_code": "PERMISSION_DENIED", "message": "no"}'),
            "lacks a permission",
        ),
        ((404, "text/html", "<html>none"), "but no MLflow"),
        ((200, "text/html", "<html>Login"), "but no MLflow"),
        ((400, "application/json", '{"error_code": "BAD_REQUEST", "message": "odd"}'), "odd"),
        ((500, "text/plain", "broken"), "answers with errors"),
    ],
)
def test_a_server_that_refuses_everything_is_told_of_once_and_the_program_goes_on(
    answer: Answer,
    words: str,
    answering: Callable[[Callable[[str], Answer]], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(hubs, "WAIT_SECONDS", 0.3)
    for _ in use(monkeypatch, f"durable+{answering(lambda path: answer)}"):
        run_id = log_something()
        (hub,) = lifecycle.hubs()
        reachability = hub.reachability
        hub.worker.wait(lambda reachability=reachability: reachability.is_down, 30)
        with pytest.raises(MlflowException, match="this is known only there"):
            mlflow.search_runs(["0"])
        assert mlflow.get_run(run_id).data.metrics == {"loss": 1}
    lines = [line for line in capsys.readouterr().err.splitlines() if "what is logged waits in" in line]
    assert len(lines) == 1
    assert words in lines[0]
    (run,) = local_runs.undelivered()
    assert run.pending == 3


@pytest.mark.parametrize("code", ["INTERNAL_ERROR", "PERMISSION_DENIED"])
def test_what_the_server_fails_at_every_time_holds_up_nothing_else(
    code: str, durable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow.search_experiments()
    (hub,) = lifecycle.hubs()

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("broken here", getattr(databricks_pb2, code))

    monkeypatch.setattr(hub.tracking, "set_experiment_tag", fail)
    monkeypatch.setattr(worker, "_LONGEST_RETRY", 0.5)
    mlflow.MlflowClient().set_experiment_tag("0", "a", "b")
    (log,) = hub.pending()
    assert hub.worker.wait(lambda: log.failures > worker._FAILURES + 2, 60)
    assert not hub.reachability.is_down
    mlflow.log_metric("loss", 1)
    mlflow.end_run()
    assert hub.worker.wait(lambda: hub.pending() == [log], 60)
    assert mlflow.search_experiments()
    lifecycle.finish(0)
    message = capsys.readouterr().err
    assert "1 journal of this process not uploaded completely (" in message
    assert ("broken here" if code == "INTERNAL_ERROR" else "lacks a permission") in message


def test_a_version_of_no_model_is_refused_at_once(durable: str) -> None:
    with pytest.raises(MlflowException, match="not found") as error:
        mlflow.register_model("models:/m-" + "0" * 32, "none")
    assert not isinstance(error.value, Unreachable)


def test_a_folder_that_cannot_be_written_is_told_when_the_run_begins(
    away: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_PROJECT_STATE", str(tmp_path / "file"))
    with pytest.raises(MlflowException, match="set MLFLOW_PROJECT_STATE to a folder that can be written"):
        mlflow.start_run()


def test_a_full_disk_is_told_once_and_the_program_goes_on(
    away: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = Disk(monkeypatch)
    with mlflow.start_run() as run:
        disk.room = 0
        for step in range(20):
            mlflow.log_metric("loss", step, step=step)
        assert mlflow.get_run(run.info.run_id).data.metrics == {"loss": 19}
        told = [line for line in capsys.readouterr().err.splitlines() if "can't be written" in line]
        assert len(told) == 1
        disk.room = 1 << 30
    end_program()
    (kept,) = local_runs.undelivered()
    assert (kept.state, kept.pending) == ("finished", 21)


def test_a_file_that_is_gone_is_told_as_ever(away: str) -> None:
    with mlflow.start_run(), pytest.raises(FileNotFoundError):
        mlflow.log_artifact("none.csv")


def test_a_file_that_vanishes_while_it_is_logged_is_told_in_a_line(
    away: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.csv").write_text("a,b", encoding="utf-8")

    def gone(self: writer.Journal, *entities: object) -> None:
        raise JournalError("a file is missing")

    with mlflow.start_run():
        with monkeypatch.context() as patch:
            patch.setattr(writer.Journal, "append", gone)
            with pytest.raises(MlflowException, match="a file is missing"):
                mlflow.log_artifact("table.csv")
        mlflow.log_metric("loss", 1)


@pytest.mark.process
def test_a_server_cannot_store_into_a_durable_address(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            f"durable+sqlite:///{tmp_path}/x.db",
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: a server can't store into durable+sqlite://...: durable+ is for the programs that log; "
        "give the server the address without it"
    )


def raised_by_a_deleted_run(client: mlflow.MlflowClient, run_id: str) -> list[str]:
    raised = []
    for call in (
        lambda: client.log_metric(run_id, "loss", 2, step=1),
        lambda: client.log_param(run_id, "lr", 1),
        lambda: client.set_tag(run_id, "by", "me"),
        lambda: client.set_terminated(run_id),
    ):
        with pytest.raises(MlflowException) as error:
            call()
        raised.append(f"{error.value.error_code}: {error.value}".replace(run_id, "<run>"))
    return raised


@pytest.mark.parametrize("ended", [False, True], ids=["active", "ended"])
def test_a_deleted_run_takes_nothing_until_it_is_restored(durable: str, store: str, ended: bool) -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.log_metric(run_id, "loss", 1, step=0)
    if ended:
        client.set_terminated(run_id)
        deliver_all()
        (hub,) = lifecycle.hubs()
        assert hub.wait(lambda: not hub._by_run)  # the run is let go
    client.delete_run(run_id)
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"
    server = mlflow.MlflowClient(store, store)
    (run,) = server.search_runs(["0"], run_view_type=ViewType.DELETED_ONLY)
    plain = raised_by_a_deleted_run(server, run.info.run_id)
    assert raised_by_a_deleted_run(client, run_id) == plain
    client.restore_run(run_id)
    client.log_metric(run_id, "loss", 3, step=2)
    client.set_terminated(run_id)
    deliver_all()
    assert server.get_run(run.info.run_id).info.status == "FINISHED"
    assert [point.value for point in server.get_metric_history(run.info.run_id, "loss")] == [1, 3]

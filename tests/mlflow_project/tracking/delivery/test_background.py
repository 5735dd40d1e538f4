"""The thread that delivers while a run lives: what it shows, how it waits, and what earlier runs have left."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_project.common.errors import JournalError
from mlflow_project.tracking import stale_runs
from mlflow_project.tracking.active_run import ActiveRun
from mlflow_project.tracking.delivery import background, heartbeat
from mlflow_project.tracking.delivery.background import BackgroundUploader, deliver
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.delivery.uploader import JournalUploader
from mlflow_project.tracking.journal import format, local_runs
from mlflow_project.tracking.journal.entities import Artifact, Metric, RunEnded, RunResumed, Tag
from mlflow_project.tracking.journal.spool import FileSpool
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.stale_runs import RemoteRun
from tests.support.journals import wait_for_run
from tests.support.tiny import full


def test_a_server_that_is_away_is_a_problem_in_one_line_and_no_exception() -> None:
    journal = Journal.create("http://user:secret@127.0.0.1:9", "experiment", "n")
    journal.append(Metric("m", 1.0), RunEnded())
    journal.close()
    delivery = deliver(journal.folder)
    assert delivery.problem == "http://user:***@127.0.0.1:9 is unreachable"
    assert delivery.pending == journal.count


def test_a_locked_database_is_tried_again_and_never_told(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.create(store, "experiment", "n")
    journal.append(Metric("m", 1.0))
    failing = iter([True, True, False])

    class Busy:
        def __init__(self, client: MlflowClient) -> None:
            self.client = client

        def __getattr__(self, name: str) -> Any:
            if name == "log_batch" and next(failing, False):
                raise sqlite3.OperationalError("database is locked")
            return getattr(self.client, name)

    sending = BackgroundUploader(journal, lambda uri: Busy(open_client(uri))).start()  # type: ignore[arg-type,return-value]
    assert sending.wait(30).complete
    sending.stop()
    assert not caplog.records


def test_the_sender_delivers_while_the_run_lives_and_shows_that_it_does(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    sending = BackgroundUploader(journal).start()
    run_id = wait_for_run(sending, 30)
    assert run_id is not None
    assert journal.run_id == run_id
    journal.append(Metric("m", 1.0, 1))
    assert sending.wait(30).complete
    client = open_client(store)
    tags = client.get_run(run_id).data.tags
    assert tags["owner"] == heartbeat.owner()
    assert heartbeat.seconds_since_heartbeat(tags["heartbeat"]) < 60
    other = deliver(journal.folder)
    assert other.problem is None
    journal.append(Metric("m", 2.0, 2), RunEnded())
    assert sending.wait(30).complete
    sending.stop()
    tags = client.get_run(run_id).data.tags
    assert "heartbeat" not in tags
    assert "owner" not in tags
    assert [m.value for m in client.get_metric_history(run_id, "m")] == [1.0, 2.0]


def test_waiting_for_a_server_that_is_away_is_bounded() -> None:
    journal = Journal.create("http://127.0.0.1:9", "experiment", "n")
    journal.append(Metric("m", 1.0))
    sending = BackgroundUploader(journal).start()
    before = time.monotonic()
    assert wait_for_run(sending, 0.2) is None
    delivery = sending.wait(0.3)
    assert time.monotonic() - before < 30
    assert (delivery.run_id, delivery.pending) == (None, 1)
    assert delivery.problem is not None
    sending.stop()
    journal.close()


def test_whoever_waits_or_ends_does_not_wait_for_points_to_gather(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "GATHER_SECONDS", 600.0)
    journal = Journal.create(store, "experiment", "n")
    sending = BackgroundUploader(journal).start()
    wait_for_run(sending, 30)
    journal.append(Metric("m", 1.0))
    time.sleep(0.2)  # the thread has seen it, and gathers
    assert sending.wait(30).complete
    journal.append(Metric("m", 2.0))
    time.sleep(0.2)
    sending.stop()
    sending._thread.join(30)
    assert not sending._thread.is_alive()


def test_the_runs_id_is_announced_once_before_or_after_the_server_gives_it(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    announced: list[str] = []
    sending = BackgroundUploader(journal)
    sending.when_named(announced.append)
    assert announced == []
    run_id = wait_for_run(sending.start(), 60)
    journal.append(Metric("m", 1.0))
    assert sending.wait(60).complete
    assert announced == [run_id]
    sending.when_named(announced.append)
    assert announced == [run_id, run_id]
    sending.stop()
    journal.close()


def test_waiting_ends_early_when_nothing_arrives_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "STALLED_SECONDS", 0.5)
    journal = Journal.create("http://127.0.0.1:9", "experiment", "n")
    journal.append(Metric("m", 1.0))
    sending = BackgroundUploader(journal).start()
    before = time.monotonic()
    delivery = sending.wait(3600)
    assert time.monotonic() - before < 300
    assert delivery.problem == "http://127.0.0.1:9 is unreachable"
    sending.stop()
    journal.close()


def test_a_run_that_was_taken_for_dead_during_an_outage_says_running_again(store: str) -> None:
    client = open_client(store)
    away = iter([False, True])

    class Away:
        def __getattr__(self, name: str) -> Any:
            if name == "log_batch" and next(away, False):
                mark_dead(store, str(journal.run_id))
                raise OSError("away")
            return getattr(client, name)

    journal = Journal.create(store, "experiment", "n")
    sending = BackgroundUploader(journal, lambda _: Away(), heartbeat_seconds=0.05).start()  # type: ignore[arg-type,return-value]
    run_id = str(wait_for_run(sending, 60))
    for step in range(3):
        journal.append(Metric("m", step, step))
        assert sending.wait(60).complete
    assert next(away, None) is None
    for _ in range(600):
        if client.get_run(run_id).info.status == "RUNNING":
            break
        time.sleep(0.05)
    assert client.get_run(run_id).info.status == "RUNNING"
    sending.stop()
    journal.close()


def mark_dead(store: str, run_id: str) -> None:
    """As `status --repair` on another host does it."""
    heartbeat = open_client(store).get_run(run_id).data.tags["heartbeat"]
    stale_runs.mark_remote_run_killed(store, RemoteRun(run_id, "n", "elsewhere 1", heartbeat))


def test_a_run_that_was_taken_for_dead_while_it_slept_says_running_again(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    journal.append(Tag("status", "started"))
    deliverer = JournalUploader(journal.folder)
    while deliverer.step():
        pass
    heartbeat.send_heartbeat(deliverer.session)
    run_id = str(deliverer.session.run_id)
    mark_dead(store, run_id)
    run = open_client(store).get_run(run_id)
    assert (run.info.status, run.data.tags["status"]) == ("KILLED", "interrupted")
    heartbeat.send_heartbeat(deliverer.session)
    run = open_client(store).get_run(run_id)
    assert (run.info.status, run.data.tags["status"]) == ("RUNNING", "started")
    journal.close()


def test_a_run_that_is_heard_of_again_just_before_it_is_marked_stays_running(store: str) -> None:
    client = open_client(store)
    run_id = client.create_run("0", tags={"heartbeat": "2026-01-01T00:00:30+00:00"}).info.run_id
    stale_runs.mark_remote_run_killed(
        store, RemoteRun(run_id, "n", "elsewhere 1", "2026-01-01T00:00:00+00:00")
    )
    assert client.get_run(run_id).info.status == "RUNNING"


def test_the_sender_takes_no_file_away_from_a_run_that_is_still_open(store: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n", encoding="utf-8")
    journal = Journal.create(store, "experiment", "n")
    sending = BackgroundUploader(journal).start()
    journal.append(Artifact("table.csv", table), RunEnded("KILLED"))
    assert sending.wait(60).complete
    kept = journal.folder / format.FILES
    assert list(kept.iterdir())
    journal.append(RunResumed(), Artifact("again.csv", table), RunEnded())
    delivery = sending.wait(60)
    assert (delivery.complete, delivery.refused) == (True, ())
    sending.stop()
    assert list(kept.iterdir())
    assert journal.sync()
    journal.close()
    assert not list(kept.iterdir())


def test_a_signal_ends_the_wait_for_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "STALLED_SECONDS", 3600)
    journal = Journal.create("http://127.0.0.1:9", "experiment", "n")
    journal.append(Metric("m", 1.0))
    sending = BackgroundUploader(journal).start()
    asked = iter(range(1000))
    assert sending.wait(3600, lambda: next(asked) > 2).pending == 1
    sending.stop()
    journal.close()


def test_the_next_command_delivers_what_earlier_runs_have_left_and_tries_once(store: str) -> None:
    left = Journal.create(store, "experiment", "left")
    left.append(Metric("m", 1.0), RunEnded())
    left.close()
    away = Journal.create("http://127.0.0.1:9", "experiment", "away")
    away.append(Metric("m", 1.0), RunEnded())
    away.close()
    thread = background.upload_pending_runs()
    assert thread is not None
    thread.join(60)
    assert [run.header.run_name for run in local_runs.undelivered()] == ["away"]
    assert background.upload_pending_runs() is None


def test_work_whose_results_find_no_room_is_not_finished(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n", encoding="utf-8")
    monkeypatch.setattr(FileSpool, "_copy", full)
    with (
        pytest.raises(JournalError, match=r"No space left.*free disk space there, and do it again"),
        ActiveRun.create("n", lambda problem: None, None) as run,
    ):
        run.log(Artifact("table.csv", table))
    kept = open_client(store).get_run(run.name)
    assert (kept.info.status, kept.data.tags["status"]) == ("FAILED", "failed")

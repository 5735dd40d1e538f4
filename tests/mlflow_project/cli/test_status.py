"""`status` and `sync` say how each run is and what to do, and do it; dead runs are told from live ones."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlflow_project.cli import main
from mlflow_project.common import names
from mlflow_project.common.errors import RunBusyError, RunError
from mlflow_project.tracking import stale_runs
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.journal import delivery_status, format, local_runs, state_dir
from mlflow_project.tracking.journal.entities import Metric, RunEnded, Tag
from mlflow_project.tracking.journal.writer import Journal

ROOT = Path(__file__).resolve().parents[3]


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """What a command lists, and that it succeeds."""
    assert main.run([*arguments, "--format", "json"]) == 0
    rows_: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows_


@pytest.fixture
def killed(store: str) -> Iterator[Path]:
    """The folder of a run whose process was killed while it ran."""
    script = (
        "import sys, time\n"
        "from mlflow_project.tracking.journal.writer import Journal\n"
        "from mlflow_project.tracking.delivery.background import BackgroundUploader\n"
        "from mlflow_project.tracking.journal.entities import Metric\n"
        "journal = Journal.create(sys.argv[1], 'experiment', 'lr=0.1 epochs=8')\n"
        "journal.append(Metric('m', 1.0, 1)); journal.sync()\n"
        "assert BackgroundUploader(journal).start().wait(60).complete\n"
        "journal.append(Metric('m', 2.0, 2)); print(journal.folder, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, store], cwd=ROOT, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert local_runs.local_run(folder).state == "alive"
        with pytest.raises(RunBusyError):
            Journal.open(folder)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        yield folder
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_killed_run_is_told_from_a_live_one_and_repaired(
    killed: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Journal.create(store, "experiment", "alive")
    live.append(Metric("m", 1.0))
    deliver(live.folder)
    by_name = {row["run"]: row for row in rows(capsys, "status")}
    assert by_name["alive"]["state"] == "running"
    dead = by_name["lr=0.1 epochs=8"]
    assert dead["state"] == "interrupted"
    assert dead["action"].startswith("mlflow-project status --repair")  # without a plan nothing goes on
    (killed / local_runs.RUN_SPEC_FILE).write_text("{}", encoding="utf-8")
    (dead,) = [row for row in rows(capsys, "status") if row["run"] != "alive"]
    assert f"train --resume {dead['run_id']}" in dead["action"]
    client = open_client(store)
    assert client.get_run(dead["run_id"]).info.status == "RUNNING"
    rows(capsys, "status", "--repair")
    run = client.get_run(dead["run_id"])
    assert run.info.status == "KILLED"
    assert run.info.end_time <= local_runs.last_time_ms(killed)
    assert run.data.tags["status"] == "interrupted"
    assert "heartbeat" not in run.data.tags
    assert [m.step for m in client.get_metric_history(dead["run_id"], "m")] == [1, 2]
    assert [row["run"] for row in rows(capsys, "status")] == ["alive"]
    assert client.get_run(str(local_runs.local_run(live.folder).run_id)).info.status == "RUNNING"
    live.close()


def test_a_training_that_was_stopped_is_listed_with_how_to_go_on(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal.create(store, "experiment", "stopped")
    journal.append(Metric("m", 1.0), RunEnded("KILLED"))
    journal.close()
    assert deliver(journal.folder).complete
    assert rows(capsys, "status") == []
    (journal.folder / local_runs.RUN_SPEC_FILE).write_text("{}", encoding="utf-8")
    (journal.folder / names.CHECKPOINT).touch()
    (row,) = rows(capsys, "status")
    assert (row["state"], row["action"]) == ("killed", f"mlflow-project train --resume {row['run_id']}")


def test_a_run_that_lives_after_all_is_not_repaired(store: str) -> None:
    journal = Journal.create(store, "experiment", "n")
    with pytest.raises(RunBusyError):
        stale_runs.mark_killed(local_runs.local_run(journal.folder))


@pytest.mark.parametrize(("silent", "marked"), [(20, False), (3600, True)])
def test_a_run_of_another_host_is_dead_after_a_long_silence(
    store: str, capsys: pytest.CaptureFixture[str], silent: int, marked: bool
) -> None:
    client = open_client(store)
    heard = (datetime.now(UTC) - timedelta(seconds=silent)).replace(microsecond=0)
    tags = {"heartbeat": heard.isoformat(), "owner": "elsewhere 17"}
    run_id = client.create_run("0", tags=tags, run_name="there").info.run_id
    (row,) = rows(capsys, "status")
    assert (row["state"], row["location"]) == ("stale" if marked else "running", "elsewhere 17")
    assert len(rows(capsys, "status", "--repair")) == (0 if marked else 1)
    run = client.get_run(run_id)
    if marked:
        assert (run.info.status, run.info.end_time) == ("KILLED", int(heard.timestamp() * 1000))
        assert "owner" not in run.data.tags
    else:
        assert run.info.status == "RUNNING"


def test_sync_delivers_what_was_left_and_says_so(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        journal = Journal.create(store, "experiment", f"run {number}", start_time_ms=1000 * number)
        journal.append(Metric("m", number), RunEnded())
        journal.close()
    (first, second) = rows(capsys, "status")
    assert (first["pending"], first["action"]) == (2, "mlflow-project sync")
    (one,) = rows(capsys, "sync", second["run_id"])
    assert (one["run"], one["delivered"], one["pending"]) == ("run 1", 2, 0)
    (other,) = rows(capsys, "sync")
    assert other["run"] == "run 0"
    assert rows(capsys, "sync") == []
    assert main.run(["sync"]) == 0
    assert "nothing to upload" in capsys.readouterr().err
    experiment = open_client(store).get_experiment_by_name("experiment")
    assert experiment is not None
    runs = open_client(store).search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["run 0", "run 1"]


def test_sync_fails_in_one_line_while_the_server_is_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow_project.tracking import sync

    monkeypatch.setattr(sync, "ATTEMPTS", 1)
    journal = Journal.create("http://127.0.0.1:9", "experiment", "n")
    journal.append(Metric("m", 1.0), RunEnded())
    journal.close()
    assert main.run(["sync"]) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert (
        error
        == "Error: 1 of 1 run couldn't be delivered (http://127.0.0.1:9 is unreachable); try again later"
    )


def test_sync_asks_a_server_that_is_away_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow_project.tracking import sync

    monkeypatch.setattr(sync, "ATTEMPTS", 1)
    for number in range(3):
        journal = Journal.create("http://127.0.0.1:9", "experiment", "n", start_time_ms=number)
        journal.append(Metric("m", 1.0), RunEnded())
        journal.close()
    calls: list[Path] = []

    def counted(folder: Path, **more: Any) -> delivery_status.DeliveryStatus:
        calls.append(folder)
        return deliver(folder, **more)

    monkeypatch.setattr(sync, "deliver", counted)
    assert main.run(["sync", "--format", "json"]) == 1
    captured = capsys.readouterr()
    assert [row["pending"] for row in json.loads(captured.out)] == [2, 2, 2]
    assert "3 of 3 runs couldn't be delivered (http://127.0.0.1:9 is unreachable)" in captured.err
    assert len(calls) == 1


def test_sync_names_what_was_refused(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal.create(store, "experiment", "n")
    journal.append(Metric("a\nb", 1.0), Tag("t", "x"), RunEnded())
    journal.close()
    assert main.run(["sync"]) == 0
    assert r"Metric 'a\nb' was rejected" in capsys.readouterr().err
    (row,) = rows(capsys, "status")
    assert "was rejected" in row["action"]


def test_an_unknown_run_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="status"):
        local_runs.find("nothing")
    assert main.run(["sync", "nothing"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_nobody_can_read_stops_no_listing(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = state_dir.runs_folder() / "broken"
    broken.mkdir(parents=True)
    (broken / format.JOURNAL).write_bytes(os.urandom(100))
    Journal.create(store, "experiment", "n").close()
    run, damaged = rows(capsys, "status")
    assert run["run"] == "n"
    assert (damaged["run"], damaged["state"], damaged["location"]) == ("broken", "damaged", str(broken))
    assert "says which run this is" in damaged["action"]


def test_a_training_that_died_before_it_had_begun_becomes_no_run_in_mlflow(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal.create(store, "experiment", "n", tags={"fingerprint": "0"})
    journal.append(Tag("status", "started"))
    journal.close()
    assert local_runs.undelivered() == []
    (row,) = rows(capsys, "status")
    assert row["action"] == "mlflow-project status --repair"
    assert rows(capsys, "sync") == []
    assert rows(capsys, "status", "--repair") == []
    assert not journal.folder.exists()
    assert open_client(store).get_experiment_by_name("experiment") is None

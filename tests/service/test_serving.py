"""A person serves alone: what is printed, who is let in, how it ends."""

import base64
import itertools
import json
import os
import resource
import signal
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from mlflow_project.tracking.delivery.background import BackgroundUploader
from mlflow_project.tracking.journal.entities import Metric as Point
from mlflow_project.tracking.journal.entities import RunEnded
from mlflow_project.tracking.journal.format import Cursor
from mlflow_project.tracking.journal.writer import Journal
from tests.service.serving import Serving, family, start

pytestmark = pytest.mark.server


def status(url: str, data: bytes | None = None, method: str | None = None, **headers: str) -> int:
    """Of the answer; headers by their names with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def experiments(serving: Serving) -> str:
    return f"{serving.url}/api/2.0/mlflow/experiments/search?max_results=1"


def test_when_it_answers_it_prints_the_line_to_set_elsewhere(serving: Serving) -> None:
    assert serving.out == f"export MLFLOW_TRACKING_URI={serving.url}\n"
    assert status(f"{serving.url}/health") == 200


def test_the_store_is_in_wal_mode(serving: Serving) -> None:
    connection = sqlite3.connect(serving.folder / "mlflow.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_runs_and_files_and_models_go_through_it(serving: Serving, tmp_path: Path) -> None:
    client = MlflowClient(serving.url, registry_uri=serving.url)
    run = client.create_run(client.create_experiment("through"))
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    (tmp_path / "file.txt").write_text("kept", encoding="utf-8")
    client.log_artifact(run.info.run_id, str(tmp_path / "file.txt"))
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["file.txt"]
    (saved,) = (serving.folder / "mlartifacts").rglob("file.txt")
    assert saved.read_text(encoding="utf-8") == "kept"
    client.create_registered_model("through")
    assert client.get_registered_model("through").name == "through"


def test_only_names_of_this_machine_are_answered(serving: Serving) -> None:
    address = experiments(serving)
    assert status(address) == 200
    assert status(address, Host=f"localhost:{serving.port}") == 200
    assert status(address, Host="evil.example") == 403
    assert status(address, Host=f"evil.example:{serving.port}") == 403


def test_behind_a_proxy_with_tls_our_own_page_writes_and_a_foreign_one_does_not(
    migrated_store: Path, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mlflow.db").write_bytes(migrated_store.read_bytes())
    behind = start(tmp_path / "own", "--allowed-hosts", "tracking.example")
    try:
        behind.wait_until_ready()
        address = f"{behind.url}/api/2.0/mlflow/experiments/create"

        def post(name: str, origin: str) -> int:
            body = json.dumps({"name": name}).encode()
            named = {"Origin": origin, "Host": "tracking.example", "Content_Type": "application/json"}
            return status(address, body, **named)

        for number, origin in enumerate(("https://tracking.example", "http://tracking.example")):
            assert post(f"ours {number}", origin) == 200
        assert post("foreign", "https://evil.example") == 403
        assert post("foreign", "https://tracking.example.evil.example") == 403
    finally:
        assert behind.end() == 0


def test_a_foreign_page_cannot_write(serving: Serving) -> None:
    address = f"{serving.url}/api/2.0/mlflow/experiments/create"
    body = json.dumps({"name": "from elsewhere"}).encode()
    assert status(address, body, Origin="http://evil.example", Content_Type="application/json") == 403
    assert MlflowClient(serving.url).get_experiment_by_name("from elsewhere") is None


@pytest.mark.parametrize(
    "path", ["../../secret", "%2e%2e/%2e%2e/secret", "..%2f..%2fsecret", "%252e%252e/secret"]
)
def test_no_path_climbs_out_of_the_artifacts(serving: Serving, path: str) -> None:
    (serving.folder / "secret").write_text("not for you", encoding="utf-8")
    below = f"{serving.url}/api/2.0/mlflow-artifacts/artifacts"
    assert status(f"{below}/{path}") in (400, 404)
    assert status(f"{below}/{path}", b"changed", "PUT") in (400, 404)
    assert (serving.folder / "secret").read_text(encoding="utf-8") == "not for you"
    assert not list(serving.folder.parent.glob("secret"))


def test_fifty_clients_at_once_lose_nothing(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_fifty_clients_lose_nothing(serving, monkeypatch)


def assert_fifty_clients_lose_nothing(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the user whom the environment names, where there are users."""
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    client = MlflowClient(serving.url)
    experiment = client.create_experiment("fifty")

    def write(number: int) -> str:
        own = MlflowClient(serving.url)
        run = own.create_run(experiment)
        own.log_batch(run.info.run_id, [Metric("value", number * step, 0, step) for step in range(20)])
        own.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    with ThreadPoolExecutor(50) as pool:
        runs = list(pool.map(write, range(50)))
    saved = {run.info.run_id: run.data.metrics["value"] for run in client.search_runs([experiment])}
    assert saved == {run: 19.0 * number for number, run in enumerate(runs)}
    assert len(client.get_metric_history(runs[7], "value")) == 20


def test_a_full_disk_is_a_status_and_the_server_goes_on(serving: Serving) -> None:
    client = MlflowClient(serving.url)
    run = client.create_run(client.create_experiment("full"))
    path = run.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    address = f"{serving.url}/api/2.0/mlflow-artifacts/artifacts/{path}/large"
    body = json.dumps(
        {
            "run_id": run.info.run_id,
            "metrics": [{"key": "m", "value": 1, "timestamp": 0, "step": n} for n in range(1000)],
        }
    ).encode()
    metrics = f"{serving.url}/api/2.0/mlflow/runs/log-batch"
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in family(serving.process)}
    try:
        for pid, (_, hard) in before.items():  # as on a disk on which no file may grow
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
        assert status(address, b"x" * 1_000_000, "PUT") >= 500
        assert status(metrics, body, Content_Type="application/json") >= 500
        assert status(f"{serving.url}/health") == 200
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    assert client.list_artifacts(run.info.run_id) == []
    assert client.get_metric_history(run.info.run_id, "m") == []
    assert status(address, b"x" * 1_000_000, "PUT") == 200
    assert status(metrics, body, Content_Type="application/json") == 200
    assert len(client.get_metric_history(run.info.run_id, "m")) == 1000


def test_a_port_in_use_is_said_in_one_line_and_nothing_is_touched(serving: Serving, tmp_path: Path) -> None:
    second = start(tmp_path / "second", port=serving.port)
    assert second.process.wait(60) == 1
    (line,) = second.err.splitlines()
    assert f"port {serving.port} of 127.0.0.1 is in use" in line
    assert sorted(path.name for path in second.folder.iterdir()) == ["err", "out"]


def test_restarted_under_writing_clients_it_loses_nothing(
    migrated_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One writes as our runs do, one is MLflow's own with its own retries.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mlflow.db").write_bytes(migrated_store.read_bytes())
    first = start(tmp_path / "own")
    first.wait_until_ready()
    below = [pid for pid in family(first.process) if pid != first.process.pid]
    journal = Journal.create(first.url, "restarted", "written")
    sender = BackgroundUploader(journal).start()
    writing, steps = threading.Event(), itertools.count(1)

    def write() -> None:
        while not writing.wait(0.01):
            journal.append(Point("value", 1.0, next(steps)))

    plain = MlflowClient(first.url)
    run_id = plain.create_run("0").info.run_id
    plain_steps = itertools.count(1)

    def write_plainly() -> None:
        while not writing.is_set():
            plain.log_metric(run_id, "value", 1.0, timestamp=0, step=next(plain_steps))

    pool = ThreadPoolExecutor(2)
    writers = [pool.submit(write), pool.submit(write_plainly)]
    second = None
    try:
        while Cursor.load(journal.folder).run_id is None or not plain.get_metric_history(run_id, "value"):
            time.sleep(0.1)
        assert first.end(signal.SIGINT) == 0
        assert first.err.splitlines()[-1] == "stopped"
        assert not [pid for pid in below if psutil.pid_exists(pid)]
        second = start(tmp_path / "own", port=first.port)
        second.wait_until_ready()
        before = len(plain.get_metric_history(run_id, "value"))
        while len(plain.get_metric_history(run_id, "value")) == before and not writers[1].done():
            time.sleep(0.1)
        writing.set()
        for writer in writers:
            writer.result()
        journal.append(RunEnded())
        delivery = sender.wait(120)
        assert delivery.complete, delivery
        for writer_run, counted in ((str(delivery.run_id), steps), (run_id, plain_steps)):
            saved = plain.get_metric_history(writer_run, "value")
            assert sorted(point.step for point in saved) == list(range(1, next(counted)))
        assert plain.get_run(str(delivery.run_id)).info.status == "FINISHED"
    finally:
        writing.set()
        pool.shutdown()
        sender.stop()
        if second is not None:
            assert second.end() == 0


def test_a_killed_serve_leaves_no_server_behind(migrated_store: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mlflow.db").write_bytes(migrated_store.read_bytes())
    killed = start(tmp_path / "own")
    killed.wait_until_ready()
    below = [psutil.Process(pid) for pid in family(killed.process) if pid != killed.process.pid]
    killed.process.kill()
    killed.process.wait()
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", killed.port))


def test_a_password_that_nobody_gave_is_made_and_shown_once_on_a_terminal(
    migrated_store: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "mlflow.db").write_bytes(migrated_store.read_bytes())
    shown, terminal = os.openpty()
    served = start(own, "--auth", terminal=terminal)
    try:
        served.wait_until_ready()
        text = os.read(shown, 1 << 16).decode()
        (line,) = [line for line in text.splitlines() if line.startswith("administrator: ")]
        user, password = line.removeprefix("administrator: ").split(" (")[0].split(", password: ")
        allowed = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        assert text.index(line) < text.index("ready; store")
        assert text.count(password) == 1
        assert status(experiments(served)) == 401
        assert status(experiments(served), Authorization=allowed) == 200
        assert password not in served.out + "".join(family(served.process).values())
    finally:
        assert served.end() == 0
        os.close(shown)
        os.close(terminal)
    again = start(own, "--auth", port=served.port)
    try:
        again.wait_until_ready()
        assert "password: " not in again.err
        assert status(experiments(again), Authorization=allowed) == 200
    finally:
        assert again.end() == 0

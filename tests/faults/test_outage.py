"""The tracking server goes away, hangs, breaks off or fails, at any request: nothing is lost, nothing is twice."""

import random
import threading
from pathlib import Path

import pytest

from mlflow_project.tracking.delivery.background import BackgroundUploader, deliver
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import DatasetInput, LoggedImage, Metric, Param, RunEnded, Tag
from mlflow_project.tracking.journal.writer import Journal
from tests.faults import play
from tests.faults.check import differences
from tests.faults.proxy import Proxy
from tests.faults.rounds import Run
from tests.support.journals import wait_for_run

pytestmark = pytest.mark.campaign

EPOCHS = 2


def journal_of(uri: str, seed: int) -> Journal:
    """All that a run of this seed has to say, in this process, without a sender."""
    journal = Journal.create(uri, play.EXPERIMENT, f"seed={seed}")
    journal.append(*(Param(key, value) for key, value in play.parameters(seed).items()))
    journal.append(DatasetInput("mnist-sample", "abc", "embedded"), Tag("status", "started"))
    for epoch in range(1, EPOCHS + 1):
        journal.append(*(Metric(key, value, step) for key, step, value in play.points(seed, epoch)))
    artifacts, model, image = play.write(journal.folder / "made", seed)
    journal.append(LoggedImage("confusion_matrix", EPOCHS, image), *artifacts, model)
    journal.append(Tag("status", "completed"), RunEnded())
    return journal


def wrong(port: int, journal: Journal, seed: int) -> list[str]:
    return differences(open_client(f"http://127.0.0.1:{port}"), journal.header.key, seed, EPOCHS)


def once(fault: str, among: str = "") -> "tuple[set[str], object]":
    """A plan that strikes every kind of request the first time that it is made."""
    seen: set[str] = set()

    def plan(line: str) -> str | None:
        kind = line.split("?")[0]
        if kind in seen or among not in kind:
            return None
        seen.add(kind)
        return fault

    return seen, plan


@pytest.mark.parametrize("fault", ["reset", "500", "500 after", "lost", "cut"])
def test_every_request_may_fail_once(server: int, proxy: Proxy, fault: str) -> None:
    seed = random.randrange(1 << 30)
    journal = journal_of(proxy.url, seed)
    journal.close()
    seen, proxy.plan = once(fault)  # type: ignore[assignment]
    delivery = deliver(journal.folder, attempts=200)
    assert delivery.complete, delivery
    assert delivery.refused == ()
    assert len(proxy.struck) == len(seen) > 15
    assert wrong(server, journal, seed) == []


@pytest.mark.parametrize(
    "request_", ["runs/create", "logged-models ", "model-versions/create", "runs/log-batch"]
)
def test_a_request_that_hangs_may_be_carried_out_late(server: int, proxy: Proxy, request_: str) -> None:
    seed = random.randrange(1 << 30)
    journal = journal_of(proxy.url, seed)
    journal.close()
    _, proxy.plan = once("late", request_)  # type: ignore[assignment]
    delivery = deliver(journal.folder, attempts=200)
    assert delivery.complete, delivery
    assert [fault for fault, _ in proxy.struck] == ["late"]
    assert wrong(server, journal, seed) == []


def test_a_run_begins_while_the_server_is_away_and_becomes_a_normal_run(server: int, proxy: Proxy) -> None:
    proxy.down()
    seed = random.randrange(1 << 30)
    journal = journal_of(proxy.url, seed)
    sender = BackgroundUploader(journal).start()
    assert wait_for_run(sender, 0.5) is None
    delivery = sender.wait(0.5)
    assert (delivery.run_id, delivery.pending) == (None, journal.count)
    proxy.up()
    assert sender.wait(60).complete
    sender.stop()
    run = open_client(f"http://127.0.0.1:{server}").get_run(str(journal.run_id))
    assert run.info.start_time == journal.header.start_time_ms
    assert run.info.run_name == f"seed={seed}"
    assert wrong(server, journal, seed) == []


def test_saying_and_syncing_never_wait_for_the_server(server: int, proxy: Proxy) -> None:
    answer = threading.Event()

    def hold(_: str) -> None:
        answer.wait(60)

    proxy.plan = hold
    journal = Journal.create(proxy.url, play.EXPERIMENT, "held")
    sender = BackgroundUploader(journal).start()
    for step in range(2000):
        journal.append(Metric("m", step, step))
    assert journal.sync()
    assert sender.delivery().delivered == 0  # all of this happened while no request was answered
    on_disk = sum(isinstance(item, format.Entry) for item in format.read_entries(journal.folder))
    assert on_disk == 2001
    answer.set()
    assert sender.wait(60).complete
    sender.stop()
    journal.close()


def test_a_process_ends_with_its_training_whatever_the_server_does(
    server: int, proxy: Proxy, tmp_path: Path
) -> None:
    answer = threading.Event()
    proxy.plan = lambda _: answer.wait(300) and None
    run = Run(tmp_path, proxy.url, 1, EPOCHS, pause=0.1, wait=0.2)
    try:
        assert run.start().wait(120) == 0
        assert run.log.read_text(encoding="utf-8") == ""
    finally:
        run.kill()
        answer.set()
    assert deliver(run.folder, attempts=20).complete
    assert differences(open_client(f"http://127.0.0.1:{server}"), run.folder.name, 1, EPOCHS) == []

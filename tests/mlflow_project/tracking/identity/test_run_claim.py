"""A run that somebody else has made is taken by one journal, or is left exactly as it is."""

import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_project.common.errors import RunError
from mlflow_project.common.names import CLAIM_TAG, KEY_TAG
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.identity import run_claim
from mlflow_project.tracking.identity.run_claim import claim_run
from mlflow_project.tracking.journal.writer import Journal

PARAMETERS = {"lr": "0.1", "epochs": "1"}


def everything(client: MlflowClient, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get_run(run_id).to_dictionary()
    return found


@pytest.fixture
def client(store: str) -> MlflowClient:
    return open_client(store)


def test_a_fresh_run_is_taken_by_the_journal_s_key(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    client.log_param(run_id, "lr", "1e-1")
    client.log_param(run_id, "register", "false")
    before = client.get_run(run_id).data.tags
    claim_run(client, run_id, "key", PARAMETERS)
    tags = client.get_run(run_id).data.tags
    assert tags == before | {KEY_TAG: "key", CLAIM_TAG + "key": tags[CLAIM_TAG + "key"]}
    claim_run(client, run_id, "key", PARAMETERS)  # a second delivery of the same journal


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("FINISHED", "is FINISHED and not RUNNING"),
        ("FAILED", "is FAILED"),
        ("deleted", "was deleted"),
        ("another parameter", "has the parameter lr=0.2"),
        ("another journal", "belongs to another process already"),
        ("nowhere", "isn't in the store"),
    ],
)
def test_any_other_run_is_refused_and_stays_as_it_is(state: str, reason: str, client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    if state == "another parameter":
        client.log_param(run_id, "lr", "0.2")
    elif state == "another journal":
        client.set_tag(run_id, KEY_TAG, "other")
    elif state == "deleted":
        client.delete_run(run_id)
    elif state == "nowhere":
        run_id = "0" * 32
    else:
        client.set_terminated(run_id, state)
    before = state != "nowhere" and everything(client, run_id)
    with pytest.raises(RunError, match=reason):
        claim_run(client, run_id, "key", PARAMETERS)
    assert state == "nowhere" or everything(client, run_id) == before


def take(store: str, run_id: str, key: str, start: threading.Barrier, winners: list[str]) -> None:
    client = open_client(store)
    start.wait()
    try:
        claim_run(client, run_id, key, {})
        winners.append(key)
    except RunError:
        pass


def test_of_many_that_claim_a_run_at_once_never_two_have_it(store: str, client: MlflowClient) -> None:
    for _ in range(5):
        run_id = client.create_run("0").info.run_id
        start = threading.Barrier(4)
        winners: list[str] = []

        arguments = [(store, run_id, f"key{n}", start, winners) for n in range(4)]
        threads = [threading.Thread(target=take, args=each) for each in arguments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tags = client.get_run(run_id).data.tags
        assert winners == [tags[KEY_TAG]] if winners else KEY_TAG not in tags
        claims = [tag for tag in tags if tag.startswith(CLAIM_TAG)]
        assert claims == [CLAIM_TAG + winner for winner in winners]


class Between:
    """A client under which somebody else acts after the first look at the run."""

    def __init__(self, client: MlflowClient, key: str) -> None:
        self.client = client
        self.key = key
        self.looks = 0

    def get_run(self, run_id: str) -> Any:
        run = self.client.get_run(run_id)
        self.looks += 1
        if self.looks == 1:
            claim_run(self.client, run_id, self.key, {})
        return run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def test_a_run_that_another_takes_after_it_was_seen_to_be_free_is_the_other_s(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    late: Any = Between(client, "other")
    with pytest.raises(RunError, match="belongs to another process already, that of journal other"):
        claim_run(late, run_id, "key", {})
    tags = client.get_run(run_id).data.tags
    assert tags[KEY_TAG] == "other"
    assert [tag for tag in tags if tag.startswith(CLAIM_TAG)] == [CLAIM_TAG + "other"]


def test_what_mlflow_run_has_ended_meanwhile_is_still_the_journal_s_unless_it_has_metrics(
    client: MlflowClient,
) -> None:
    run_id = client.create_run("0").info.run_id
    client.set_terminated(run_id, "FINISHED", 2000)
    with pytest.raises(RunError, match="is FINISHED"):
        claim_run(client, run_id, "key", {}, begun_ms=2001)
    client.log_metric(run_id, "m", 1.0)
    with pytest.raises(RunError, match="is FINISHED"):
        claim_run(client, run_id, "key", {}, begun_ms=1000)
    other = client.create_run("0").info.run_id
    client.set_terminated(other, "FINISHED", 2000)
    claim_run(client, other, "key", {}, begun_ms=1000)
    assert client.get_run(other).data.tags[KEY_TAG] == "key"


KILLED = """
import os, signal, sys
from mlflow_project.common.names import KEY_TAG
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.identity.run_claim import claim_run
store, run_id, moment = sys.argv[1:]
client = open_client(store)
set_tag = client.set_tag
def stop(run_id, key, value):
    if moment == "before the key" and key == KEY_TAG:
        os.kill(os.getpid(), signal.SIGKILL)
    set_tag(run_id, key, value)
client.set_tag = stop
claim_run(client, run_id, "killed", {})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["before the key", "before the journal"])
def test_a_run_whose_claimant_was_killed_is_free(moment: str, store: str, client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    killed = subprocess.run([sys.executable, "-c", KILLED, store, run_id, moment], timeout=300)
    assert killed.returncode == -signal.SIGKILL
    tags = client.get_run(run_id).data.tags
    assert CLAIM_TAG + "killed" in tags
    assert (tags.get(KEY_TAG) == "killed") == (moment == "before the journal")
    claim_run(client, run_id, "key", PARAMETERS)
    tags = client.get_run(run_id).data.tags
    assert tags[KEY_TAG] == "key"
    assert [tag for tag in tags if tag.startswith(CLAIM_TAG)] == [CLAIM_TAG + "key"]


def test_a_killed_claimant_that_has_its_journal_here_keeps_the_run(store: str, client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    subprocess.run([sys.executable, "-c", KILLED, store, run_id, "before the journal"], timeout=300)
    Journal.create(store, "Default", "n", run_id, key="killed").close()
    with pytest.raises(RunError, match="belongs to another process already, that of journal killed"):
        claim_run(client, run_id, "key", PARAMETERS)


@pytest.mark.parametrize(("seconds", "is_free"), [(0, False), (run_claim.STALE_AFTER_SECONDS + 60, True)])
def test_a_claim_from_another_host_holds_for_minutes(
    seconds: float, is_free: bool, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_claim, "PAUSE_SECONDS", 0.0)
    run_id = client.create_run("0").info.run_id
    begun = datetime.now(UTC) - timedelta(seconds=seconds)
    client.set_tag(run_id, CLAIM_TAG + "other", f"elsewhere 1 {begun.isoformat(timespec='seconds')} 5")
    if is_free:
        claim_run(client, run_id, "key", PARAMETERS)
        return
    with pytest.raises(
        RunError, match=r"is being taken by another process \(elsewhere 1 .*\); if that has died"
    ):
        claim_run(client, run_id, "key", PARAMETERS)
    assert KEY_TAG not in client.get_run(run_id).data.tags

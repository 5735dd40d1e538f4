"""Eight runs at once, on one fresh SQLite file and on one server: no point lost, no version twice."""

import random
import subprocess
import sys
import threading
from pathlib import Path

from mlflow_project.journal import Journal
from mlflow_project.remote import open_client
from mlflow_project.sender import Sender, deliver
from tests.faults.check import differences
from tests.faults.proxy import Proxy
from tests.faults.rounds import ROOT
from tests.faults.test_outage import EPOCHS, journal_of

RUNS = 8


def test_eight_processes_share_a_sqlite_store_that_none_has_made_before(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/fresh.db"
    seeds = random.sample(range(1 << 30), RUNS)
    command = [sys.executable, "-m", "tests.faults.many", store, str(tmp_path), str(EPOCHS), *map(str, seeds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # above all no "database is locked"
    client = open_client(store)
    for seed in seeds:
        folder = Path((tmp_path / f"{seed}.key").read_text())
        delivery = deliver(folder, attempts=5)
        assert (delivery.complete, delivery.refused) == (True, ())
        assert differences(client, folder.name, seed, EPOCHS) == []


def test_eight_runs_share_a_server(server: int, proxy: Proxy) -> None:
    seeds = random.sample(range(1 << 30), RUNS)
    journals: list[Journal] = []

    def begin(seed: int) -> None:
        journals.append(journal_of(proxy.url, seed))

    threads = [threading.Thread(target=begin, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    senders = [Sender(journal).start() for journal in journals]
    try:
        for sender in senders:
            delivery = sender.wait(200)
            assert delivery.complete, delivery
            assert delivery.refused == ()
    finally:
        for sender in senders:
            sender.stop()
    client = open_client(f"http://127.0.0.1:{server}")
    for journal in journals:
        seed = int(journal.header.run_name.removeprefix("seed="))
        assert differences(client, journal.header.key, seed, EPOCHS) == []
        journal.close()

"""Eight runs at once, on one fresh SQLite file and on one server: no point lost, no version twice."""

import random
import threading
from pathlib import Path

from mlflow_project.journal import Journal
from mlflow_project.remote import open_client
from mlflow_project.sender import Sender, deliver
from tests.faults.check import differences
from tests.faults.proxy import Proxy
from tests.faults.rounds import Run
from tests.faults.test_outage import EPOCHS, journal_of

RUNS = 8


def test_eight_processes_share_a_sqlite_store_that_none_has_made_before(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/fresh.db"
    seeds = random.sample(range(1 << 30), RUNS)
    folders = [tmp_path / str(seed) for seed in seeds]
    runs = []
    for seed, folder in zip(seeds, folders, strict=True):
        folder.mkdir()
        runs.append(Run(folder, store, seed, EPOCHS, pause=0.3, wait=60))
    try:
        for run in runs:
            run.start()
        assert [run.process.wait(200) for run in runs if run.process] == [0] * RUNS
    finally:
        for run in runs:
            run.kill()
    assert [run.log.read_text() for run in runs] == [""] * RUNS  # above all no "database is locked"
    client = open_client(store)
    for seed, run in zip(seeds, runs, strict=True):
        assert deliver(run.folder, attempts=5).complete
        assert differences(client, run.folder.name, seed, EPOCHS) == []


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
        assert all(sender.wait(200).complete for sender in senders)
    finally:
        for sender in senders:
            sender.stop()
    client = open_client(f"http://127.0.0.1:{server}")
    for journal in journals:
        seed = int(journal.header.run_name.removeprefix("seed="))
        assert differences(client, journal.header.key, seed, EPOCHS) == []
        journal.close()

"""Eight runs at once, on one fresh SQLite file and on one server: no point lost, no version twice."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import open_client
from tests.faults.check import differences
from tests.faults.proxy import Proxy
from tests.faults.rounds import ROOT
from tests.faults.test_outage import EPOCHS

pytestmark = pytest.mark.campaign

RUNS = 8


@pytest.mark.parametrize("place", ["a sqlite store that none has made before", "a server"])
def test_eight_processes_share(place: str, server: int, proxy: Proxy, tmp_path: Path) -> None:
    store = proxy.url if place == "a server" else f"sqlite:///{tmp_path}/fresh.db"
    seeds = random.sample(range(1 << 30), RUNS)
    command = [sys.executable, "-m", "tests.faults.many", store, str(tmp_path), str(EPOCHS), *map(str, seeds)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, encoding="utf-8"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # above all no "database is locked"
    client = open_client(store)
    for seed in seeds:
        folder = Path((tmp_path / f"{seed}.key").read_text(encoding="utf-8"))
        delivery = deliver(folder, attempts=5)
        assert (delivery.complete, delivery.refused) == (True, ())
        assert differences(client, folder.name, seed, EPOCHS) == []

"""Rounds of faults drawn from a seed: a run that is killed and started again while its server comes and goes."""

import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from mlflow_project.tracking.delivery import background
from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.journal import local_runs
from tests.faults.check import differences
from tests.faults.proxy import FAULTS, Proxy, drawn, well

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Round:
    """What was done to one run, and what came of it."""

    seed: int
    kills: int = 0
    outages: int = 0
    struck: int = 0
    points: int = 0  # that were to arrive
    lost: int = 0
    twice: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        done = f"{self.kills} kills, {self.outages} outages, {self.struck} requests struck"
        return f"seed {self.seed}: {done}, {self.seconds:.0f} s: {'; '.join(self.differences) or 'as undisturbed'}"


class Run:
    """The process of a run that is started as often as it is killed."""

    def __init__(self, folder: Path, uri: str, seed: int, epochs: int, pause: float, wait: float) -> None:
        self.key_file = folder / "key"
        self.log = folder / "log"
        self.command = [sys.executable, "-m", "tests.faults.play", uri, str(self.key_file)]
        self.command += ["--seed", str(seed), "--epochs", str(epochs)]
        self.command += ["--pause", str(pause), "--wait", str(wait)]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        return self.process

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def folder(self) -> Path:
        return Path(self.key_file.read_text(encoding="utf-8"))


def play_round(folder: Path, proxy: Proxy, port: int, seed: int, epochs: int = 3) -> Round:
    """One round against the server behind the proxy; `folder` must be empty."""
    chance = random.Random(seed)
    result, started = Round(seed), time.monotonic()
    proxy.struck.clear()
    names = tuple(sorted(chance.sample(sorted(FAULTS), chance.randint(1, len(FAULTS)))))
    proxy.plan = drawn(seed, chance.choice([0.05, 0.2, 0.5]), names)
    run = Run(
        folder, proxy.url, seed, epochs, pause=chance.choice([0.3, 1.0]), wait=chance.choice([0.2, 5.0])
    )
    try:
        away = chance.random() < 0.4
        if away:
            proxy.down()
            result.outages += 1
        for _ in range(chance.randint(0, 3)):
            process = run.start()
            deadline = time.monotonic() + chance.uniform(0.3, 9.0)
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.05)
                if chance.random() < 0.02:
                    away = not away
                    (proxy.down if away else proxy.up)()
                    result.outages += away
            if process.poll() is None:
                run.kill()
                result.kills += 1
        process = run.start()
        status = process.wait(120)
        if status:
            result.differences.append(
                f"the run ended with status {status}: {run.log.read_text(encoding='utf-8')[-500:]}"
            )
        proxy.up()
        # Where every second request fails, a step needs many attempts, and the server is back: no reason to wait.
        with patch.object(background, "_LONGEST_PAUSE", 0.25):
            delivery = background.deliver(run.folder, attempts=100)
        result.struck = len(proxy.struck)
        if not delivery.complete or delivery.refused:
            result.differences.append(f"not delivered: {delivery}")
        proxy.plan = well
        client = open_client(f"http://127.0.0.1:{port}")
        key = local_runs.local_run(run.folder).key
        result.differences += differences(client, key, seed, epochs)
    finally:
        run.kill()
        proxy.plan = well
        proxy.up()
        result.seconds = time.monotonic() - started
    return result

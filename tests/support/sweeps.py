"""Sweeps and searches in processes of their own, to be stopped from outside."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(command: list[str]) -> subprocess.Popen[str]:
    """A command of ours in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mlflow_project", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )


def begin(command: list[str], state: Path) -> subprocess.Popen[str]:
    """A sweep in a process of its own, which has just written a checkpoint (or has ended)."""
    before = {path: path.stat().st_mtime_ns for path in state.glob("runs/*/checkpoint.pt")}
    process = start(command)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if {path: path.stat().st_mtime_ns for path in state.glob("runs/*/checkpoint.pt")} != before:
            break
        time.sleep(0.01)
    return process


def kill_three_times(command: list[str], store: str, renew: Callable[[str], str]) -> str:
    """Kill a command three times at random moments (KILL_SEED repeats them); return the store of what is left.

    Args:
        command: Ours, which goes on where it was killed.
        store: Where it begins.
        renew: Makes a fresh store and state by a name, for when the command was done before it was killed.
    """
    seed = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"KILL_SEED={seed}")
    chance = random.Random(seed)
    kills, longest = 0, 20.0
    while kills < 3:
        wait = chance.uniform(0, longest)
        with start(command) as process:
            try:
                process.communicate(timeout=wait)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.returncode == 0
        longest = wait
        store = renew(f"after {wait}")
        kills = 0
    return store

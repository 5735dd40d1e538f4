"""Sweeps in processes of their own, to be stopped from outside."""

import os
import subprocess
import sys
import time
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

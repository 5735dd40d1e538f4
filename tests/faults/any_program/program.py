"""Somebody's program as a process, recorded, against some tracking server."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.faults.rounds import ROOT

RECORDING = Path(__file__).parent / "recording"
LIMIT_SECONDS = 300
"""More means that the program hangs."""


@dataclass
class Ended:
    """How a program ended: its exit status, minus the signal that killed it, or None where it hung."""

    status: int | None
    seconds: float
    output: str


class Program:
    """One execution, in an empty folder of its own."""

    def __init__(self, path: Path, folder: Path, uri: str) -> None:
        self.path, self.folder = path.resolve(), folder
        folder.mkdir(parents=True)
        self.record = folder / "record.jsonl"
        self.runs_folder = folder / "state" / "runs"
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_PROJECT_STATE": str(folder / "state"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
        }

    def count_lines(self) -> int:
        """How much it has logged: lines of its record."""
        return self.record.read_bytes().count(b"\n") if self.record.exists() else 0

    def execute(self, kill_at: int | None = None) -> Ended:
        """Run it to its end, or kill it with all its children at a line of its record, or when it hangs."""
        place = self.folder / "program"
        place.mkdir()
        environment = {
            **self.environment,
            "PYTHONPATH": str(RECORDING),
            "FAULTS_RECORD": str(self.record),
        }
        log = self.folder / "log"
        started = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(self.path)],
                cwd=place,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while process.poll() is None and time.monotonic() - started < LIMIT_SECONDS:
                if kill_at is not None and self.count_lines() >= kill_at:
                    process.kill()
                    process.wait()
                time.sleep(0.005)
        finally:
            status = process.poll()
            seconds = time.monotonic() - started
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return Ended(status, seconds, log.read_text(encoding="utf-8", errors="replace"))

    def command(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output of one of our commands, for the journals of this execution."""
        done = subprocess.run(
            [sys.executable, "-m", "mlflow_project", *arguments],
            cwd=self.folder,
            env={**self.environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_SECONDS,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        return done.returncode, done.stdout

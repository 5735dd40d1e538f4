"""`serve` as a person starts it: a process of its own, and what it prints."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 240
_OWN = ("MLFLOW_TRACKING_", "MLFLOW_AUTH_", "MLFLOW_BACKEND_", "MLFLOW_RUN_ID", "PYTEST_CURRENT_TEST")


@dataclass
class Serving:
    """A running `serve`."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text(encoding="utf-8")

    def end(self, number: int = signal.SIGTERM) -> int:
        """The exit status after this signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while "export MLFLOW_TRACKING_URI=" not in self.out:
            assert self.process.poll() is None, self.err
            assert time.monotonic() < deadline, self.err
            time.sleep(0.1)


def start(
    folder: Path,
    *arguments: str,
    port: int | None = None,
    terminal: int | None = None,
    python: str | Path = sys.executable,
    **variables: str,
) -> Serving:
    """Not ready yet. It works in `folder` and writes there what it prints; to a `terminal` what goes to stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_OWN)}
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            [python, "-m", "mlflow_project", "serve", "--port", str(port), *arguments],
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT), **variables},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err if terminal is None else terminal,
        )
    return Serving(folder, port, process)


def family(process: "subprocess.Popen[bytes]") -> dict[int, str]:
    """The command lines of a process and of all below it, as `ps` shows them."""
    import psutil

    top = psutil.Process(process.pid)
    return {each.pid: " ".join(each.cmdline()) for each in (top, *top.children(recursive=True))}

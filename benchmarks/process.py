"""What one process took: time, processor time and peak memory, whatever the process that asks has in memory."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Linux charges a process with the peak of the one that started it. This one is small, and only waits.
_STARTER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(
        {
            "status": process.returncode,
            "seconds": time.perf_counter() - started,
            "cpu_seconds": used.ru_utime + used.ru_stime,
            "peak_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        },
        file,
    )
"""


@dataclass(frozen=True)
class Measured:
    """seconds: from start to end; cpu_seconds: of all its threads; peak_bytes: most memory at once; said: stdout."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    said: str


def measure(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Measured:
    """Runs a command in `folder` to its end; SystemExit with the end of its stderr where it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "result.json"
        started = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _STARTER, str(result), *command],
            cwd=folder,
            env=dict(os.environ if environment is None else environment),
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        results = (
            json.loads(result.read_text(encoding="utf-8"))
            if result.exists()
            else {"status": started.returncode}
        )
    status = results.pop("status")
    if status or started.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {status}: {started.stderr.strip()[-2000:]}")
    return Measured(**results, said=started.stdout)

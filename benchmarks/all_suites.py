"""All suites, one after another, each a process of its own, so that none works in what another has left."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def run_all(suites: Sequence[str], command: Callable[[str], Sequence[str]], path: Path) -> int:
    """Run `command(suite) --json FILE` of each suite; return the exit status: 0 if all ended with theirs, else 1.

    `path` gets {"parts": what each has written, by name, "failed": reasons by name}, and is complete after each
    suite, so that what took hours is there also if a later one is stopped.
    """
    results: dict[str, Any] = {}
    failed: dict[str, str] = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for number, suite in enumerate(suites, 1):
            print(f"\n{suite} ({number} of {len(suites)})", flush=True)
            file = Path(scratch) / f"{suite}.json"
            status = subprocess.run([*command(suite), "--json", str(file)], check=False).returncode
            if status:
                failed[suite] = f"ended with {status}"
            elif not file.exists():
                failed[suite] = "ended without a result"
            else:
                results[suite] = json.loads(file.read_text(encoding="utf-8"))
            path.write_text(
                json.dumps({"parts": results, "failed": failed}, indent=2) + "\n", encoding="utf-8"
            )
    print(f"\n{len(results)} of {len(suites)} suites written to {path}", flush=True)
    for suite, reason in failed.items():
        print(f"scripts/benchmark: {suite} {reason}", file=sys.stderr)
    return 1 if failed else 0

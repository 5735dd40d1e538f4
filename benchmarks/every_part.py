"""All parts, one after another, each a process of its own, so that none works in what another has left."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def run_all(parts: Sequence[str], command: Callable[[str], Sequence[str]], path: Path) -> int:
    """Runs `command(part) --json FILE` of each part; the exit status: 0 if all ended with theirs, else 1.

    `path` gets {"parts": what each has written, by name, "failed": reasons by name}, and is complete after each
    part, so that what took hours is there also if a later one is stopped.
    """
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for number, part in enumerate(parts, 1):
            print(f"\n{part} ({number} of {len(parts)})", flush=True)
            file = Path(scratch) / f"{part}.json"
            status = subprocess.run([*command(part), "--json", str(file)], check=False).returncode
            if status:
                failed[part] = f"ended with {status}"
            elif not file.exists():
                failed[part] = "ended without a result"
            else:
                found[part] = json.loads(file.read_text(encoding="utf-8"))
            path.write_text(json.dumps({"parts": found, "failed": failed}, indent=2) + "\n", encoding="utf-8")
    print(f"\n{len(found)} of {len(parts)} parts written to {path}", flush=True)
    for part, reason in failed.items():
        print(f"scripts/benchmark: {part} {reason}", file=sys.stderr)
    return 1 if failed else 0

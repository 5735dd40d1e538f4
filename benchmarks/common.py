"""What all suites share: the machine in words, candidates in turn, spreads, one table, JSON."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

from hw2.train_step.factory import backend_name
from hw2.training.fingerprint import code_hash
from hw2.training.runtime import native_bfloat16

Cell = str | float | int


@dataclass(frozen=True)
class Report:
    """One suite's result. Rows have the same keys; a key's unit is in its name.

    wrong: what makes the figures worthless, a line each, such as another accuracy: the benchmark then ends with 1.
    """

    title: str
    rows: Sequence[Mapping[str, Cell]]
    notes: Sequence[str] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)
    wrong: Sequence[str] = ()


_TELLING = ("torch", "torchvision", "numba", "numpy", "mlflow", "lightning")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Hardware, instruction set, versions and threads: what a time means nothing without. Before anything runs."""
    model, flags = platform.processor(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        entries = dict(
            line.split(":", 1) for line in cpuinfo.read_text(encoding="utf-8").splitlines() if ":" in line
        )
        result = {key.strip(): value.strip() for key, value in entries.items()}
        model, flags = result.get("model name", model), result.get("flags", "")
    telling = [flag for flag in flags.split() if flag.startswith(("avx2", "avx512f", "avx512_bf16", "amx"))]
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": f"{torch.backends.cpu.get_cpu_capability()} ({' '.join(telling)})",
        "native_bfloat16": native_bfloat16(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "versions": {name: result for name in _TELLING if (result := _version(name))},
        "step": backend_name("cpu"),
        "code_sha256": code_hash(),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }


def alternate(candidates: Mapping[str, Callable[[int], float | None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each candidate in each round, all in turn, so that what disturbs one disturbs all.

    A candidate is called with the round's number; what it returns, if anything, is the time that counts. The first
    to go changes from round to round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            measured = candidates[name](number)
            seconds[name].append(time.perf_counter() - started if measured is None else measured)
    return seconds


def median_and_spread(values: Sequence[float], digits: int = 0) -> str:
    """As a person reads it: the median, and from the smallest to the largest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def show(report: Report, facts: Mapping[str, Any]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)  # else 80 columns, wherever it goes
    table = Table(title=report.title, title_justify="left")
    for name in report.rows[0]:
        table.add_column(name, justify="left" if isinstance(report.rows[0][name], str) else "right")
    for row in report.rows:
        table.add_row(*[str(value) for value in row.values()])
    console.print(table)
    for note in report.notes:
        console.print(note)
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    console.print(
        f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads, {facts['instructions']}, "
        f"{versions}, load at the start {facts['load_at_start']}"
    )
    for reason in report.wrong:
        console.print(f"WRONG: {reason}", markup=False)


def write(report: Report, facts: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "title": report.title,
        "machine": facts,
        "rows": report.rows,
        "notes": report.notes,
        "raw": report.raw,
        "wrong": report.wrong,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

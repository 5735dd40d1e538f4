"""What an outage costs a training and its whole process: the server is there, refuses, is silent, or fails."""

import json
import random
import statistics
import subprocess
import threading
import time
from pathlib import Path

from tests.faults.proxy import Proxy, well
from tests.faults.training import Command

WAYS = ("there", "refusing", "silent", "failing")


Found = dict[str, list[tuple[float, float]]]
"""Seconds of the training and of the whole process, of each repetition, by how the server was."""


def measure(folder: Path, proxy: Proxy, repeats: int, epochs: int, seed: int) -> Found:
    """In a drawn order, so that a busy machine is fair to all."""
    chance = random.Random(seed)
    found: Found = {way: [] for way in WAYS}
    for number in range(repeats):
        for way in chance.sample(WAYS, len(WAYS)):
            place = folder / f"{way}-{number}"
            place.mkdir(parents=True)
            seconds, whole = _train(place, proxy, way, epochs)
            found[way].append((seconds, whole))
            print(f"{way}: {seconds:.2f} s of training, {whole:.0f} s in all", flush=True)
    return found


def table(found: Found) -> str:
    """Medians, and what each way adds to the first."""
    lines = ["server    training, s   added  process, s   added"]
    base = [statistics.median(seconds) for seconds in zip(*found["there"], strict=True)]
    for way, pairs in found.items():
        line = f"{way:8}"
        for seconds, least in zip(zip(*pairs, strict=True), base, strict=True):
            median = statistics.median(seconds)
            line += f"  {median:10.2f}  {100 * (median / least - 1):+5.1f} %"
        lines.append(line)
    return "\n".join(lines)


def _train(folder: Path, proxy: Proxy, way: str, epochs: int) -> tuple[float, float]:
    """Seconds of the training itself and of the whole process, whose exit status must be 0."""
    release = threading.Event()
    if way == "refusing":
        proxy.down()
    elif way == "silent":
        proxy.plan = lambda _: release.wait(600) and None
    elif way == "failing":
        proxy.plan = lambda _: "500"
    command = Command(folder, proxy.url)
    arguments = ["train", "--lr", "0.05", "--epochs", str(epochs), "--threads", "1", "--format", "json"]
    started = time.monotonic()
    try:
        process = command.start(*arguments, stdout=subprocess.PIPE)
        out, _ = process.communicate(timeout=900)
    finally:
        release.set()
        proxy.plan = well
        proxy.up()
    if process.returncode:
        raise RuntimeError(
            f"train ended with {process.returncode}: {command.log.read_text(encoding='utf-8')[-500:]}"
        )
    return float(json.loads(out)[0]["train_seconds"]), time.monotonic() - started

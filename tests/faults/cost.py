"""What an outage costs a training: its own seconds, with the server there, refusing, silent, and failing."""

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


def measure(folder: Path, proxy: Proxy, repeats: int, epochs: int, seed: int) -> dict[str, list[float]]:
    """Seconds of training, by how the server was, in a drawn order so that a busy machine is fair to all."""
    chance = random.Random(seed)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(repeats):
        for way in chance.sample(WAYS, len(WAYS)):
            place = folder / f"{way}-{number}"
            place.mkdir(parents=True)
            seconds, whole = _train(place, proxy, way, epochs)
            found[way].append(seconds)
            print(f"{way}: {seconds:.2f} s of training, {whole:.0f} s in all", flush=True)
    return found


def table(found: dict[str, list[float]]) -> str:
    """Medians, and what each way adds to the first."""
    base = statistics.median(found["there"])
    lines = ["server    median s  added"]
    for way, seconds in found.items():
        median = statistics.median(seconds)
        lines.append(f"{way:8}  {median:8.2f}  {100 * (median / base - 1):+.1f} %")
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
        raise RuntimeError(f"train ended with {process.returncode}: {command.log.read_text()[-500:]}")
    return float(json.loads(out)[0]["train_seconds"]), time.monotonic() - started

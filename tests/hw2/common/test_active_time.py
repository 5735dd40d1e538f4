"""Time in which a process was stopped is nobody's training time."""

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from hw2.common import active_time
from hw2.common.active_time import Clock


@pytest.mark.parametrize(
    ("passed", "used", "suspended"),
    [
        (180.0, 0.2, 180.0),
        (180.0, 170.0, 0.0),  # it computed, with Python's lock held
        (0.9, 0.0, 0.0),  # others had the processor
    ],
)
def test_a_long_pause_without_processor_time_is_a_suspension(
    passed: float, used: float, suspended: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"perf_counter": 5.0, "process_time": 1.0}
    clocks = {name: lambda name=name: now[name] for name in now}
    monkeypatch.setattr(active_time, "time", SimpleNamespace(**clocks))
    clock = Clock()
    before, _ = clock.look()
    now["perf_counter"] += passed
    now["process_time"] += used
    after, result = clock.look()
    assert result == pytest.approx(suspended)
    assert after - before == pytest.approx(passed - suspended)
    now["perf_counter"] += 0.5
    assert clock.look() == pytest.approx((after + 0.5, suspended))


TRAINING = """
import dataclasses, json, os, signal
from hw2.data.image_set import load_dataset
from hw2.training.config import TrainingConfig
from hw2.training.runtime import ResolvedRuntime
from hw2.training.trainer import Trainer
import torch
config = TrainingConfig(epochs=3, validation_size=0)
train = load_dataset("mnist-sample").train.subset(torch.arange(640))
training = Trainer(config, ResolvedRuntime("float32", "cpu", 1), "data", train, None)
going = []
def stop_once(progress):
    if not going:
        going.append(progress)
        print("going", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
for result in training.epochs(stop_once):
    pass
print(json.dumps([dataclasses.asdict(result) for result in training.history]))
"""
STOPPED = 4.0


@pytest.mark.process
def test_a_training_that_is_stopped_has_not_trained_meanwhile() -> None:
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        time.sleep(STOPPED)
        process.send_signal(signal.SIGCONT)
        history = json.loads(process.stdout.read().splitlines()[-1])
    whole = time.monotonic() - started
    suspended = sum(epoch["suspended_seconds"] or 0.0 for epoch in history)
    assert suspended > STOPPED - 1
    assert sum(epoch["epoch_seconds"] for epoch in history) < whole - suspended

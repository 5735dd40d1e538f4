"""Where a training step's time goes: processor time of each kernel and product, on all threads."""

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.common import Cell, Report
from benchmarks.training.train_step import BATCH_SIZE, IMAGE_FLOP, FastStep
from hw2.data.image_set import load_dataset
from hw2.train_step import winograd, winograd_kernels
from hw2.train_step.factory import backend_name
from hw2.training.runtime import native_bfloat16

# Each of conv2's three products, for one image.
_PRODUCT_FLOP = 2 * winograd_kernels.PLACES * winograd_kernels.TILES * 32 * 64
_PRODUCTS = {64: "products: conv2", 32: "products: conv2, gradient of input"}

# What is timed: where it is looked up, its name there, what it is for.
_PLACES: list[tuple[Any, str, str]] = [
    (winograd_kernels, "forward", "gather, preprocess, conv1, ReLU, transform"),
    (winograd_kernels, "pool", "transform back, bias, max-pool"),
    (winograd_kernels, "logits", "fc1"),
    (winograd_kernels, "cross_entropy", "softmax, loss and their gradient"),
    (winograd_kernels, "unpool", "gradients of fc1's input, max-pool, transform"),
    (winograd_kernels, "backward", "gradients of transform, ReLU, conv1"),
    (winograd.WinogradStep, "_update_fc1", "fc1: gradient and update"),
    (
        winograd.WinogradStep,
        "_update_others",
        "sum of the parts' gradients, update, transform of weights",
    ),
]


class _Clock:
    """Adds up each thread's own processor time, which others on the machine don't lengthen by waiting."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def timed(self, function: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.thread_time()
            result = function(*arguments, **options)
            label = name(*arguments, **options)
            self.seconds[label] += time.thread_time() - started
            self.calls[label] += 1
            return result

        return call


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=100, help=f"of {BATCH_SIZE} images; default 100")
    default = "bfloat16" if native_bfloat16() else "float32"
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default=default, help=f"default {default}"
    )


def run(arguments: Namespace) -> Report:
    dataset = load_dataset("mnist", arguments.data_dir)
    step = FastStep(dataset, arguments.precision)
    count = arguments.batches * BATCH_SIZE
    order = torch.arange(count) % len(dataset.train)
    step.train(order[: 10 * BATCH_SIZE])
    walls = [_wall(step, part) for part in torch.split(order, 10 * BATCH_SIZE)]
    clock = _Clock()
    with _timing(clock):
        started = time.process_time()
        step.train(order)
        total = time.process_time() - started
    clock.seconds["all between: Python, threads, loss of the batch"] = total - sum(clock.seconds.values())
    batches = arguments.batches
    rows: list[dict[str, Cell]] = []
    for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        speed = _PRODUCT_FLOP * count / seconds / 1e9 if name.startswith("products") else None
        rows.append(
            {
                "what": name,
                "calls a batch": f"{clock.calls[name] / batches:.0f}" if name in clock.calls else "",
                "ms a batch": f"{seconds / batches * 1e3:.2f}",
                "share": f"{seconds / total:.1%}",
                "GFLOP/s a core": "" if speed is None else f"{speed:.0f}",
            }
        )
    wall = statistics.median(walls)
    return Report(
        title=f"Processor time of one step of {BATCH_SIZE} images in {arguments.precision}",
        rows=rows,
        notes=[
            f"{backend_name('cpu')}; {total / batches * 1e3:.1f} ms of processor time a batch; without these "
            f"clocks {wall * 1e3:.1f} ms by the clock on the wall, {BATCH_SIZE / wall:,.0f} images/s, "
            f"{BATCH_SIZE / wall * IMAGE_FLOP / 1e9:.0f} GFLOP/s by the direct count."
        ],
    )


def _wall(step: FastStep, order: Tensor) -> float:
    """Seconds a batch."""
    started = time.perf_counter()
    step.train(order)
    return (time.perf_counter() - started) * BATCH_SIZE / len(order)


@contextmanager
def _timing(clock: _Clock) -> Iterator[None]:
    with ExitStack() as stack:
        for owner, attribute, label in _PLACES:
            function = clock.timed(getattr(owner, attribute), lambda *_, label=label, **__: label)
            stack.enter_context(patch.object(owner, attribute, function))
        stack.enter_context(patch.object(torch, "bmm", clock.timed(torch.bmm, _product)))
        yield


def _product(left: Tensor, right: Tensor, out: Tensor) -> str:
    return "products: conv2, gradient of weights" if left.shape[1] == 32 else _PRODUCTS[out.shape[2]]

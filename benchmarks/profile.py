"""Where a training step's time goes, operator by operator, on all threads."""

import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.common import Cell, Report
from benchmarks.training import BATCH_SIZE, PICTURE_FLOP, FastStep
from hw2.configuration import native_bfloat16
from hw2.data import load_dataset

SMALL = 0.005  # shares below are added up
# Kernels with the shape of their first input; what they are for.
PURPOSES = {
    ("mkldnn::_convolution_pointwise", 1): "conv1 and ReLU",
    ("mkldnn::_convolution_pointwise", 32): "conv2",
    ("aten::convolution_backward", 64): "conv2: gradients of input and weights",
    ("aten::convolution_backward", 32): "conv1: gradient of weights",
    ("aten::threshold_backward", 32): "ReLU: gradient",
}


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=60, help="of 64 pictures; default 60")
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
    started, used = time.perf_counter(), time.process_time()
    step.train(order)
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    everywhere = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, experimental_config=everywhere
    ) as profiler:
        step.train(order)
    times: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    for event in profiler.key_averages(group_by_input_shape=True):
        shapes = [shape for shape in event.input_shapes if shape]
        channels = shapes[0][1] if shapes and len(shapes[0]) > 1 else 0
        purpose = PURPOSES.get((event.key, channels), "")
        times[event.key, purpose] += event.self_cpu_time_total / 1e3
        calls[event.key, purpose] += event.count
    total = sum(times.values())
    rows: list[dict[str, Cell]] = []
    rest = 0.0
    for key, milliseconds in sorted(times.items(), key=lambda item: -item[1]):
        if milliseconds < SMALL * total:
            rest += milliseconds
            continue
        rows.append(_row(*key, calls[key], milliseconds, total, arguments.batches))
    rows.append(_row("all others", "", 0, rest, total, arguments.batches))
    return Report(
        title=f"One step of {BATCH_SIZE} pictures in {arguments.precision}",
        rows=rows,
        notes=[
            f"Without the profiler: {wall / arguments.batches * 1e3:.1f} ms a batch, "
            f"{cpu / arguments.batches * 1e3:.1f} ms of processor time, "
            f"{count / wall:,.0f} pictures/s, {count / wall * PICTURE_FLOP / 1e9:.0f} GFLOP/s."
        ],
    )


def _row(
    operator: str, purpose: str, calls: int, milliseconds: float, total: float, batches: int
) -> dict[str, Cell]:
    return {
        "operator": operator,
        "for": purpose,
        "calls a batch": f"{calls / batches:.0f}" if calls else "",
        "ms a batch, all threads": f"{milliseconds / batches:.3f}",
        "share": f"{milliseconds / total:.1%}",
    }

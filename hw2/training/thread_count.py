"""How many threads a net of one's own is trained on fastest: a few batches decide.

A tiny net is slower on two threads than on one, on cores that others use by up to ten times.
"""

import time
from collections.abc import Callable, Iterator

import torch

from hw2.common.constants import IMAGE_SIZE, NUM_CLASSES
from hw2.models.factory import new_model
from hw2.training.config import TrainingConfig

_BATCHES = 5
_SECONDS = 1.0  # of these, for a number of threads; one batch is measured however long it takes
_MOST_IMAGES = 1_024
_GAIN = 0.1  # more threads must be so much faster


def fastest_threads(config: TrainingConfig, most: int, precision: str) -> int:
    """From 1 to `most`, for the configuration's net and batch size on this processor; some seconds at most."""
    from hw2.train_step.autograd import AutogradStep

    size = min(config.batch_size, _MOST_IMAGES)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    model = new_model(config.seed, config.custom_net)
    step = AutogradStep(model, lr=0.0, momentum=config.momentum, dtype=dtype, device="cpu")
    generator = torch.Generator().manual_seed(0)
    sides = (size, IMAGE_SIZE, IMAGE_SIZE)
    images = step.prepare(torch.randint(0, 256, sides, dtype=torch.uint8, generator=generator))
    labels = torch.arange(size) % NUM_CLASSES
    return choose(lambda: step(images, labels, torch.arange(size)), most)


def choose(batch: Callable[[], object], most: int) -> int:
    """The number of threads, from 1 to `most`, on which `batch` is fastest; of about as fast ones the least."""
    before = torch.get_num_threads()
    best, least = 1, float("inf")
    try:
        for threads in _candidates(most):
            torch.set_num_threads(threads)
            batch()  # the first makes what is used again
            seconds = _seconds(batch)
            if seconds > (1 - _GAIN) * least:
                break
            best, least = threads, seconds
    finally:
        torch.set_num_threads(before)
    return best


def _candidates(most: int) -> Iterator[int]:
    threads = 1
    while threads < most:
        yield threads
        threads *= 2
    yield most


def _seconds(batch: Callable[[], object]) -> float:
    """Of the fastest of a few: others may use the processor, too."""
    times: list[float] = []
    while len(times) < _BATCHES and sum(times) < _SECONDS:
        started = time.perf_counter()
        batch()
        times.append(time.perf_counter() - started)
    return min(times)

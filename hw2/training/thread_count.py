"""How many threads a net without kernels is trained on fastest: a few batches decide.

A tiny net is slower on two threads than on one, on cores that others use by up to ten times.
"""

from collections.abc import Callable, Iterator

import torch

from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.factory import new_model
from hw2.training.config import TrainingConfig
from hw2.training.speed import least_seconds, noise_batch

_GAIN = 0.1  # more threads must be so much faster


def fastest_threads(config: TrainingConfig, most: int, precision: str, spec: ImageSpec = STUDY) -> int:
    """From 1 to `most`, for the configuration's net and batch size on this processor; some seconds at most."""
    from hw2.train_step.autograd import AutogradStep

    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    model = new_model(config.seed, config.custom_net, spec)
    step = AutogradStep(model, lr=0.0, rule=config.update_rule, dtype=dtype, device="cpu")
    return choose(noise_batch(step, config.batch_size, spec=spec), most)


def choose(batch: Callable[[], object], most: int) -> int:
    """The number of threads, from 1 to `most`, on which `batch` is fastest; of about as fast ones the least."""
    before = torch.get_num_threads()
    best, least = 1, float("inf")
    try:
        for threads in _candidates(most):
            torch.set_num_threads(threads)
            batch()  # the first makes what is used again
            seconds = least_seconds(batch)
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

"""How fast a configuration trains here, by a few batches of noise."""

import time
from collections.abc import Callable

import torch

from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.factory import new_model
from hw2.train_step.factory import TrainStep, make_train_step
from hw2.training.config import TrainingConfig

_BATCHES = 5
_SECONDS = 1.0  # for all of them; one batch is measured however long it takes
_MOST_IMAGES = 1_024


def images_per_second(
    config: TrainingConfig, precision: str, device: str, threads: int, spec: ImageSpec = STUDY
) -> float:
    """Measure how many images a second the configuration trains on; a second, and the compilation where it's due."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        step = make_train_step(
            new_model(config.seed, config.custom_net, spec),
            lr=0.0,
            rule=config.update_rule,
            precision=precision,
            device=device,
            batch_size=config.batch_size,
        )
        batch = noise_batch(step, config.batch_size, device, spec)
        batch()  # the first makes what is used again
        return min(config.batch_size, _MOST_IMAGES) / least_seconds(batch)
    finally:
        torch.set_num_threads(before)


def noise_batch(
    step: TrainStep, batch_size: int, device: str = "cpu", spec: ImageSpec = STUDY
) -> Callable[[], object]:
    """Make the function that trains on one batch of noise and waits until that is done."""
    size = min(batch_size, _MOST_IMAGES)
    generator = torch.Generator().manual_seed(0)
    sides = (size, *spec.shape)
    images = step.prepare(torch.randint(0, 256, sides, dtype=torch.uint8, generator=generator))
    labels, index = (torch.arange(size, device=device) for _ in range(2))
    return lambda: float(step(images, labels % spec.num_classes, index)[0])


def least_seconds(batch: Callable[[], object]) -> float:
    """Return the time of the fastest of a few: others may use the processor, too."""
    times: list[float] = []
    while len(times) < _BATCHES and sum(times) < _SECONDS:
        started = time.perf_counter()
        batch()
        times.append(time.perf_counter() - started)
    return min(times)

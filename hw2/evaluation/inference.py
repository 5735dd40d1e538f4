"""A model's outputs for many images: no gradients, float32, as fast as the device permits."""

import copy
from collections.abc import Iterator
from importlib.util import find_spec

import torch
from torch import Tensor

from hw2.models.base_cnn import BaseCNN
from hw2.models.net import ModelOutputs, Net
from hw2.train_step.factory import has_kernels

# Twice as fast on a processor as 1,000: what a batch needs (20 MB) is small enough to be used again by the next
# one, where the allocator gives larger blocks back to the system each time.
BATCH_SIZE = 100
# From so many images on, the kernels of the training step save more than it takes to load them.
KERNELS_FROM = 1_000


def model_outputs(model: Net, images: Tensor, batch_size: int | None = None) -> Iterator[ModelOutputs]:
    """Yield the model's outputs for raw images, uint8 [N, H, W] or [N, H, W, 3], batch by batch, on the processor.

    Computed on the model's device; the model itself is left as it was. batch_size: None for what is fastest.
    """
    device = next(model.parameters()).device
    # A net that derives from BaseCNN may compute otherwise.
    by_kernels = type(model) is BaseCNN and has_kernels(model) and find_spec("numba")
    if len(images) >= KERNELS_FROM and device.type == "cpu" and by_kernels:
        yield from _by_kernels(model, images, batch_size or KERNELS_FROM)
        return
    # channels-last is up to twice as fast on the processor; the copy (of BaseCNN 566 KiB) leaves the caller's alone.
    network = copy.deepcopy(model).eval().float().to(memory_format=torch.channels_last)
    # A GPU would by default round a convolution's float32 inputs to 10 bits.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for batch in images.split(batch_size or BATCH_SIZE):
            yield ModelOutputs(*(output.cpu() for output in network.forward_features(batch.to(device))))


def _by_kernels(model: Net, images: Tensor, batch_size: int) -> Iterator[ModelOutputs]:
    from hw2.train_step.winograd import MICRO_BATCH, WinogradStep

    assert isinstance(model, BaseCNN)
    for_all_threads = MICRO_BATCH * torch.get_num_threads()
    step = WinogradStep(model, lr=0.0, momentum=0.0, dtype=torch.float32, batch_size=for_all_threads)
    for batch in step.prepare(images).split(batch_size):
        yield step.forward_features(batch)

"""The base class of all nets: a classifier of raw images, with its preprocessing inside."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hw2.common.constants import IMAGE_SIZE

# MNIST's mean pixel and a scale, both in units of [0, 1]. 0.5 instead of MNIST's deviation of 0.3081: at that
# scale a learning rate of 0.1 diverges, at this one it is stable and meets the study's accuracies.
MEAN = 0.1307
SCALE = 0.5


class ModelOutputs(NamedTuple):
    """Logits and channel means of N images, from one pass; outlier scores need no more."""

    logits: Tensor  # float32 [N, 10]
    early_features: Tensor  # float32 [N, 32], each channel's mean after the first ReLU
    late_features: Tensor  # float32 [N, 64], each channel's mean after pooling
    # Of a custom net: of an early and of a late layer, of any widths.


def preprocess(images: Tensor) -> Tensor:
    """Normalize raw images.

    Args:
        images: uint8 or float, 0 to 255, [N, 28, 28] or [N, 1, 28, 28].

    Returns:
        float32 [N, 1, 28, 28].
    """
    scaled = images.reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE).to(torch.float32)
    return (scaled * (1 / 255) - MEAN) * (1 / SCALE)


# A custom net: its class, and the Python text that has it.
CustomNetSource = tuple[str, str]


class Net(nn.Module):
    """A classifier of raw images (see `preprocess`) into ten classes."""

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, float32 [N, 10], of raw images."""
        return self.forward_preprocessed(preprocess(images))

    def forward_preprocessed(self, pixels: Tensor) -> Tensor:
        """Compute logits [N, 10] of preprocessed images; all that training needs."""
        raise NotImplementedError

    def forward_features(self, images: Tensor) -> ModelOutputs:
        """Compute logits, and the channel means that outlier scores are computed from, of raw images."""
        raise NotImplementedError

    def layers(self) -> list[tuple[str, str, int]]:
        """List each layer's name, output shape (one image, channels x height x width) and number of parameters."""
        raise NotImplementedError

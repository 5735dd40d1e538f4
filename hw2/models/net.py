"""The base class of all nets: a classifier of raw images, with its preprocessing inside."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hw2.common.errors import DataError
from hw2.common.image_spec import STUDY, ImageSpec


class ModelOutputs(NamedTuple):
    """Logits and channel means of N images, from one pass; outlier scores need no more."""

    logits: Tensor  # float32 [N, classes]
    early_features: Tensor  # float32 [N, 32], each channel's mean after the first ReLU
    late_features: Tensor  # float32 [N, 64], each channel's mean after pooling
    # Of another net: of an early and of a late layer, of any widths.


def preprocess(images: Tensor, spec: ImageSpec = STUDY) -> Tensor:
    """Normalize raw images.

    Args:
        images: uint8 or float, 0 to 255: grey [N, H, W] or [N, 1, H, W], color [N, H, W, 3].
        spec: What the images are, with mean and scale of each channel.

    Returns:
        float32 [N, channels, H, W].
    """
    if spec.channels == 1:
        scaled = images.reshape(-1, 1, spec.height, spec.width).to(torch.float32)
        return (scaled * (1 / 255) - spec.mean[0]) * (1 / spec.scale[0])
    scaled = images.reshape(-1, *spec.shape).permute(0, 3, 1, 2).to(torch.float32)
    mean, factor = (
        torch.tensor(values, device=images.device).reshape(-1, 1, 1)
        for values in (spec.mean, [1 / scale for scale in spec.scale])
    )
    return (scaled * (1 / 255) - mean) * factor


# Another net than BaseCNN: a custom net's class and the Python text that has it, or a name of `net_source` and "".
CustomNetSource = tuple[str, str]


class Net(nn.Module):
    """A classifier of raw images (see `preprocess`), which `spec` describes with their classes."""

    custom: CustomNetSource | None = None
    """What makes this net anew by `new_model`; None for BaseCNN."""

    def __init__(self, spec: ImageSpec = STUDY) -> None:
        super().__init__()
        self.spec = spec

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalize raw images as this net's were in training.

        Raises:
            DataError: They are of another size or have other channels.
        """
        spec = self.spec
        if images.shape[1:] != spec.shape and (spec.channels > 1 or images.shape[1:] != (1, *spec.shape)):
            raise DataError(f"images of shape {list(images.shape)}; this net takes {spec.forms}")
        return preprocess(images, spec)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, float32 [N, classes], of raw images."""
        return self.forward_preprocessed(self.preprocess(images))

    def forward_preprocessed(self, pixels: Tensor) -> Tensor:
        """Compute logits [N, classes] of preprocessed images; all that training needs."""
        raise NotImplementedError

    def forward_features(self, images: Tensor) -> ModelOutputs:
        """Compute logits, and the channel means that outlier scores are computed from, of raw images."""
        raise NotImplementedError

    def layers(self) -> list[tuple[str, str, int]]:
        """List each layer's name, output shape (one image, channels x height x width) and number of parameters."""
        raise NotImplementedError

"""The split of a training set into training and validation images."""

from dataclasses import replace

import numpy as np
import torch

from hw2.common.errors import ConfigurationError
from hw2.data.image_set import ImageSet

# Decides which images are for validation, in every run alike: runs are compared on the same images.
VALIDATION_SEED = 20170825


def split_validation(train: ImageSet, size: int) -> tuple[ImageSet, ImageSet | None]:
    """Split off `size` validation images, the same ones in every run; None for size 0.

    Raises:
        ConfigurationError: no image would be left to train on.
    """
    if not 0 <= size < len(train):
        raise ConfigurationError(
            f"validation_size {size} of {len(train)} training images, expected 0 to {len(train) - 1}; "
            "choose a smaller one"
        )
    if size == 0:
        return train, None
    # RandomState's stream is frozen by numpy's own promise; torch and numpy.random.Generator give none.
    order = torch.from_numpy(np.random.RandomState(VALIDATION_SEED).permutation(len(train)))
    held_out, rest = order[:size].sort().values, order[size:].sort().values
    return train.subset(rest), replace(train.subset(held_out), split="validation")

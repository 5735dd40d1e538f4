"""Random changes of the images of a batch: pure functions of seed, epoch and batch, drawn for each image.

    flip     left and right, every second image
    shift    by whole pixels, to an eighth of each side; what comes in is black
    crop     a part of at least 0.8 of each side, scaled to the full size
    rotate   by 15 degrees at most, either way; what comes in is black

They do what torchvision's `v2.functional` does with `horizontal_flip`, `pad` and `crop`, `resized_crop` and `rotate`
(bilinear), but with a draw for each image at once, which those take for a batch as a whole.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SHIFT = 8  # the side, over the largest shift
CROP = 0.8  # of a side
DEGREES = 15.0
_STREAM = 0xA06  # so that these are other draws than those of the order

Transform = Callable[[Tensor], Tensor]


def transform_of(names: str, seed: int, epoch: int, batch: int) -> Transform | None:
    """Return what changes the images of a batch; None where nothing does.

    Args:
        names: Of AUGMENTATIONS, separated by commas; may be empty.
        seed: Of the training.
        epoch: From 1.
        batch: Within the epoch, from 1.
    """
    if not names:
        return None
    entropy = np.random.SeedSequence((seed, epoch, batch, _STREAM)).generate_state(1, np.uint64)[0]
    return partial(_change, frozenset(names.split(",")), int(entropy >> 1))


def _change(names: frozenset[str], seed: int, images: Tensor) -> Tensor:
    """Change uint8 images, [N, H, W] or [N, H, W, 3]."""
    # All are drawn, on the processor, so that a draw depends neither on the device nor on the other changes.
    draws = torch.rand(len(images), 7, generator=torch.Generator().manual_seed(seed))
    flip, *moves, scale, across, down, angle = draws.unbind(1)
    if "flip" in names or "shift" in names:
        turned = flip < 0.5 if "flip" in names else torch.zeros(len(images), dtype=torch.bool)
        reach = [side // SHIFT if "shift" in names else 0 for side in images.shape[1:3]]
        offsets = [
            (draw * (2 * most + 1)).long().clamp(max=2 * most)
            for draw, most in zip(moves, reach, strict=True)
        ]
        images = _move(images, turned, reach, offsets)
    if "crop" in names or "rotate" in names:
        scale = CROP + (1 - CROP) * scale if "crop" in names else torch.ones(len(images))
        room = 1 - scale  # in which a part can lie
        centers = torch.stack([(2 * across - 1) * room, (2 * down - 1) * room], 1)
        angles = (2 * angle - 1) * DEGREES if "rotate" in names else torch.zeros(len(images))
        images = _resample(images, scale, centers, angles, "zeros" if "rotate" in names else "border")
    return images


def _move(images: Tensor, turned: Tensor, reach: list[int], offsets: list[Tensor]) -> Tensor:
    """Cut each image out of itself with a black border.

    Args:
        images: uint8 [N, H, W] or [N, H, W, 3].
        turned: bool [N], where left and right are exchanged, after the cut.
        reach: The border's height and width, in pixels.
        offsets: int64 [N] each, the first row and the first column of the cut, from 0 to twice the reach.
    """
    n, height, width = images.shape[:3]
    border = (reach[1], reach[1], reach[0], reach[0])
    padded = functional.pad(images, (0, 0, *border) if images.ndim == 4 else border)
    columns = torch.arange(width).expand(n, width)
    columns = torch.where(turned[:, None], width - 1 - columns, columns) + offsets[1][:, None]
    rows = torch.arange(height) + offsets[0][:, None]
    places = (torch.arange(n)[:, None] * padded.shape[1] + rows)[:, :, None] * padded.shape[2] + columns[
        :, None, :
    ]
    return padded.flatten(0, 2)[places.to(images.device, non_blocking=True)]


def _resample(images: Tensor, scale: Tensor, centers: Tensor, angles: Tensor, beyond: str) -> Tensor:
    """Take a part of each image, turned, as the full image, bilinear.

    Args:
        images: uint8 [N, H, W] or [N, H, W, 3].
        scale: [N], the part's sides, as shares of the image's.
        centers: [N, 2], x and y of the part's center, -1 and 1 being the edges.
        angles: [N], in degrees; positive turns what is seen counter-clockwise.
        beyond: What lies beyond the edge: "zeros" or the "border".
    """
    height, width = images.shape[1:3]
    cos, sin = scale * torch.cos(angles * (math.pi / 180)), scale * torch.sin(angles * (math.pi / 180))
    # From a pixel of the result to where it is taken from; x and y have units of their own where the sides differ.
    rows = torch.stack([cos, -sin * (height / width), centers[:, 0]], 1)
    columns = torch.stack([sin * (width / height), cos, centers[:, 1]], 1)
    affine = torch.stack([rows, columns], 1).to(images.device, non_blocking=True)
    color = images.ndim == 4
    pixels = (images.permute(0, 3, 1, 2) if color else images[:, None]).float()
    grid = functional.affine_grid(affine, list(pixels.shape), align_corners=False)
    sampled = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode=beyond, align_corners=False)
    rounded = sampled.round_().clamp_(0, 255).to(torch.uint8)
    return rounded.permute(0, 2, 3, 1).contiguous() if color else rounded[:, 0]

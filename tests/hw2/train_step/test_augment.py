"""What becomes of a batch's images is what torchvision makes of each, and a function of seed, epoch and batch."""

from itertools import product

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from hw2.train_step import augment
from hw2.train_step.augment import transform_of
from hw2.train_step.options import AUGMENTATIONS

SHAPES = [(40, 28, 28), (40, 32, 24, 3), (40, 17, 33)]


def images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def smooth(shape: tuple[int, ...]) -> Tensor:
    """Images without sharp edges, so that two ways of resampling hardly differ."""
    n, height, width = shape[:3]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = 127 + 60 * torch.sin(x / 5 + torch.arange(n)[:, None, None]) + 60 * torch.cos(y / 4)
    return (waves[..., None].expand(*shape) if len(shape) == 4 else waves).to(torch.uint8)


def channels_first(batch: Tensor) -> Tensor:
    return batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch[:, None]


def changed(names: str, batch: Tensor, seed: int = 0, epoch: int = 1, number: int = 1) -> Tensor:
    transform = transform_of(names, seed, epoch, number)
    assert transform is not None
    return transform(batch)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("names", [*AUGMENTATIONS, ",".join(AUGMENTATIONS)])
def test_a_change_is_a_pure_function_of_seed_epoch_and_batch(names: str, shape: tuple[int, ...]) -> None:
    batch = images(shape)
    before = batch.clone()
    results = {key: changed(names, batch, *key) for key in product((0, 1), (1, 2), (1, 2))}
    assert torch.equal(batch, before)
    for key, result in results.items():
        assert (result.shape, result.dtype) == (batch.shape, torch.uint8)
        torch.rand(3)  # whatever else is drawn meanwhile
        assert torch.equal(result, changed(names, batch, *key))
    texts = {bytes(result.contiguous().numpy().tobytes()) for result in results.values()}
    assert len(texts) == len(results)


def test_without_a_name_there_is_no_change() -> None:
    assert transform_of("", 0, 1, 1) is None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_about_every_second_image_is_flipped_and_the_others_are_as_they_were(shape: tuple[int, ...]) -> None:
    batch = images(shape)
    result = changed("flip", batch)
    flipped = v2.horizontal_flip(channels_first(batch))
    which = [
        (bool((new == turned).all()), bool((new == old).all()))
        for new, turned, old in zip(channels_first(result), flipped, channels_first(batch), strict=True)
    ]
    assert all(a != b for a, b in which)
    assert 10 <= sum(a for a, _ in which) <= 30


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_image_is_shifted_by_its_own_pixels_up_to_an_eighth_as_pad_and_crop_do(
    shape: tuple[int, ...],
) -> None:
    batch = images(shape)
    result = channels_first(changed("shift", batch))
    height, width = shape[1:3]
    reach = height // 8, width // 8
    padded = v2.pad(channels_first(batch), [reach[1], reach[0]])
    places = list(product(range(2 * reach[0] + 1), range(2 * reach[1] + 1)))
    taken = set()
    for new, wide in zip(result, padded, strict=True):
        fitting = [
            place for place in places if torch.equal(new, v2.crop(wide, place[0], place[1], height, width))
        ]
        assert len(fitting) == 1
        taken.add(fitting[0])
    assert len(taken) > 10
    assert {row for row, _ in taken} <= set(range(2 * reach[0] + 1))


def test_the_largest_shifts_either_way_come_about() -> None:
    batch = torch.zeros(4_000, 16, 16, dtype=torch.uint8)
    batch[:, 8, 8] = 255
    result = changed("shift", batch)
    rows, columns = result.flatten(1).argmax(1) // 16, result.flatten(1).argmax(1) % 16
    assert sorted(set(rows.tolist())) == sorted(set(columns.tolist())) == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("angle", [-15.0, 3.5, 15.0])
def test_a_turned_image_is_torchvision_s(shape: tuple[int, ...], angle: float) -> None:
    batch = smooth(shape)
    n = len(batch)
    result = augment._resample(
        batch, torch.ones(n), torch.zeros(n, 2), torch.full((n,), angle), beyond="zeros"
    )
    expected = v2.rotate(channels_first(batch), angle, interpolation=InterpolationMode.BILINEAR)
    # Torchvision takes nothing of a pixel that lies partly beyond the edge: compare what is well inside or outside.
    inside = v2.rotate(torch.full_like(channels_first(batch), 255), angle) == 255
    difference = (channels_first(result).int() - expected.int()).abs()
    assert int((difference * inside)[..., 1:-1, 1:-1].max()) <= 1
    assert float((difference > 1).float().mean()) < 0.12


@pytest.mark.parametrize("shape", [(40, 24, 40), (40, 32, 24, 3)], ids=str)
def test_a_part_of_an_image_is_scaled_as_torchvision_does(shape: tuple[int, ...]) -> None:
    batch = smooth(shape)
    n, (height, width) = len(batch), shape[1:3]
    top, left, share = 3, 2, 0.875
    part = int(share * height), int(share * width)
    scale = torch.full((n,), share)
    center = torch.tensor([(2 * left + share * width) / width - 1, (2 * top + share * height) / height - 1])
    result = augment._resample(batch, scale, center.expand(n, 2), torch.zeros(n), beyond="border")
    expected = v2.resized_crop(
        channels_first(batch), top, left, *part, [height, width], InterpolationMode.BILINEAR, antialias=False
    )
    difference = (channels_first(result).int() - expected.int()).abs()
    assert int(difference[..., 2:-2, 2:-2].max()) <= 1


def test_parts_are_drawn_for_each_image_and_lie_within_it() -> None:
    """On a slope, the mean tells where the part lay, and the range how large it was."""
    slope = (torch.arange(32) * 8).to(torch.uint8).expand(200, 32, 32).contiguous()
    result = changed("crop", slope).float()
    ranges = result.amax((1, 2)) - result.amin((1, 2))
    assert len(set(result.mean((1, 2)).tolist())) > 100
    assert 248 * 0.8 - 8 <= float(ranges.min()) < 210
    assert 235 < float(ranges.max()) <= 248
    assert torch.equal(result[:, 0], result[:, 31])  # nothing dark has come in


def test_images_are_turned_either_way_by_no_more_than_fifteen_degrees() -> None:
    line = torch.zeros(300, 65, 65, dtype=torch.uint8)
    line[:, 31:34] = 255
    result = changed("rotate", line).float()
    rows = torch.arange(65.0)[:, None]
    right = (result[:, :, 52:57] * rows).sum((1, 2)) / result[:, :, 52:57].sum((1, 2)) - 32
    degrees = torch.rad2deg(torch.atan(right / 22))
    assert 13 < float(degrees.max()) < 15.5
    assert -15.5 < float(degrees.min()) < -13


def test_a_draw_does_not_depend_on_what_else_is_changed() -> None:
    batch = images(SHAPES[0])
    assert torch.equal(changed("flip,shift,rotate", batch), changed("rotate", changed("flip,shift", batch)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_makes_the_same_of_the_images() -> None:
    batch = images((64, 32, 32, 3))
    for names in AUGMENTATIONS:
        here, there = changed(names, batch), changed(names, batch.cuda()).cpu()
        assert int((here.int() - there.int()).abs().max()) <= 1, names

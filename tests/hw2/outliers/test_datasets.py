"""Outlier sets hold what their names say, the same on every machine."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hw2.common.errors import DataError
from hw2.data import idx
from hw2.data.image_set import ImageSet, load_dataset
from hw2.outliers.datasets import LETTERS, LIKE_DIGITS, NOISES, load_outliers


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_dataset("mnist-sample").test


@pytest.fixture(scope="module")
def letters(digits: ImageSet) -> ImageSet:
    return load_outliers("letters", None, digits)


def test_ten_thousand_letters_of_equal_shares_are_drawn(letters: ImageSet) -> None:
    assert len(letters) == 10_000
    counts = torch.bincount(letters.labels)
    assert len(counts) == len(LETTERS)
    assert int(counts.max() - counts.min()) <= 1


def test_no_letter_looks_like_a_digit() -> None:
    left_out = "".join(LIKE_DIGITS.values())
    assert not set(left_out) & set(LETTERS)
    assert len(LETTERS) + len(left_out) == 52
    assert set("oOlISsZzBbgqD") <= set(left_out)


def test_letters_are_laid_out_as_mnist_is(letters: ImageSet, digits: ImageSet) -> None:
    ink = letters.images.double()
    along = torch.arange(28, dtype=torch.float64)
    mass = ink.sum((1, 2))
    for axis in (1, 2):
        middle = (ink.sum(3 - axis) * along).sum(1) / mass
        assert float((middle - 14).abs().quantile(0.99)) <= 0.51
    rows, columns = (letters.images.amax(axis).ne(0) for axis in (2, 1))
    longer = torch.maximum(rows.sum(1), columns.sum(1))
    assert int(longer.max()) == 20
    assert float((longer == 20).float().mean()) > 0.95
    # As much ink as digits have, within a factor: neither hairlines nor blots.
    assert 0.7 < float(ink.mean() / digits.images.double().mean()) < 1.6


def test_letters_differ_in_font_turn_and_slant(letters: ImageSet) -> None:
    of_one_kind = letters.images[letters.labels == LETTERS.index("k")].flatten(1)
    assert len(torch.unique(of_one_kind, dim=0)) == len(of_one_kind)


def test_letters_and_noise_are_functions_of_the_seed(letters: ImageSet, digits: ImageSet) -> None:
    assert load_outliers("letters", None, digits).sha256 == letters.sha256
    assert load_outliers("letters", None, digits, seed=1).sha256 != letters.sha256
    noise = load_outliers("noise", None, digits)
    assert load_outliers("noise", None, digits).sha256 == noise.sha256
    assert load_outliers("noise", None, digits, seed=1).sha256 != noise.sha256


def test_rotated_digits_stand_on_their_left_side(digits: ImageSet) -> None:
    rotated = load_outliers("rotated", None, digits)
    assert torch.equal(rotated.labels, digits.labels)
    # A turn to the left takes the last column to the first row.
    assert torch.equal(rotated.images[:, 0], digits.images[:, :, 27])
    assert not torch.equal(rotated.images, digits.images)


def test_inverted_digits_are_black_on_white(digits: ImageSet) -> None:
    inverted = load_outliers("inverted", None, digits)
    assert inverted.images.dtype == torch.uint8
    assert torch.equal(inverted.images.int() + digits.images.int(), torch.full_like(digits.images.int(), 255))


def test_noise_is_of_four_kinds_in_equal_shares(digits: ImageSet) -> None:
    noise = load_outliers("noise", None, digits)
    assert torch.bincount(noise.labels).tolist() == [2_500] * 4
    uniform, speckle, clouds, shuffled = (
        noise.images[noise.labels == kind].double() for kind in range(len(NOISES))
    )
    assert 126 < float(uniform.mean()) < 129
    assert set(np.unique(speckle.numpy())) == {0.0, 255.0}
    # Neighbors are alike in clouds alone.
    steps = [float((kind[:, :, 1:] - kind[:, :, :-1]).abs().mean()) for kind in (uniform, clouds)]
    assert steps[0] > 3 * steps[1]
    ink = float(digits.images.double().mean())
    assert float(shuffled.mean()) == pytest.approx(ink, rel=0.05)


def test_a_known_set_and_a_folder_serve_as_outliers(tmp_path: Path, digits: ImageSet) -> None:
    garments = load_outliers("fashion-mnist", tmp_path, digits)
    assert (garments.name, garments.classes[8]) == ("fashion-mnist-sample", "Bag")
    idx.write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", digits.images[:7])
    own = load_outliers(str(tmp_path), None, digits)
    assert torch.equal(own.images, digits.images[:7])


def test_an_unknown_set_is_answered_with_the_known_ones(digits: ImageSet) -> None:
    with pytest.raises(
        DataError, match="unknown outlier set 'leters': expected letters, rotated, inverted, noise"
    ):
        load_outliers("leters", None, digits)

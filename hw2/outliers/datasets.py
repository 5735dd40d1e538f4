"""Sets of images that are no digits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hw2.common.constants import IMAGE_SIZE
from hw2.common.errors import DataError
from hw2.data.catalog import DATASETS
from hw2.data.files import expanded, is_folder
from hw2.data.image_set import ImageSet, load_folder, load_split
from hw2.data.mnist_layout import center_like_mnist

NUM_IMAGES = 10_000

# Letters that a person might read as the digit, left out of `letters`.
LIKE_DIGITS = {0: "DOQo", 1: "Iijl", 2: "Zz", 4: "Yy", 5: "Ss", 6: "Gb", 8: "B", 9: "gq"}
LETTERS = tuple(
    letter
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    if letter not in "".join(LIKE_DIGITS.values())
)
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"),
)
FONT_SIZE = 32
CANVAS = 76
LARGEST_TURN = 15.0  # degrees either way
LARGEST_SLANT = 0.25  # sideways shift by height, either way

NOISES = ("uniform", "speckle", "clouds", "shuffled digit")


def load_outliers(
    name_or_dir: str, data_dir: Path | None, digits: ImageSet, seed: int = 0, download: bool = False
) -> ImageSet:
    """Load an outlier set by name, the test images of a known data set by its name, or a folder of IDX files.

    `rotated`, `inverted` and a part of `noise` are made from `digits`; `letters` and `noise` are a function
    of the seed.

    Raises:
        DataError: an unknown name, or damaged files.
    """
    if name_or_dir in GENERATED:
        return GENERATED[name_or_dir](digits, seed)
    if name_or_dir.removesuffix("-sample") in DATASETS:
        sibling = data_dir is not None and Path(digits.source).is_relative_to(expanded(data_dir))
        return load_split(name_or_dir, "test", data_dir, download, sibling)
    folder = expanded(Path(name_or_dir))
    if is_folder(folder):
        return load_folder(folder)
    names = ", ".join([*GENERATED, *DATASETS])
    raise DataError(f"unknown outlier set {name_or_dir!r}: expected {names}, or a folder of IDX files")


def rotated(digits: ImageSet, seed: int = 0) -> ImageSet:
    """Turn digits by 90 degrees to the left. All of them, though a 0 stays one and an 8 almost."""
    images = digits.images.rot90(1, (1, 2)).contiguous()
    source = f"{digits.name} {digits.split}, turned by 90 degrees"
    return ImageSet("rotated", "test", images, digits.labels, digits.classes, source)


def inverted(digits: ImageSet, seed: int = 0) -> ImageSet:
    """Invert digits to black on white."""
    source = f"{digits.name} {digits.split}, inverted"
    return ImageSet("inverted", "test", 255 - digits.images, digits.labels, digits.classes, source)


def noise(digits: ImageSet, seed: int = 0) -> ImageSet:
    """Draw 10,000 images of four kinds in turn, each a class.

    uniform: each pixel any value; speckle: pixels white as often as a digit has ink, else black; clouds: a 7
    x 7 uniform image enlarged; shuffled digit: the pixels of a digit in random order.
    """
    random = np.random.RandomState(seed)
    count = NUM_IMAGES // len(NOISES)
    ink = round(255 * float((digits.images > 127).float().mean()))
    uniform = _bytes(random, count, IMAGE_SIZE)
    speckle = np.where(_bytes(random, count, IMAGE_SIZE) < ink, 255, 0).astype(np.uint8)
    coarse = _bytes(random, count, 7)
    size = (IMAGE_SIZE, IMAGE_SIZE)
    clouds = [np.asarray(Image.fromarray(c).resize(size, Image.Resampling.BILINEAR)) for c in coarse]
    chosen = digits.images.numpy()[random.randint(0, len(digits), count)].reshape(count, -1)
    shuffled = np.stack([values[random.permutation(IMAGE_SIZE * IMAGE_SIZE)] for values in chosen])
    kinds = np.stack([uniform, speckle, np.stack(clouds), shuffled.reshape(count, *size)], axis=1)
    images = torch.from_numpy(kinds.reshape(-1, IMAGE_SIZE, IMAGE_SIZE))
    labels = torch.arange(len(NOISES)).repeat(count)
    return ImageSet("noise", "test", images, labels, NOISES, f"drawn with seed {seed}")


def letters(digits: ImageSet, seed: int = 0) -> ImageSet:
    """Draw 10,000 printed letters that look like no digit, turned and slanted a little, laid out as MNIST is.

    From the fonts that matplotlib brings; the letters that are left out, and the digits they look like, are
    in LIKE_DIGITS.
    """
    random = np.random.RandomState(seed)
    label = random.permutation(np.arange(NUM_IMAGES) % len(LETTERS))
    font = random.randint(0, len(FONTS), NUM_IMAGES)
    turn = np.radians(random.uniform(-LARGEST_TURN, LARGEST_TURN, NUM_IMAGES))
    slant = random.uniform(-LARGEST_SLANT, LARGEST_SLANT, NUM_IMAGES)
    drawn = _draw_letters()
    images = np.stack(
        [
            center_like_mnist(_turned(drawn[f, k], t, s))
            for f, k, t, s in zip(font, label, turn, slant, strict=True)
        ]
    )
    labels = torch.from_numpy(label.astype(np.int64))
    return ImageSet("letters", "test", torch.from_numpy(images), labels, LETTERS, f"drawn with seed {seed}")


GENERATED: dict[str, Callable[[ImageSet, int], ImageSet]] = {
    "letters": letters,
    "rotated": rotated,
    "inverted": inverted,
    "noise": noise,
}


def _bytes(random: np.random.RandomState, count: int, side: int) -> NDArray[np.uint8]:
    return random.randint(0, 256, (count, side, side), dtype=np.uint8)


def _draw_letters() -> dict[tuple[int, int], Image.Image]:
    """Draw each letter in each font, upright in the middle of a canvas that it can be turned in."""
    from matplotlib import get_data_path

    folder = Path(get_data_path()) / "fonts" / "ttf"
    drawn = {}
    for f, font_name in enumerate(FONTS):
        font = ImageFont.truetype(
            folder / f"{font_name}.ttf", FONT_SIZE, layout_engine=ImageFont.Layout.BASIC
        )
        for k, letter in enumerate(LETTERS):
            canvas = Image.new("L", (CANVAS, CANVAS))
            left, top, right, bottom = font.getbbox(letter)
            corner = (CANVAS - left - right) / 2, (CANVAS - top - bottom) / 2
            ImageDraw.Draw(canvas).text(corner, letter, fill=255, font=font)
            drawn[f, k] = canvas
    return drawn


def _turned(canvas: Image.Image, turn: float, slant: float) -> Image.Image:
    """Slant, then turn about the middle; PIL wants the way back, from a new pixel to an old one."""
    cosine, sine, middle = np.cos(turn), np.sin(turn), CANVAS / 2
    a, b, c, d = cosine + slant * sine, sine - slant * cosine, -sine, cosine
    back = (a, b, middle - a * middle - b * middle, c, d, middle - c * middle - d * middle)
    return canvas.transform((CANVAS, CANVAS), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)

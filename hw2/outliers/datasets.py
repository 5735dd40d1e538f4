"""Sets of images that are no digits."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hw2.common.constants import DIGITS, IMAGE_SIZE
from hw2.common.errors import DataError
from hw2.data.files import is_folder
from hw2.data.formats.decode import resize
from hw2.data.formats.locations import expanded
from hw2.data.image_set import ImageSet, load_folder, load_split
from hw2.data.lookup import KNOWN
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
        made = GENERATED[name_or_dir](digits, seed)
    elif name_or_dir.removesuffix("-sample") in KNOWN:
        sibling = data_dir is not None and Path(digits.source).is_relative_to(expanded(data_dir))
        made = load_split(name_or_dir, "test", data_dir, download, sibling)
    else:
        folder = expanded(Path(name_or_dir))
        if not is_folder(folder):
            names = ", ".join([*GENERATED, *KNOWN])
            raise DataError(
                f"unknown outlier set {name_or_dir!r}: expected {names}, or a folder of images or IDX files"
            )
        made = load_folder(folder, tuple(digits.images.shape[1:]))
    return fit_images(made, tuple(digits.images.shape[1:]))


def default_sets(digits: ImageSet) -> tuple[str, ...]:
    """Name the outlier sets that suit images as these: of other data where there are such, else made of them."""
    if digits.images.shape[1:] == (IMAGE_SIZE, IMAGE_SIZE):
        return ("fashion-mnist",) if not digits.name.startswith("fashion-mnist") else ("mnist",)
    return ("inverted", "noise", "patches")


def fit_images(image_set: ImageSet, shape: tuple[int, ...]) -> ImageSet:
    """Make images of the size and colors [H, W] or [H, W, 3] that a model takes; as they are where they have them."""
    if tuple(image_set.images.shape[1:]) == shape:
        return image_set
    mode = "L" if len(shape) == 2 else "RGB"
    size = shape[1], shape[0]
    fitted = [
        np.asarray(resize(Image.fromarray(image).convert(mode), size)) for image in image_set.images.numpy()
    ]
    return dataclasses.replace(image_set, images=torch.from_numpy(np.stack(fitted)))


def patches(digits: ImageSet, seed: int = 0) -> ImageSet:
    """Cut test images into 4 x 4 patches or so, and put these together in random order: all but the shape is theirs."""
    random = np.random.RandomState(seed)
    images = digits.images.numpy().copy()
    rows, columns = (np.array_split(np.arange(side), 4) for side in images.shape[1:3])
    # Of one size, so that each can take another's place.
    high, wide = min(map(len, rows)), min(map(len, columns))
    corners = [(row[0], column[0]) for row in rows for column in columns]
    shuffled = images.copy()
    for place, image in enumerate(images):
        for (top, left), source in zip(corners, random.permutation(len(corners)), strict=True):
            from_top, from_left = corners[source]
            piece = image[from_top : from_top + high, from_left : from_left + wide]
            shuffled[place, top : top + high, left : left + wide] = piece
    source_text = f"{digits.name} {digits.split}, patches in random order with seed {seed}"
    return dataclasses.replace(
        digits, name="patches", split="test", images=torch.from_numpy(shuffled), source=source_text
    )


def rotated(digits: ImageSet, seed: int = 0) -> ImageSet:
    """Turn digits by 90 degrees to the left. All of them, though a 0 stays one and an 8 almost."""
    images = digits.images.rot90(1, (1, 2)).contiguous()
    images = fit_images(dataclasses.replace(digits, images=images), tuple(digits.images.shape[1:])).images
    source = f"{digits.name} {digits.split}, turned by 90 degrees"
    return ImageSet("rotated", "test", images, digits.labels, digits.classes, source)


def inverted(digits: ImageSet, seed: int = 0) -> ImageSet:
    """Invert digits to black on white."""
    source = f"{digits.name} {digits.split}, inverted"
    return ImageSet("inverted", "test", 255 - digits.images, digits.labels, digits.classes, source)


def noise(digits: ImageSet, seed: int = 0) -> ImageSet:
    """Draw 10,000 images of four kinds in turn, each a class.

    uniform: each value any; speckle: pixels white as often as an image has ink, else black; clouds: a 7
    x 7 uniform image enlarged; shuffled digit (or image): the pixels of one in random order.
    """
    random = np.random.RandomState(seed)
    count = NUM_IMAGES // len(NOISES)
    height, width = digits.images.shape[1:3]
    channels = tuple(digits.images.shape[3:])
    ink = round(255 * float((digits.images > 127).float().mean()))
    uniform = _bytes(random, count, height, width, *channels)
    speckle = np.where(_bytes(random, count, height, width) < ink, 255, 0).astype(np.uint8)
    coarse = _bytes(random, count, 7, 7, *channels)
    clouds = [
        np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BILINEAR)) for c in coarse
    ]
    chosen = digits.images.numpy()[random.randint(0, len(digits), count)].reshape(
        count, height * width, *channels
    )
    shuffled = np.stack([values[random.permutation(height * width)] for values in chosen])
    if channels:
        speckle = np.repeat(speckle[..., None], channels[0], axis=-1)
    kinds = np.stack([uniform, speckle, np.stack(clouds), shuffled.reshape(uniform.shape)], axis=1)
    images = torch.from_numpy(kinds.reshape(-1, height, width, *channels))
    labels = torch.arange(len(NOISES)).repeat(count)
    classes = NOISES if digits.classes == DIGITS else (*NOISES[:-1], "shuffled image")
    return ImageSet("noise", "test", images, labels, classes, f"drawn with seed {seed}")


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
    "patches": patches,
}


def _bytes(random: np.random.RandomState, *shape: int) -> NDArray[np.uint8]:
    return random.randint(0, 256, shape, dtype=np.uint8)


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

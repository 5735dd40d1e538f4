"""Preparation of image files of any kind for a model.

A model of digits saw 28 x 28 grey values, white on black, laid out as MNIST's. Files differ in size, color,
polarity and place; each guess is a note beside the image. For another model an image is made what its training images
were made: see `hw2.data.formats.decode`.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torch import Tensor

from hw2.common.constants import IMAGE_SIZE
from hw2.common.errors import DataError
from hw2.common.formatting import first_line
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.data.formats.decode import FORMATS, HEAD, MAX_PIXELS, decode, image_opener, open_image, resize
from hw2.data.idx import GZIP_MAGIC, read_idx
from hw2.data.mnist_layout import BOX, CENTER, center_like_mnist

MOST_BYTES = 8 * MAX_PIXELS  # of a pipe; a PNG has two bytes each of four colors at most
STDIN = Path("-")
WORKING_SIDE = 1024  # images are made no larger than this before they are looked at
CUT_OUT_SIDE = 4 * BOX
MIN_CONTRAST = 16  # grey values; below it an image counts as one color
LOSSY_FLOOR = 12.0  # grey values that JPEG may add around a stroke
OUTLINE = 96  # grey values; of those tried, the best at giving back digits that were enlarged
# Strokes of MNIST are 2 to 4 pixels wide in the box of 20; below the first a stroke is made as wide as the
# second.
THIN_STROKE = 1.3
USUAL_STROKE = 2.2
# Pixels from where MNIST puts the center of mass; no digit of the sample is further away.
USUAL_DISTANCE = 2.0
NEXT_STEP = f"give a file of {FORMATS}, or IDX"
SpecOf = Callable[[], ImageSpec]


@dataclass(frozen=True)
class PreparedImage:
    """One image as a model takes it.

    name: the file, with a position if it holds several; image: uint8 as the model takes it; notes: what was guessed or
    changed; none where the image is as it was.
    """

    name: str
    image: Tensor
    notes: tuple[str, ...] = ()


def read_images(path: Path, spec_of: SpecOf = lambda: STUDY) -> Iterator[PreparedImage]:
    """Read the images of one file of any of `decode.FORMATS`, or IDX (plain or gzip), recognized by content.

    `-` is stdin. A pipe will do. spec_of: tells what the model takes, once it's known that the file may hold an image.

    For a model of digits, 28 x 28 grey values with a dark border are taken as they are, whatever the file's kind; all
    else is laid out anew.

    Raises:
        DataError: the file is empty, of another kind, or of more than 64 million pixels, before anything is decoded;
            or it can't be decoded or prepared.
    """
    if path == STDIN or (path.exists() and not (path.is_file() or path.is_dir())):
        yield from _read_stream(path, spec_of)
    else:
        yield from _read_file(path, spec_of)


def _read_stream(path: Path, spec_of: SpecOf) -> Iterator[PreparedImage]:
    """Read what can be read once alone: stdin, a pipe, a device. Its images and errors have its name."""
    with tempfile.NamedTemporaryFile(prefix="image-") as copy:
        try:
            with sys.stdin.buffer if path == STDIN else path.open("rb") as stream:
                copy.write(stream.read(MOST_BYTES + 1))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); {NEXT_STEP}") from error
        if copy.tell() > MOST_BYTES:
            raise DataError(f"{path}: more than {MOST_BYTES:,} bytes; {NEXT_STEP}")
        copy.flush()
        try:
            for image in _read_file(Path(copy.name), spec_of):
                yield dataclasses.replace(image, name=image.name.replace(copy.name, str(path), 1))
        except DataError as error:
            raise DataError(str(error).replace(copy.name, str(path))) from error


def _read_file(path: Path, spec_of: SpecOf) -> Iterator[PreparedImage]:
    try:
        with path.open("rb") as file:
            start = file.read(HEAD)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {NEXT_STEP}") from error
    if not start:
        raise DataError(f"{path}: an empty file of 0 bytes; {NEXT_STEP}")
    if start[:3] == b"\0\0\x08" or start[:2] == GZIP_MAGIC:
        yield from _read_idx_images(path, spec_of())
    elif image_opener(start) is not None:
        spec = spec_of()
        yield _read_image(path, start) if spec.is_digits else _fit(str(path), decode(path), spec)
    else:
        raise DataError(f"{path}: no image that can be read, it begins with 0x{start[:8].hex()}; {NEXT_STEP}")


def _fit(name: str, image: Image.Image, spec: ImageSpec) -> PreparedImage:
    """Make an image what the model's training images were made: of its colors, scaled, and its middle cut out."""
    notes = []
    mode = "L" if spec.channels == 1 else "RGB"
    if image.mode != mode:
        notes.append(f"made {'grey' if mode == 'L' else 'color'}, as the model takes it")
        image = image.convert(mode)
    if image.size != (spec.width, spec.height):
        cut = "" if image.width * spec.height == image.height * spec.width else ", its middle cut out"
        notes.append(f"scaled from {image.width} x {image.height} pixels{cut}")
        image = resize(image, (spec.width, spec.height))
    return PreparedImage(name, torch.from_numpy(np.array(image)), tuple(notes))


def _read_idx_images(path: Path, spec: ImageSpec) -> Iterator[PreparedImage]:
    images = read_idx(path, MAX_PIXELS)
    if images.ndim not in (2, 3) or images.size == 0:
        shape = " x ".join(str(side) for side in images.shape)
        raise DataError(f"{path}: found values of shape {shape}, expected images: N x height x width")
    several = images.ndim == 3
    for position, image in enumerate(images if several else images[None]):
        name = f"{path}[{position}]" if several else str(path)
        if spec.is_digits:
            yield _prepare(name, _shrink(Image.fromarray(image)), [], lossy=False)
        else:
            yield _fit(name, Image.fromarray(image), spec)


def _read_image(path: Path, head: bytes) -> PreparedImage:
    notes: list[str] = []
    try:
        with path.open("rb") as opened, open_image(path, opened, head) as file:
            lossy = isinstance(file, JpegImageFile | WebPImageFile)
            image = _turn_upright(_eight_bits(file), notes)
    except DataError:
        raise
    except Exception as error:  # decoders meet damage with almost any exception
        raise DataError(f"{path}: a damaged image ({first_line(error)}); {NEXT_STEP}") from error
    return _prepare(str(path), image, notes, lossy=lossy)


def _eight_bits(file: Image.Image) -> Image.Image:
    """Decode as "L", "RGB" or "RGBA", no larger than WORKING_SIDE."""
    if file.mode.startswith("I"):  # PNG's 16-bit grey
        wide = np.asarray(file).astype(np.int64)
        image = Image.fromarray((wide >> 8).clip(0, 255).astype(np.uint8))
    elif file.has_transparency_data:
        image = file.convert("RGBA")
    else:
        image = file.convert("L" if file.mode in ("1", "L") else "RGB")
    image = _shrink(image)
    image.info["exif"] = file.info.get("exif", b"")
    return image


def _shrink(image: Image.Image) -> Image.Image:
    if max(image.size) > WORKING_SIDE:
        image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    return image


def _turn_upright(image: Image.Image, notes: list[str]) -> Image.Image:
    turned = ImageOps.exif_transpose(image)
    if turned.tobytes() != image.tobytes():
        notes.append("turned upright as its camera says")
    return turned


def _prepare(name: str, image: Image.Image, notes: list[str], lossy: bool) -> PreparedImage:
    try:
        return _lay_out(name, image, notes, lossy)
    except Exception as error:  # whatever one image does, the others are to be answered
        raise DataError(
            f"{name}: can't be made into {IMAGE_SIZE} x {IMAGE_SIZE} pixels ({first_line(error)}); give another image"
        ) from error


def _lay_out(name: str, image: Image.Image, notes: list[str], lossy: bool) -> PreparedImage:
    values = _without_alpha(image, notes)
    grey = bool((values == values[..., :1]).all())
    as_trained = values.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE) and np.median(_border(values)) < 128
    if grey and as_trained and not notes:
        return PreparedImage(name, torch.from_numpy(values[..., 0].copy()), _off_center(values[..., 0]))
    ink = _extract_ink(values, grey, notes, LOSSY_FLOOR if lossy else 0.0)
    bounds = _bounds(ink) if ink is not None else None
    if ink is None or bounds is None:
        notes.append("nothing to be seen: one color throughout")
        return PreparedImage(name, torch.zeros(IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8), tuple(notes))
    cut = ink.crop(bounds)
    if cut.width > 2 * cut.height:
        notes.append("more than twice as wide as high: perhaps several characters")
    laid_out = _saturate(center_like_mnist(_thicken(cut, notes)))
    notes.append(f"cut out of {image.width} x {image.height} pixels, scaled and centered")
    return PreparedImage(name, torch.from_numpy(laid_out), tuple(notes))


def _off_center(values: NDArray[np.uint8]) -> tuple[str, ...]:
    """Note where the middle of the ink isn't where every digit's is."""
    mass = float(values.sum(dtype=np.int64))
    if mass == 0:
        return ()
    positions = np.arange(IMAGE_SIZE)
    down, across = (float(values.sum(axis=axis) @ positions) / mass - CENTER for axis in (1, 0))
    away = float(np.hypot(down, across))
    if away <= USUAL_DISTANCE:
        return ()
    return (f"taken as it is, though its ink is {away:.0f} pixels away from where a digit's would be",)


def _without_alpha(image: Image.Image, notes: list[str]) -> NDArray[np.uint8]:
    """Return values [height, width, 1 or 3]; what is transparent becomes a paper that the rest stands out from."""
    values = np.asarray(image)
    if values.ndim == 2:
        return values[..., None]
    if values.shape[2] == 3:
        return values
    alpha = values[..., 3:].astype(np.float32) / 255
    color = values[..., :3].astype(np.float32)
    if (alpha == 1).all():
        return values[..., :3].copy()
    seen = float(alpha.sum())
    paper, word = 255.0, "white"
    if seen > 0 and float((color * alpha).sum()) / (3 * seen) > 127:
        paper, word = 0.0, "black"
    notes.append(f"what is transparent taken as {word}")
    blended: NDArray[np.uint8] = (color * alpha + paper * (1 - alpha)).round().astype(np.uint8)
    return blended


def _border(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take the pixels along the four sides, [M, channels]."""
    width = max(1, min(values.shape[:2]) // 50)
    sides = (values[:width], values[-width:], values[:, :width], values[:, -width:])
    return np.concatenate([side.reshape(-1, values.shape[2]) for side in sides])


def _extract_ink(values: NDArray[np.uint8], grey: bool, notes: list[str], floor: float) -> Image.Image | None:
    """Measure how much each pixel differs from the paper towards the ink's color, 0 to 255; None without contrast.

    The paper is the median along the border. The floor is what noise makes of paper, in grey values.
    """
    border = _border(values)
    paper = np.median(border, axis=0).astype(np.float32)
    difference = values.astype(np.float32) - paper
    if float(np.abs(difference).max()) < MIN_CONTRAST:
        return None
    weights = np.square(difference).sum(axis=2, keepdims=True)
    towards = (difference * weights).sum(axis=(0, 1))
    length = float(np.linalg.norm(towards))
    if length == 0:  # as much one way as the other: towards what differs most, of equals the brightest
        colors = difference.reshape(-1, len(paper))
        towards = colors[np.lexsort((colors.sum(axis=1), np.square(colors).sum(axis=1)))[-1]]
        length = float(np.linalg.norm(towards))
    towards = towards / length
    # In grey values: a step from black to white is 255 whatever the number of channels.
    amount = (difference @ towards) / float(np.abs(towards).sum())
    if towards.sum() < 0:
        notes.append("taken as dark on light, and inverted")
    if not grey:
        notes.append("color taken as distance from the background's")
    on_paper = np.abs((border.astype(np.float32) - paper) @ towards) / float(np.abs(towards).sum())
    noise = 4 * 1.4826 * float(np.median(on_paper))  # four standard deviations, from the median deviation
    amount = amount.clip(0, None)
    if not amount.any():  # what differs does so in colors that cancel out, but for rounding
        return None
    floor = min(max(floor, noise), float(amount.max()) / 2)
    peak = float(np.percentile(amount[amount > floor], 99))
    scaled = ((amount - floor) / max(peak - floor, 1.0)).clip(0, 1) * 255
    ink = Image.fromarray(scaled.round().astype(np.uint8))
    if noise > 0:
        ink = ink.filter(ImageFilter.MedianFilter(3)).point(lambda value: value if value >= 32 else 0)
    return ink


def _bounds(ink: Image.Image) -> tuple[int, int, int, int] | None:
    """Find the bounds of what is drawn: where an enlarged image fades out, not where its last trace is."""
    bounds = ink.getbbox()
    if bounds is None or max(bounds[2] - bounds[0], bounds[3] - bounds[1]) <= 2 * BOX:
        return bounds
    return ink.point(lambda value: 255 if value >= OUTLINE else 0).getbbox()


def _saturate(laid_out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make strokes as white as MNIST's, which scaling down has made grey."""
    drawn = laid_out[laid_out > 31]
    if len(drawn) == 0:
        return laid_out
    brightest = float(np.percentile(drawn, 95))
    saturated: NDArray[np.uint8] = (laid_out * (255 / brightest)).clip(0, 255).round().astype(np.uint8)
    return saturated


def _thicken(cut: Image.Image, notes: list[str]) -> Image.Image:
    """Make strokes too thin for 20 pixels as wide as is usual; width is twice the area by its outline."""
    if max(cut.size) > CUT_OUT_SIDE:
        cut.thumbnail((CUT_OUT_SIDE, CUT_OUT_SIDE), Image.Resampling.BOX)
        brightest = cut.getextrema()[1]
        cut = cut.point(lambda value: value * 255 / brightest)
    solid = np.pad(np.asarray(cut) > 127, 1)
    inner = solid[1:-1, :-2] & solid[1:-1, 2:] & solid[:-2, 1:-1] & solid[2:, 1:-1]
    outline = int((solid[1:-1, 1:-1] & ~inner).sum())
    scale = BOX / max(cut.size)
    width = 2 * int(solid.sum()) / max(outline, 1)
    missing = round((USUAL_STROKE / scale - width) / 2)
    if width * scale >= THIN_STROKE or missing < 1:
        return cut
    notes.append("thin strokes made thicker")
    return ImageOps.expand(cut, missing).filter(ImageFilter.MaxFilter(2 * missing + 1))

"""Image files decoded as a model takes them: upright, without transparency, in grey or in color, of one size."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from hw2.common.errors import DataError
from hw2.common.formatting import first_line
from hw2.data.formats.arrays import OnProgress, Pixels
from hw2.data.formats.requirements import pixel_limit_problem

MAX_PIXELS = 64_000_000
FORMATS = "PNG, JPEG, WebP, BMP, GIF, TIFF or PGM"
HEAD = 32  # bytes: all that formats are recognized by, and a WebP's size
_CHUNK = 64  # files that a thread decodes before it reports

# By how a file of the format begins.
_OPENERS: dict[bytes, type[ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"BM": BmpImageFile,
    b"GIF87a": GifImageFile,
    b"GIF89a": GifImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    **{
        f"P{kind}".encode() + blank: PpmImageFile
        for kind in range(1, 7)
        for blank in (b"\n", b" ", b"\r", b"\t")
    },
}


def image_opener(head: bytes) -> type[ImageFile] | None:
    """Recognize an image's format by its first 32 bytes; None for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WebPImageFile
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)


def open_image(path: Path, file: BinaryIO, head: bytes) -> ImageFile:
    """Open an image without decoding it.

    Not through Image.open, whose guard against large images is a warning that says no width and height.

    Args:
        path: How messages call it.
        file: At its beginning.
        head: Its first 32 bytes.

    Raises:
        DataError: It is no image, or has more than 64 million pixels.
    """
    opener = image_opener(head)
    if opener is None:
        raise DataError(
            f"{path}: no image that can be read, it begins with 0x{head[:8].hex()}; give {FORMATS}"
        )
    if opener is WebPImageFile:  # Pillow makes room for the whole image when it opens one
        _check_pixels(path, *_webp_size(head))
    image = opener(file)
    _check_pixels(path, image.width, image.height)
    return image


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise pixel_limit_problem(path, width, height, MAX_PIXELS)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Read width and height as RFC 9649 has them in its three kinds of files; the largest possible for none."""
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return 0x4000, 0x4000


def decode(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image file's first frame as mode "L" or "RGB": turned as its camera says, transparency on white.

    Args:
        path: The file.
        size: Width and height to scale to, so that it is filled, and what juts out is cut off on both sides alike.

    Raises:
        DataError: It is no image, can't be decoded or is too large.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            if not head:
                raise DataError(f"{path}: an empty file of 0 bytes; give {FORMATS}")
            file.seek(0)
            with open_image(path, file, head) as opened:
                if size is not None and isinstance(opened, JpegImageFile):
                    opened.draft(None, (2 * size[0], 2 * size[1]))  # a large photograph is decoded smaller
                image = _flatten(ImageOps.exif_transpose(opened))
    except DataError:
        raise
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DataError(f"{path}: can't be read or decoded ({reason}); replace it by a whole copy") from error
    except Exception as error:  # decoders meet damage with almost any exception
        raise DataError(
            f"{path}: a damaged image ({first_line(error)}); replace it by a whole copy"
        ) from error
    return image if size is None else resize(image, size)


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale an image so that it fills width and height, and cut off what juts out, on both sides alike."""
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.BICUBIC)


def square(image_size: int | None) -> tuple[int, int] | None:
    """Return width and height for `--image-size`: the shorter side becomes that, the longer one is cut."""
    return None if image_size is None else (image_size, image_size)


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB"):
        if "transparency" not in image.info:
            image.load()
            return image
    elif image.mode.startswith("I") or image.mode == "F":
        wide = np.asarray(image).astype(np.float64)
        scaled = wide / 256 if image.mode.startswith("I") else wide
        return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        color = image.convert("RGBA")
        paper = Image.new("RGBA", color.size, "white")
        image = Image.alpha_composite(paper, color).convert("RGB")
    return image.convert("L" if grey else "RGB")


def decode_files(
    place: Path, files: Sequence[Path], size: tuple[int, int] | None, on_progress: OnProgress | None = None
) -> Iterator[Pixels | DataError]:
    """Decode files on all cores, in their order: uint8 [H, W] or [H, W, 3], or why that can't be done.

    Args:
        place: The folder, for what is reported.
        files: What to decode.
        size: Width and height that all are made into; None to take them as they are.
        on_progress: Called now and then.
    """

    def decode_chunk(start: int) -> list[Pixels | DataError]:
        decoded: list[Pixels | DataError] = []
        for path in files[start : start + _CHUNK]:
            try:
                decoded.append(np.asarray(decode(path, size)))
            except DataError as error:
                decoded.append(error)
        return decoded

    starts = range(0, len(files), _CHUNK)
    # Decoders run without Python's lock.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            for start, chunk in zip(starts, pool.map(decode_chunk, starts), strict=True):
                yield from chunk
                if on_progress is not None:
                    on_progress(f"decoding {place.name}", min(1.0, (start + _CHUNK) / len(files)))
        finally:
            pool.shutdown(cancel_futures=True)

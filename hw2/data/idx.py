"""The IDX format of the MNIST files: reading with every promise of the header checked, and writing.

An IDX file is two zero bytes, a type byte (8: unsigned bytes), the number of dimensions, each dimension as a
big-endian 32-bit number, then the values (http://yann.lecun.com/exdb/mnist/). The header decides how much
memory is used: nothing is allocated that the file on disk could not fill, nothing unpacked beyond what it
promises.
"""

import gzip
import math
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hw2.common.errors import DataError
from hw2.data.formats.requirements import pixel_limit_problem

UNSIGNED_BYTES = 8
INTEGERS = 12  # of four bytes, the highest first
QMNIST_COLUMNS = 8
GZIP_MAGIC = b"\x1f\x8b"
# Deflate can't do better than 258 bytes in 2 bits (RFC 1951): a longer promise is false before anything is
# unpacked.
LARGEST_DEFLATE_RATIO = 1032
PIECE = 256 * 1024


def read_idx(
    path: Path, max_pixels: int | None = None, check: Callable[[tuple[int, ...]], None] | None = None
) -> NDArray[np.uint8]:
    """Read one IDX file, plain or gzip (told by content, not by name), as uint8 in the header's shape.

    Memory stays at the promised size and a constant of about one megabyte.

    Args:
        max_pixels: how many the last two dimensions may promise together; more is refused by the header alone.
        check: called with the promised shape before anything is allocated.

    Raises:
        DataError: anything but exactly the bytes that the header promises.
    """

    def check_shape(shape: tuple[int, ...]) -> None:
        if max_pixels is not None and len(shape) > 1 and math.prod(shape[-2:]) > max_pixels:
            raise pixel_limit_problem(path, shape[-1], shape[-2], max_pixels)
        if check is not None:
            check(shape)

    values: NDArray[np.uint8] = _read_file(path, {UNSIGNED_BYTES: np.dtype(np.uint8)}, check_shape)
    return values


def read_integers(path: Path) -> NDArray[Any]:
    """Read one IDX file of whole numbers, of one byte or of four; as `read_idx`."""
    kinds: dict[int, np.dtype[Any]] = {UNSIGNED_BYTES: np.dtype(np.uint8), INTEGERS: np.dtype(">i4")}
    return _read_file(path, kinds, lambda _: None)


def _read_file(
    path: Path, kinds: Mapping[int, np.dtype[Any]], check: Callable[[tuple[int, ...]], None]
) -> NDArray[Any]:
    try:
        size = path.stat().st_size
        with path.open("rb") as plain:
            packed = plain.read(2) == GZIP_MAGIC
            plain.seek(0)
            if not packed:
                return _read(plain, path, size, kinds, check)
            with gzip.GzipFile(fileobj=plain, mode="rb") as unpacked:
                return _read(unpacked, path, size * LARGEST_DEFLATE_RATIO, kinds, check)
    except EOFError as error:
        raise DataError(f"{path}: the gzip stream ends too early; copy or download the file again") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip ({error}); copy or download the file again") from error
    except MemoryError as error:
        raise DataError(f"{path}: {error}; use a machine with more memory, or fewer images") from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); check that it exists, and its rights") from error


def write_idx(path: Path, values: ArrayLike) -> None:
    """Write uint8 values; with the suffix .gz as gzip without time and name: equal values, equal bytes."""
    array = np.asarray(values).astype(np.uint8, casting="no")
    content = header(array.shape) + array.tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, compresslevel=9, mtime=0)
    path.write_bytes(content)


def header(shape: tuple[int, ...]) -> bytes:
    """Build the header of an IDX file with unsigned bytes in this shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, UNSIGNED_BYTES, len(shape), *shape)


def _read(
    stream: BinaryIO | gzip.GzipFile,
    path: Path,
    max_bytes: int,
    kinds: Mapping[int, np.dtype[Any]],
    check: Callable[[tuple[int, ...]], None],
) -> NDArray[Any]:
    """Read one file from its start; `max_bytes` is the most that the stream can hold."""
    magic = _exactly(stream, 4, path)
    zero, kind, dimensions = struct.unpack(">HBB", magic)
    if zero != 0 or kind not in kinds or not 1 <= dimensions <= 4:
        raise DataError(
            f"{path}: wrong magic number 0x{magic.hex()}, expected 0x0000080N with N of 1 to 4 dimensions "
            "(0x00000803 for images, 0x00000801 for labels); is this an IDX file of unsigned bytes?"
        )
    shape = struct.unpack(f">{dimensions}I", _exactly(stream, 4 * dimensions, path))
    check(shape)
    promised = math.prod(shape) * kinds[kind].itemsize
    form = " x ".join(f"{side:,}" for side in shape)
    room = max_bytes - 4 - 4 * dimensions
    # A shape can promise nothing (a side of 0) and still be beyond what an array's strides can say.
    if promised > room or math.prod(side or 1 for side in shape) > sys.maxsize:
        raise DataError(
            f"{path}: truncated or damaged, the header promises {form} = {promised:,} bytes where there is "
            f"room for {max(room, 0):,} at most; copy or download it again"
        )
    values = np.empty(promised, dtype=np.uint8)
    filled = _fill(stream, values.data)
    if filled < promised:
        raise DataError(
            f"{path}: truncated, found {filled:,} of the {promised:,} bytes that its header says ({form}); "
            "copy or download it again"
        )
    if stream.read(1):
        raise DataError(
            f"{path}: bytes follow after the {promised:,} that the header promises ({form}); "
            "the header's count is wrong or the file is damaged: copy or download it again"
        )
    return values.view(kinds[kind]).reshape(shape)


def _exactly(stream: BinaryIO | gzip.GzipFile, count: int, path: Path) -> bytes:
    content = bytearray(count)
    if _fill(stream, memoryview(content)) < count:
        raise DataError(f"{path}: empty or truncated, ends within the IDX header; copy or download it again")
    return bytes(content)


def _fill(stream: BinaryIO | gzip.GzipFile, target: memoryview) -> int:
    """Fill the target as far as the stream goes; return the number of bytes."""
    filled = 0
    while filled < len(target):
        piece = stream.read(min(len(target) - filled, PIECE))
        if not piece:
            break
        target[filled : filled + len(piece)] = piece
        filled += len(piece)
    return filled

"""The IDX reader gives exactly what a file says, or names the file and what is wrong with it."""

import gzip
import math
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hw2.common.errors import DataError
from hw2.data.idx import header, read_idx, write_idx

ALLOWANCE = 1 << 20  # what the reader may use beyond twice the promised size, in bytes
EVERY_EXAMPLE = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_values_come_back_in_their_shape_from_plain_and_gzip_files(tmp_path: Path) -> None:
    values = torch.arange(2 * 3 * 5, dtype=torch.uint8).reshape(2, 3, 5)
    for name in ("values-idx3-ubyte", "values-idx3-ubyte.gz"):
        write_idx(tmp_path / name, values)
        assert torch.equal(torch.from_numpy(read_idx(tmp_path / name)), values)


def test_gzip_is_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    write_idx(tmp_path / "a.gz", torch.tensor([1, 2, 3], dtype=torch.uint8))
    (tmp_path / "a.gz").rename(tmp_path / "plain-by-name")
    assert read_idx(tmp_path / "plain-by-name").tolist() == [1, 2, 3]


def test_a_gzip_of_several_members_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "two-members.gz"
    path.write_bytes(gzip.compress(header((4,)) + b"\1\2") + gzip.compress(b"\3\4"))
    assert read_idx(path).tolist() == [1, 2, 3, 4]


def test_equal_values_are_written_as_equal_bytes_whatever_the_name_and_time(tmp_path: Path) -> None:
    for name in ("one.gz", "another.gz"):
        write_idx(tmp_path / name, torch.tensor([7, 8], dtype=torch.uint8))
    one = (tmp_path / "one.gz").read_bytes()
    assert one == (tmp_path / "another.gz").read_bytes()
    assert one[3:8] == b"\0\0\0\0\0"  # no flags, so no name; no time


FOUR = header((4,))
DAMAGES = {
    "an empty file": (b"", "empty or truncated"),
    "half a header": (FOUR[:6], "empty or truncated"),
    "a truncated plain file": (FOUR + b"\1\2", "promises 4 = 4 bytes where there is room for 2"),
    "trailing bytes": (FOUR + b"\1\2\3\4\5", "bytes follow after the 4"),
    "nothing in an endless shape": (header((2**32 - 1, 2**32 - 1, 0)), "= 0 bytes where there is room for 0"),
    "signed bytes": (b"\0\0\x09\1" + FOUR[4:] + b"\1\2\3\4", "wrong magic number 0x00000901"),
    "no dimension": (b"\0\0\x08\0\1", "wrong magic number 0x00000800"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(50), "wrong magic number 0x89504e47"),
    "a truncated gzip": (gzip.compress(FOUR + b"\1\2\3\4")[:-9], "ends too early"),
    "a gzip cut in its check sum": (gzip.compress(FOUR + b"\1\2\3\4")[:-3], "ends too early"),
    "a gzip of too little": (gzip.compress(FOUR + b"\1\2"), "truncated, found 2 of the 4 bytes"),
    "a gzip of too much": (gzip.compress(FOUR + b"\1\2\3\4\5"), "bytes follow after the 4"),
    "a gzip with a wrong check sum": (
        gzip.compress(FOUR + b"\1\2\3\4")[:-8] + bytes(8),
        "damaged gzip",
    ),
    "a gzip with damaged blocks": (gzip.compress(FOUR)[:10] + b"\xff" * 30, "damaged gzip"),
    "bytes after the gzip": (gzip.compress(FOUR + b"\1\2\3\4") + b"more", "damaged gzip"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_what_is_wrong_in_one_line(tmp_path: Path, damage: str) -> None:
    content, expected = DAMAGES[damage]
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message


def test_a_missing_file_and_a_folder_are_errors_of_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "missing")
    with pytest.raises(DataError, match="directory"):
        read_idx(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_promises_four_terabytes_costs_no_memory(tmp_path: Path, packed: bool) -> None:
    content = header((2**12, 2**15, 2**15)) + bytes(1000)
    (tmp_path / "huge").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match="promises 4,096 x 32,768 x 32,768 = 4,398,046,511,104 bytes"):
        _read_measured(tmp_path / "huge", promised=0)


def test_a_promise_beyond_the_machine_is_an_error_of_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 9.00 GiB for an array")

    write_idx(tmp_path / "large", torch.zeros(4, dtype=torch.uint8))
    monkeypatch.setattr("numpy.empty", refuse)
    with pytest.raises(DataError, match=r"large: Unable to allocate 9.00 GiB .* more memory"):
        read_idx(tmp_path / "large")


def test_a_gzip_bomb_behind_a_small_promise_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(gzip.compress(header((10,)) + bytes(200_000_000), compresslevel=1))
    with pytest.raises(DataError, match="bytes follow after the 10"):
        _read_measured(tmp_path / "bomb", promised=10)


@EVERY_EXAMPLE
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_give_values_or_an_error_of_data(tmp_path: Path, content: bytes, packed: bool) -> None:
    _check(tmp_path / "any", gzip.compress(content) if packed else content)


@EVERY_EXAMPLE
@given(st.data())
def test_a_file_with_damaged_bytes_gives_values_or_an_error_of_data(
    tmp_path: Path, data: st.DataObject
) -> None:
    shape = tuple(data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=4), label="shape"))
    content = header(shape) + data.draw(st.binary(min_size=math.prod(shape), max_size=math.prod(shape)))
    if data.draw(st.booleans(), label="packed"):
        content = gzip.compress(content, mtime=0)
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3), label="damages")):
        position = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        kind = data.draw(st.sampled_from(["change", "cut", "add"]))
        if kind == "cut":
            del damaged[position:]
        elif kind == "add":
            damaged += data.draw(st.binary(max_size=20))
        elif damaged:
            damaged[position] = data.draw(st.integers(0, 255))
    _check(tmp_path / "damaged", bytes(damaged))


@EVERY_EXAMPLE
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4), st.booleans())
def test_any_promise_costs_at_most_twice_its_size(tmp_path: Path, shape: list[int], packed: bool) -> None:
    content = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(64)
    _check(tmp_path / "promise", gzip.compress(content) if packed else content)


def _check(path: Path, content: bytes) -> None:
    """What is read is exactly the content's, or a DataError, within the memory that the content states."""
    path.write_bytes(content)
    unpacked = content
    if content[:2] == b"\x1f\x8b":
        try:
            unpacked = gzip.decompress(content)
        except Exception:
            unpacked = b""
    promised = 0
    if len(unpacked) >= 4 and unpacked[:3] == b"\0\0\x08" and len(unpacked) >= 4 + 4 * unpacked[3]:
        promised = math.prod(struct.unpack_from(f">{unpacked[3]}I", unpacked, 4))
    message = None
    try:
        values = _read_measured(path, promised)
    except DataError as error:
        message = str(error)
    if message is not None:
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
    else:
        assert header(values.shape) + values.tobytes() == unpacked


def _read_measured(path: Path, promised: int) -> NDArray[np.uint8]:
    tracemalloc.start()
    try:
        return read_idx(path)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= 2 * promised + ALLOWANCE

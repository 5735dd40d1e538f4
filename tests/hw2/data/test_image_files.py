"""Image files of any kind come back as the digit that was drawn, or are refused by name."""

import gzip
import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hw2.common.errors import DataError
from hw2.data import idx, image_files
from hw2.data.image_files import PreparedImage, read_images
from hw2.data.image_set import load_dataset

DIGITS = load_dataset("mnist-sample").test


def read_one(path: Path) -> PreparedImage:
    (image,) = read_images(path)
    assert image.image.dtype == torch.uint8
    assert image.image.shape == (28, 28)
    return image


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def digit(position: int, size: int = 28) -> Image.Image:
    image = Image.fromarray(DIGITS.images[position].numpy())
    return image if size == 28 else image.resize((size, size), Image.Resampling.BICUBIC)


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """Correlation of two images in their best place, one pixel either way."""
    moved = [torch.roll(one, (dy, dx), (0, 1)).double() for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return max(
        float(torch.corrcoef(torch.stack([m.flatten(), other.double().flatten()]))[0, 1]) for m in moved
    )


# Left as they are


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_what_is_as_in_training_passes_untouched_and_without_a_note(tmp_path: Path, mode: str) -> None:
    for position in range(20):
        image = read_one(saved(tmp_path / "digit.png", digit(position).convert(mode)))
        assert torch.equal(image.image, DIGITS.images[position])
        assert image.notes == ()
        assert image.name == str(tmp_path / "digit.png")


def test_the_images_of_an_idx_file_pass_untouched_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    idx.write_idx(path, DIGITS.images[:3])
    found = list(read_images(path))
    assert [p.name for p in found] == [f"{path}[0]", f"{path}[1]", f"{path}[2]"]
    assert torch.equal(torch.stack([p.image for p in found]), DIGITS.images[:3])
    assert all(p.notes == () for p in found)


def test_what_lies_off_the_middle_is_left_as_it_is_and_said_so(tmp_path: Path) -> None:
    moved = torch.roll(DIGITS.images[0], 4, 0)
    idx.write_idx(tmp_path / "moved", moved)
    for path in (tmp_path / "moved", saved(tmp_path / "moved.png", Image.fromarray(moved.numpy()))):
        image = read_one(path)
        assert torch.equal(image.image, moved)
        (note,) = image.notes
        assert re.fullmatch(
            "taken as it is, though its ink is [2345] pixels away from where a digit's would be", note
        )


def test_no_digit_of_the_sample_has_a_note(tmp_path: Path) -> None:
    idx.write_idx(tmp_path / "digits", DIGITS.images)
    assert {image.notes for image in read_images(tmp_path / "digits")} == {()}


# Made into it, and said so


def _inverted(image: Image.Image) -> Image.Image:
    return Image.fromarray(255 - np.asarray(image))


def _padded(image: Image.Image) -> Image.Image:
    sheet = Image.new("L", (700, 500), 255)
    sheet.paste(_inverted(image), (130, 40))
    return sheet


def _colored(image: Image.Image) -> Image.Image:
    """Dark blue ink on yellow paper."""
    paper = np.asarray(_padded(image))[..., None] / 255
    return Image.fromarray((paper * [250, 240, 200] + (1 - paper) * [20, 30, 150]).astype(np.uint8))


def _noisy(image: Image.Image) -> Image.Image:
    colored = np.asarray(_colored(image))
    return Image.fromarray(
        (colored + np.random.RandomState(0).normal(0, 8, colored.shape)).clip(0, 255).astype(np.uint8)
    )


def _alpha(value: int) -> Callable[[Image.Image], Image.Image]:
    """Drawn in this grey on nothing: the digit is in the alpha channel alone."""

    def draw(image: Image.Image) -> Image.Image:
        ink: NDArray[np.uint8] = np.full((*np.asarray(image).shape, 3), value, dtype=np.uint8)
        return Image.fromarray(np.dstack([ink, np.asarray(image)]))

    return draw


def _sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


GUESSES = (
    "dark on light",
    "color taken",
    "transparent taken as white",
    "transparent taken as black",
    "upright",
)
CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], str, set[str]]] = {
    "enlarged": (lambda i: i, "png", set()),
    "inverted": (_inverted, "png", {"dark on light"}),
    "padded": (_padded, "png", {"dark on light"}),
    "colored": (_colored, "png", {"dark on light", "color taken"}),
    "lossy": (_colored, "jpg", {"dark on light", "color taken"}),
    "noisy": (_noisy, "png", {"dark on light", "color taken"}),
    "black on nothing": (_alpha(0), "png", {"transparent taken as white", "dark on light"}),
    "white on nothing": (_alpha(255), "png", {"transparent taken as black"}),
    "cropped": (lambda i: i.crop(i.getbbox()), "png", set()),
    "of 16 bits": (_sixteen_bits, "png", set()),
    "of 2 colors": (lambda i: i.convert("1"), "png", set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_digit_comes_back_near_itself_however_it_was_saved(tmp_path: Path, change: str) -> None:
    alter, suffix, words = CHANGES[change]
    for position in range(10):
        image = read_one(saved(tmp_path / f"digit.{suffix}", alter(digit(position, 280))))
        assert likeness(image.image, DIGITS.images[position]) > 0.93
        said = {word for word in GUESSES if any(word in note for note in image.notes)}
        assert said == words
        assert any(note.endswith("pixels, scaled and centered") for note in image.notes)


@pytest.mark.parametrize("kind", ["PNG", "IDX"])
def test_black_on_white_of_the_right_size_is_only_inverted(kind: str, tmp_path: Path) -> None:
    for position in range(20):
        inverted = _inverted(digit(position))
        path = tmp_path / "digit"
        if kind == "IDX":
            idx.write_idx(path, torch.from_numpy(np.array(inverted)))
        else:
            inverted.save(path, kind)
        image = read_one(path)
        assert "taken as dark on light, and inverted" in image.notes
        off = (image.image.int() - DIGITS.images[position].int()).abs()
        assert float(off.float().mean()) < 1


def test_a_photograph_that_lies_on_its_side_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees
    image = read_one(saved(tmp_path / "side.jpg", digit(2, 280).rotate(90), exif=exif, quality=95))
    assert likeness(image.image, DIGITS.images[2]) > 0.93
    assert "turned upright as its camera says" in image.notes


def test_thin_strokes_are_made_as_wide_as_they_are_in_mnist(tmp_path: Path) -> None:
    sheet = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(sheet).line([(150, 50), (250, 60), (180, 350)], fill=0, width=3)
    image = read_one(saved(tmp_path / "seven.png", sheet))
    assert "thin strokes made thicker" in image.notes
    assert int((image.image > 127).sum()) > 40
    thick = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(thick).line([(150, 50), (250, 60), (180, 350)], fill=0, width=36)
    assert "thin strokes made thicker" not in read_one(saved(tmp_path / "thick.png", thick)).notes


def test_one_color_throughout_is_black_with_a_note(tmp_path: Path) -> None:
    for color in ("white", "black", "#336699"):
        image = read_one(saved(tmp_path / "flat.png", Image.new("RGB", (90, 60), color)))
        assert not image.image.any()
        assert "nothing to be seen: one color throughout" in image.notes
    nothing = read_one(saved(tmp_path / "nothing.png", Image.new("RGBA", (90, 60), (9, 9, 9, 0))))
    assert not nothing.image.any()


def test_colors_that_cancel_each_other_out_are_a_image_all_the_same(tmp_path: Path) -> None:
    sheet = Image.new("RGB", (28, 28), (128, 128, 128))
    sheet.paste((178, 78, 128), (4, 8, 10, 20))
    sheet.paste((78, 178, 128), (18, 8, 24, 20))
    image = read_one(saved(tmp_path / "patches.png", sheet))
    assert image.image.any()
    assert "color taken as distance from the background's" in image.notes


def test_a_image_that_is_larger_than_is_looked_at_is_shrunk_in_idx_too(tmp_path: Path) -> None:
    large = digit(0, 3000)
    idx.write_idx(tmp_path / "large", torch.from_numpy(np.array(large)))
    from_idx, from_png = (
        read_one(path) for path in (tmp_path / "large", saved(tmp_path / "large.png", large))
    )
    assert torch.equal(from_idx.image, from_png.image)
    assert from_idx.notes == from_png.notes


COLORS = st.tuples(*[st.integers(0, 255)] * 3)
SIDES = st.integers(1, 60) | st.just(28)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["L", "RGB", "RGBA"]),
    st.tuples(SIDES, SIDES),
    COLORS,
    st.lists(st.tuples(COLORS, SIDES, SIDES, SIDES, SIDES), max_size=3),
)
def test_every_image_of_patches_is_made_into_one_of_28_by_28(
    tmp_path: Path,
    mode: str,
    size: tuple[int, int],
    paper: tuple[int, int, int],
    patches: list[tuple[object, ...]],
) -> None:
    sheet = Image.new("RGB", size, paper)
    for color, left, top, width, height in patches:
        sheet.paste(color, (left - 1, top - 1, left + width, top + height))
    read_one(saved(tmp_path / "patches.png", sheet.convert(mode)))


def test_several_characters_side_by_side_are_suspected(tmp_path: Path) -> None:
    sheet = Image.new("L", (900, 280))
    for place in range(3):
        sheet.paste(digit(place, 280), (300 * place, 0))
    assert any("several characters" in note for note in read_one(saved(tmp_path / "three.png", sheet)).notes)


# Refused


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _jpeg() -> bytes:
    stream = io.BytesIO()
    digit(0, 280).save(stream, "JPEG")
    return stream.getvalue()


REFUSED = {
    "no bytes": (b"", "an empty file of 0 bytes"),
    "a text": (b"not an image at all", "it begins with 0x6e6f7420616e2069"),
    "a PDF": (b"%PDF-1.7" + bytes(20), "it begins with 0x255044462d312e37"),
    "half a GIF": (b"GIF89a" + bytes(20), "a damaged image"),
    "20,000 x 20,000 pixels": (_png(20_000, 20_000, zlib.compress(b"")), "found 20,000 x 20,000 pixels"),
    "20,000 x 20,000 values": (idx.header((20_000, 20_000)), "found 20,000 x 20,000 pixels"),
    "one of them in gzip": (gzip.compress(idx.header((2, 20_000, 30_000))), "found 30,000 x 20,000 pixels"),
    "half a PNG": (_png(28, 28, zlib.compress(bytes(29 * 28)))[:45], "a damaged image"),
    "a PNG of too little": (_png(28, 28, zlib.compress(bytes(100))[:8]), "a damaged image"),
    "half a JPEG": (_jpeg()[:700], "a damaged image"),
    "the start of a JPEG": (_jpeg()[:10], "a damaged image"),
    "labels": (idx.header((3,)) + b"\1\2\3", "found values of shape 3, expected images"),
    "no image in IDX": (idx.header((0, 28, 28)), "found values of shape 0 x 28 x 28"),
    "a truncated IDX": (idx.header((2, 28, 28)) + bytes(900), "truncated"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_image_is_refused_by_name_in_one_line(tmp_path: Path, kind: str) -> None:
    content, expected = REFUSED[kind]
    path = tmp_path / "file.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_images(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        list(read_images(tmp_path / "missing.png"))
    with pytest.raises(DataError, match="directory"):
        list(read_images(tmp_path))


def test_whatever_goes_wrong_with_one_image_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ink: Image.Image) -> NDArray[np.uint8]:
        raise IndexError("no such\nplace")

    monkeypatch.setattr(image_files, "center_like_mnist", broken)
    path = saved(tmp_path / "digit.png", digit(0, 280))
    with pytest.raises(DataError, match=r"digit\.png: can't be made into 28 x 28 pixels \(no such\)"):
        read_one(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_image_gives_a_image_or_an_error_of_data(tmp_path: Path, data: st.DataObject) -> None:
    stream = io.BytesIO()
    mode = data.draw(st.sampled_from(["L", "RGB", "RGBA", "P", "1", "I;16"]), label="mode")
    kind = data.draw(st.sampled_from(["PNG", "JPEG"]), label="kind") if mode in ("L", "RGB") else "PNG"
    image = _sixteen_bits(digit(0)) if mode == "I;16" else digit(0).convert(mode)
    image.save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(0, 4), label="damages")):
        position = data.draw(st.integers(3, len(content) - 1), label="position")
        content[position] = data.draw(st.integers(0, 255), label="value")
    del content[data.draw(st.integers(4, len(content)), label="length") :]
    path = tmp_path / "damaged"
    path.write_bytes(bytes(content))
    try:
        found = list(read_images(path))
    except DataError:
        return
    assert [p.image.shape for p in found] == [(28, 28)]

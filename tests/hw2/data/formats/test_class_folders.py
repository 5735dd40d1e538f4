"""Class folders become arrays, once; what can't be an image set is refused in one line."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hw2.common.errors import ConfigurationError, DataError
from hw2.data import lookup
from hw2.data.formats import class_folders, requirements
from hw2.data.image_set import load_dataset
from tests.hw2.data.formats.image_folders import write_classes, write_images

pytestmark = pytest.mark.usefixtures("empty_cache")
SPLIT = {"train": {"cat": 8, "dog": 6}, "test": {"cat": 3, "dog": 2}}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for number, (part, counts) in enumerate(SPLIT.items()):
        for seed, (name, count) in enumerate(counts.items()):
            write_images(tmp_path / "My Pets" / part / name, count, 10 * number + seed)
    return tmp_path / "My Pets"


def test_folders_are_classes_and_parts(pets: Path) -> None:
    write_images(pets / "valid" / "dog", 2, 77)
    found = load_dataset(str(pets))
    assert found.name == "my-pets"
    assert found.train.classes == ("cat", "dog")
    assert found.train.images.shape == (14, 10, 12, 3)
    assert found.train.labels.tolist() == [0] * 8 + [1] * 6
    assert found.validation is not None
    assert (len(found.test), len(found.validation)) == (5, 2)
    first = np.asarray(Image.open(pets / "train" / "dog" / "000.png"))
    assert (found.train.images[8].numpy() == first).all()
    assert found.identity == lookup.identify_dataset(str(pets))
    assert found.identity.validation_images == 2


def test_files_are_decoded_once_until_one_changes(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_dataset(str(pets))
    decode = class_folders.decode_files
    monkeypatch.setattr(class_folders, "decode_files", None)
    assert load_dataset(str(pets)).sha256 == before.sha256
    monkeypatch.setattr(class_folders, "decode_files", decode)
    write_images(pets / "train" / "cat", 1, 99)
    assert load_dataset(str(pets)).sha256 != before.sha256
    (pets / "train" / "cat" / "000.png").unlink()
    assert len(load_dataset(str(pets)).train) == 13


def test_a_damaged_cache_is_decoded_anew(pets: Path, empty_cache: Path) -> None:
    before = load_dataset(str(pets))
    (cached,) = (empty_cache / "decoded").iterdir()
    cached.write_bytes(cached.read_bytes()[:-300])
    assert load_dataset(str(pets)).sha256 == before.sha256


def test_without_parts_a_seventh_of_each_class_is_to_test_whatever_the_files_are_called(
    tmp_path: Path,
) -> None:
    folder = write_classes(tmp_path / "a", {"x": 21, "y": 14})
    shutil.copyfile(folder / "x" / "003.png", folder / "x" / "copy.png")
    found = load_dataset(str(folder))
    assert "14 (a seventh" not in found.notes[-1]
    assert (
        "divided by their SHA-256: 31 to train, 5 " in found.notes[-1] or "30 to train, 6 " in found.notes[-1]
    )
    assert np.bincount(found.test.labels).tolist() in ([3, 2], [4, 2])
    for number, path in enumerate(sorted((folder / "x").iterdir(), reverse=True)):
        path.rename(path.with_name(f"renamed-{number}.png"))
    again = load_dataset(str(folder))
    assert {image.numpy().tobytes() for image in again.test.images} == {
        i.numpy().tobytes() for i in found.test.images
    }


def test_other_sizes_need_image_size_and_grey_among_color_is_made_color(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "a", {"x": 7}, size=(40, 20))
    write_classes(folder, {"y": 7}, size=(16, 32), mode="L", suffix=".jpg")
    with pytest.raises(
        DataError, match=r"000.jpg has 16 x 32 pixels, .*000.png 40 x 20; make all .*--image-size N"
    ):
        load_dataset(str(folder))
    found = load_dataset(str(folder), image_size=8)
    assert found.train.images.shape[1:] == (8, 8, 3)
    assert "7 grey images among 7 in color made color, too" in found.notes
    assert "images scaled so that the shorter side is 8, and their middle cut out" in found.notes
    with pytest.raises(ConfigurationError, match="image_size is 8, but mnist-sample is no folder"):
        load_dataset("mnist-sample", image_size=8)


def test_hidden_files_are_left_out_and_a_few_damaged_ones_too(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "a", {"x": 100, "y": 99}, size=(8, 8))
    (folder / "x" / "Thumbs.db").write_bytes(b"no image")
    (folder / ".DS_Store").write_bytes(b"no image")
    (folder / "y" / "note.txt").write_text("no image", encoding="utf-8")
    found = load_dataset(str(folder))
    assert len(found.train) + len(found.test) == 199
    assert found.notes[0] == "2 hidden files left out"
    assert "1 file left out that can't be used" in found.notes[1]
    assert "note.txt" in found.notes[1]
    for number in range(2):
        (folder / "y" / f"note{number}.txt").write_text("no image", encoding="utf-8")
    with pytest.raises(DataError, match=r"3 of 202 files can't be used \(.*note.txt.*expected 1 % at most"):
        load_dataset(str(folder))


def _truncated(folder: Path) -> None:
    write_images(folder / "train" / "cat", 1, suffix=".jpg", size=(64, 64))
    path = folder / "train" / "cat" / "000.jpg"
    path.write_bytes(path.read_bytes()[:1000])


def _bomb(folder: Path) -> None:
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (folder / "train" / "cat" / "big.png").write_bytes(
        png + struct.pack(">I", 0) + b"IDAT" + b"\x35\xaf\x06\x1e"
    )


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no train part": (
        lambda f: shutil.rmtree(f / "train"),
        "found test but no folder train; put the images into train/",
    ),
    "no test part": (lambda f: shutil.rmtree(f / "test"), "found train but no folder test"),
    "a class in test only": (
        lambda f: write_images(f / "test" / "fox", 1),
        "the class fox is in the test part only",
    ),
    "one class": (
        lambda f: (shutil.rmtree(f / "train" / "dog"), shutil.rmtree(f / "test" / "dog")),
        r"found 1 class \(cat\)",
    ),
    "an empty class": (lambda f: (f / "train" / "fox").mkdir(), "fox: an empty class"),
    "a long name": (
        lambda f: write_images(f / "train" / ("x" * 200), 1),
        "has 200 characters, expected 100 at most",
    ),
    "a control character": (
        lambda f: write_images(f / "train" / "a\x07b", 1),
        r"'a\\x07b' has characters that can't be",
    ),
    "classes alike but for case": (
        lambda f: write_images(f / "train" / "Cat", 1),
        "'cat' differs from 'Cat' only in case",
    ),
    "files alike but for case": (
        lambda f: shutil.copyfile(f / "train" / "cat" / "001.png", f / "train" / "cat" / "001.PNG"),
        "001.PNG and 001.png differ only in case",
    ),
    "a link in a circle": (lambda f: os.symlink("loop", f / "train" / "loop"), "loop: can't be followed"),
    "a link to the folder above": (
        lambda f: os.symlink("..", f / "train" / "loop"),
        "found a folder in a class's folder",
    ),
    "a truncated JPEG": (_truncated, "can't be used .*000.jpg: can't be read or decoded"),
    "50,000 x 50,000 pixels": (_bomb, "big.png: found 50,000 x 50,000 pixels, expected 64,000,000 at most"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_makes_no_image_set_is_refused_in_one_line(pets: Path, kind: str) -> None:
    damage, expected = REFUSED[kind]
    damage(pets)
    with pytest.raises(DataError, match=expected) as refusal:
        load_dataset(str(pets))
    assert "\n" not in str(refusal.value)


def test_images_that_are_too_many_for_the_memory_are_refused_with_numbers(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "_memory", lambda: 2 * 4000)
    with pytest.raises(DataError, match=r"19 x 10 x 12 x 3 = 0.00 GiB .* half of this machine's memory"):
        load_dataset(str(pets))


def test_images_of_7_pixels_are_too_small(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "a", {"x": 7, "y": 7}, size=(7, 9))
    with pytest.raises(
        DataError, match=r"000.png: found images of 7 x 9 pixels, expected sides of 8 to 128; scale"
    ):
        load_dataset(str(folder))

"""An `.npz` in MedMNIST's layout becomes an image set; another is refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hw2.common.errors import DataError
from hw2.data.image_set import load_dataset


def arrays(shape: tuple[int, ...] = (9, 8), **other: Any) -> dict[str, Any]:
    """Three classes; labels [N, 1] as MedMNIST has them."""
    random = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for part, count in (("train", 30), ("val", 6), ("test", 9)):
        made[f"{part}_images"] = random.integers(0, 256, (count, *shape)).astype(np.uint8)
        made[f"{part}_labels"] = (np.arange(count) % 3)[:, None]
    return {key: value for key, value in {**made, **other}.items() if value is not None}


def write(path: Path, **content: Any) -> Path:
    np.savez_compressed(path, **content)
    return path


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3), (9, 8, 1)])
def test_a_file_has_parts_and_numbered_classes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    content = arrays(shape)
    found = load_dataset(str(write(tmp_path / "blood.npz", **content)))
    assert (found.name, found.train.classes) == ("blood", ("0", "1", "2"))
    assert found.validation is not None
    assert (len(found.train), len(found.validation), len(found.test)) == (30, 6, 9)
    assert (found.test.images.numpy() == content["test_images"].reshape(found.test.images.shape)).all()


def test_names_stand_beside_the_file_and_labels_may_run_from_1(tmp_path: Path) -> None:
    content = {
        k: v + 1 if k.endswith("labels") else v for k, v in arrays(val_images=None, val_labels=None).items()
    }
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n", encoding="utf-8")
    found = load_dataset(str(write(tmp_path / "a.npz", **content)))
    assert found.validation is None
    assert found.train.classes == ("red", "green", "blue")
    assert sorted(set(found.train.labels.tolist())) == [0, 1, 2]
    (tmp_path / "classes.txt").write_text("red\ngreen\n", encoding="utf-8")
    with pytest.raises(DataError, match="found labels from 1 to 3, expected 2 classes as named"):
        load_dataset(str(tmp_path / "a.npz"))
    for name in ("red", "b"):  # Python keeps a text of one character once: equal and the same
        (tmp_path / "classes.txt").write_text(f"{name}\ngreen\n{name}\n", encoding="utf-8")
        with pytest.raises(DataError, match=f"the class name '{name}' is there twice"):
            load_dataset(str(tmp_path / "a.npz"))
    (tmp_path / "classes.txt").write_text("red\ngreen/blue\ncyan\n", encoding="utf-8")
    with pytest.raises(DataError, match="'green/blue' has a slash"):
        load_dataset(str(tmp_path / "a.npz"))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "objects": (
        {"train_images": np.array([{}] * 30, dtype=object)},
        "train_images holds Python objects, .*never",
    ),
    "no test images": ({"test_images": None}, "found no array test_images, only test_labels, train_images"),
    "float images": (
        {"train_images": np.zeros((30, 9, 8))},
        "train_images is of type float64, expected uint8",
    ),
    "several labels an image": (
        {"train_labels": np.zeros((30, 3), int)},
        "train_labels has shape 30 x 3, expected N",
    ),
    "float labels": ({"test_labels": np.zeros(9)}, "test_labels is of type float64, expected whole numbers"),
    "labels that skip a number": (
        {"train_labels": np.arange(30) % 2 * 2},
        "the class 1 is in the validation part only|class 1",
    ),
    "a label fewer": ({"train_labels": np.zeros(29, int)}, "found 29 values in train_labels, expected 30"),
    "volumes": (
        {"train_images": np.zeros((30, 9, 8, 8), np.uint8)},
        "has shape 30 x 9 x 8 x 8, expected N x H x W",
    ),
    "another size": (
        {"test_images": np.zeros((9, 8, 8), np.uint8)},
        "the test images are 8 x 8 pixels, those to train on 8 x 9",
    ),
    "more than the memory": ({"train_images": np.zeros((0, 2**40), np.uint8)}, "has shape 0 x"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_file_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    changed, expected = REFUSED[kind]
    path = write(tmp_path / "a.npz", **arrays(**changed))
    with pytest.raises(DataError, match=expected) as refusal:
        load_dataset(str(path))
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", **arrays())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a damaged .npz"):
        load_dataset(str(path))

"""Sets are found where a person put them, refused where they are damaged, and never fetched unasked."""

import os
import re
from pathlib import Path

import pytest
import torch

from hw2.common.constants import DIGITS
from hw2.common.errors import DataError
from hw2.data import catalog, files, idx
from hw2.data.image_set import load_dataset, load_folder, load_split
from tests.hw2.data.idx_sets import write_set

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize("place", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_set_is_found_in_each_layout_plain_or_packed(tmp_path: Path, place: str, suffix: str) -> None:
    write_set(tmp_path / "D" / place, suffix=suffix)
    found = load_dataset("mnist", tmp_path / "D")
    assert (found.name, found.is_sample) == ("mnist", False)
    assert (len(found.train), len(found.test)) == (30, 20)
    assert found.train.labels[:11].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert found.train.images.dtype == torch.uint8
    assert found.train.labels.dtype == torch.int64
    assert str(tmp_path / "D") in found.train.source


def test_without_files_the_embedded_sample_serves_under_its_own_name() -> None:
    sample = load_dataset("mnist")
    assert (sample.name, sample.is_sample) == ("mnist-sample", True)
    assert sample.train.source == "embedded sample"
    assert torch.bincount(sample.train.labels).tolist() == [400] * 10
    assert torch.bincount(sample.test.labels).tolist() == [100] * 10


def test_a_sample_can_be_asked_for_by_name() -> None:
    assert load_dataset("mnist-sample").sha256 == load_dataset("mnist").sha256
    assert load_split("fashion-mnist-sample", "test").sha256 == load_split("fashion-mnist", "test").sha256


def test_what_was_downloaded_goes_before_the_sample(empty_cache: Path, small_mnist: None) -> None:
    write_set(empty_cache / "MNIST" / "raw")
    found = load_dataset("mnist")
    assert (found.name, found.is_sample, len(found.train)) == ("mnist", False, 30)


def test_a_folder_that_was_given_and_lacks_the_files_is_refused_and_not_replaced_by_the_sample(
    tmp_path: Path,
) -> None:
    (tmp_path / "D").mkdir()
    (tmp_path / "D" / "notes.txt").write_text("no images", encoding="utf-8")
    with pytest.raises(DataError, match=r"found no train-images-idx3-ubyte\[.gz\] and t10k-.*by --download"):
        load_dataset("mnist", tmp_path / "D")


@pytest.mark.parametrize("name", ["kmnist", "folder", "empty", "missing"])
def test_an_error_speaks_of_options_that_the_command_line_has(
    name: str, empty_cache: Path, tmp_path: Path
) -> None:
    for folder in ("folder", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    with pytest.raises(DataError) as caught:
        load_dataset(*([name] if name == "kmnist" else ["mnist", tmp_path / name]))
    assert not re.search(r"data_dir|download=", str(caught.value))
    assert ("--download" in str(caught.value)) == (name in ("kmnist", "folder"))


def test_missing_empty_and_unreadable_folders_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}/missing: not a readable folder .No such file"):
        load_dataset("mnist", tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"^{tmp_path}/empty: an empty folder"):
        load_dataset("mnist", tmp_path / "empty")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=rf"^{tmp_path}/file: not a readable folder .Not a directory"):
        load_dataset("mnist", tmp_path / "file")

    def refuse(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    # Permissions do not stop a test that runs as root.
    monkeypatch.setattr(files.os, "listdir", refuse)
    with pytest.raises(DataError, match=r"not a readable folder .Permission denied"):
        load_dataset("mnist", tmp_path / "empty")


def test_a_folder_within_the_data_folder_that_may_not_be_read_is_no_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path / "MNIST" / "raw")
    (tmp_path / "FashionMNIST").mkdir()
    stat = Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path.name == "raw":  # as below a folder without the right to search it, which doesn't stop root
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    for load in (
        lambda: load_dataset("mnist", tmp_path),
        lambda: load_dataset(str(tmp_path / "MNIST" / "raw")),
        lambda: load_split("fashion-mnist", "test", tmp_path),
        lambda: load_split("fashion-mnist", "test", tmp_path, sibling=True),
        lambda: load_folder(tmp_path / "MNIST"),
    ):
        with pytest.raises(DataError, match=r"^/.*raw: not a readable folder .Permission denied"):
            load()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("~no-such-person/data", "found no such person's home folder; write the whole path"),
        ("long" * 100, "not a readable folder (File name too long)"),
    ],
    ids=["~", "long"],
)
def test_a_path_that_names_nothing_is_refused_in_one_line(path: str, said: str) -> None:
    for load in (
        lambda: load_dataset(path),
        lambda: load_dataset("mnist", Path(path)),
        lambda: load_split("fashion-mnist", "test", Path(path), sibling=True),
        lambda: load_folder(Path(path)),
    ):
        with pytest.raises(DataError) as refusal:
            load()
        assert said in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_any_folder_of_idx_files_is_a_set_by_its_path(tmp_path: Path) -> None:
    write_set(tmp_path / "My Digits" / "raw", train=40)
    found = load_dataset(str(tmp_path / "My Digits"))
    assert (found.name, found.is_sample, len(found.train)) == ("my-digits", False, 40)
    assert load_split(str(tmp_path / "My Digits"), "train").sha256 == found.train.sha256


def test_a_folder_never_takes_the_name_of_a_known_set(tmp_path: Path) -> None:
    for name in ("mnist", "mnist-sample"):
        write_set(tmp_path / name)
        assert load_dataset(str(tmp_path / name)).name == f"{name}-folder"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"unknown data set 'minst': expected mnist, fashion-mnist, kmnist"):
        load_dataset("minst")


def test_emnist_is_turned_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = catalog.DatasetSpec("EMNIST", DIGITS, (3, 2), prefix="emnist-digits-", transposed=True)
    monkeypatch.setitem(catalog.DATASETS, "emnist-digits", known)
    folder = write_set(tmp_path / "EMNIST" / "raw", 3, 2, "emnist-digits-", "test", suffix="")
    stored = idx.read_idx(folder / "emnist-digits-test-images-idx3-ubyte")
    found = load_dataset("emnist-digits", tmp_path)
    assert torch.equal(found.test.images, torch.from_numpy(stored).transpose(1, 2))
    assert found.test.images.is_contiguous()


def test_a_known_set_whose_labels_run_from_1_has_its_first_class_at_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = catalog.DatasetSpec("EMNIST", tuple("abcdefghi"), (9, 9), prefix="letters-", first_label=1)
    monkeypatch.setitem(catalog.DATASETS, "emnist-letters", letters)
    write_set(tmp_path, 9, 9, "letters-", "test", labels_from=1)
    found = load_dataset("emnist-letters", tmp_path)
    assert found.test.labels.tolist() == list(range(9))
    assert found.test.classes[0] == "a"
    assert torch.equal(load_split("emnist-letters", "test", tmp_path).labels, found.test.labels)


def test_outliers_come_from_the_sample_where_the_folder_lacks_them(tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    garments = load_split("fashion-mnist", "test", tmp_path)
    assert (garments.name, len(garments), garments.classes[9]) == (
        "fashion-mnist-sample",
        1_000,
        "Ankle boot",
    )
    with pytest.raises(DataError, match="kmnist"):
        load_split("kmnist", "test", tmp_path)
    with pytest.raises(DataError, match=r"neither in .* nor as an embedded sample"):
        load_dataset("fashion-mnist")


def test_a_damaged_set_is_refused_and_not_replaced_by_the_sample(tmp_path: Path) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    write_set(folder)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz: empty"):
        load_split("fashion-mnist", "test", tmp_path)


@pytest.mark.usefixtures("small_mnist")
def test_a_download_is_torchvisions_and_is_found_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    def fetch(root: str, download: bool) -> None:
        assert download
        print("what torchvision says")
        write_set(Path(root) / "MNIST" / "raw")

    monkeypatch.setattr(datasets, "MNIST", fetch)
    assert load_dataset("mnist").is_sample
    fetched = load_dataset("mnist", download=True)
    assert (fetched.is_sample, len(fetched.train)) == (False, 30)
    assert load_dataset("mnist").sha256 == fetched.sha256


def test_a_failed_download_says_where_to_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from torchvision import datasets

    def fail(root: str, download: bool) -> None:
        print("trying a mirror")
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nno route to host")

    monkeypatch.setattr(datasets, "MNIST", fail)
    with pytest.raises(
        DataError, match=rf"^mnist could not be downloaded to {tmp_path} .no route to host.*--data-dir"
    ):
        load_dataset("mnist", tmp_path, download=True)
    assert capfd.readouterr() == ("", "")

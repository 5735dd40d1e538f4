"""The pictures of a run: digits and outliers from one folder in any layout, and enough of them."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from hw2 import catalogue
from hw2.configuration import TrainingConfig
from hw2.errors import ConfigurationError
from mlflow_project import cli, pictures
from tests.support.tiny import TEST, TRAIN, make_tiny, options

LAYOUTS = ("{set}/raw", "raw", ".")


def laid_out(tmp_path: Path, name: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny pictures as those of a known set, which is published with as many."""
    known = catalogue.DATASETS[name]
    small = dataclasses.replace(known, sizes=(TRAIN, TEST), md5={})
    monkeypatch.setitem(catalogue.DATASETS, name, small)
    folder = tmp_path / "data"
    shutil.copytree(make_tiny(tmp_path / "tiny") / "raw", folder / layout.format(set=known.folder))
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("name", "others"), [("mnist", "fashion-mnist"), ("kmnist", "fashion-mnist"), ("fashion-mnist", "mnist")]
)
def test_the_outliers_are_never_the_digits_files(
    name: str, others: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = laid_out(tmp_path, name, layout, monkeypatch)
    _, loaded = pictures.load(TrainingConfig(dataset=name, validation_size=100), data)
    assert (loaded.dataset.name, loaded.outliers.name) == (name, f"{others}-sample")


def test_the_outliers_folder_goes_before_the_cache_and_that_before_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = laid_out(tmp_path, "mnist", ".", monkeypatch)
    garments = dataclasses.replace(catalogue.DATASETS["fashion-mnist"], sizes=(TRAIN, TEST), md5={})
    monkeypatch.setitem(catalogue.DATASETS, "fashion-mnist", garments)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    places = [tmp_path / "torch" / "datasets" / "vision", data]
    config = TrainingConfig(dataset="mnist", validation_size=100)
    for place in places:
        raw = place / "FashionMNIST" / "raw"
        shutil.copytree(tmp_path / "tiny" / "raw", raw)
        assert pictures.load(config, data)[1].outliers.source == str(raw)


@pytest.mark.parametrize("layout", ["", "MNIST", "MNIST/raw"])
def test_the_full_set_can_be_named_by_any_of_its_folders(layout: str, full_data: Path) -> None:
    config = TrainingConfig(dataset="mnist")
    _, loaded = pictures.load(config, full_data / layout)
    assert (len(loaded.dataset.train), len(loaded.dataset.test)) == (60_000, 10_000)
    assert loaded.outliers.name == ("fashion-mnist-sample" if layout else "fashion-mnist")


def test_the_outlier_test_finds_digits_and_outliers_in_a_flat_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hw2.outlier_sets import load_outliers

    data = laid_out(tmp_path, "mnist", "raw", monkeypatch)
    digits = pictures.load(TrainingConfig(dataset="mnist", validation_size=100), data)[1].dataset.test
    assert load_outliers("fashion-mnist", data, digits).name == "fashion-mnist-sample"


@pytest.mark.parametrize(
    ("size", "named"),
    [(50, "50 held-out pictures"), (501, "99 training pictures"), (None, "50 held-out pictures")],
)
def test_too_few_pictures_for_the_outlier_score_are_said_before_the_training(
    size: int | None, named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [*options(make_tiny(tmp_path / "tiny")), "--validation-size", "" if size is None else str(size)]
    assert cli.run(["train", *given]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"Error: {named} for the outlier score, expected at least 100; ")


def test_without_validation_pictures_both_halves_of_the_training_set_must_suffice(tmp_path: Path) -> None:
    data = str(make_tiny(tmp_path / "tiny"))
    pictures.load(TrainingConfig(dataset=data, validation_size=0))
    from mlflow_project.pictures import check_enough

    check_enough(200, 0)
    with pytest.raises(ConfigurationError, match="99 held-out pictures"):
        check_enough(199, 0)

"""The images of a run: digits and outliers from one folder in any layout, and enough of them."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from hw2.common.errors import ConfigurationError
from hw2.data import catalog
from hw2.training.config import TrainingConfig
from mlflow_project.training import inputs
from mlflow_project.training.progress import ProgressListener
from tests.mlflow_project.any_images import digit_npz
from tests.support.tiny import TEST, TRAIN, make_tiny

LAYOUTS = ("{set}/raw", "raw", ".")


def laid_out(tmp_path: Path, name: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny images as those of a known set, which is published with as many."""
    known = catalog.DATASETS[name]
    small = dataclasses.replace(known, sizes=(TRAIN, TEST), md5={})
    monkeypatch.setitem(catalog.DATASETS, name, small)
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
    _, loaded = inputs.load(TrainingConfig(dataset=name, validation_size=100), data)
    assert (loaded.dataset.name, loaded.outliers.name) == (name, f"{others}-sample")


def test_the_outliers_folder_goes_before_the_cache_and_that_before_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = laid_out(tmp_path, "mnist", ".", monkeypatch)
    garments = dataclasses.replace(catalog.DATASETS["fashion-mnist"], sizes=(TRAIN, TEST), md5={})
    monkeypatch.setitem(catalog.DATASETS, "fashion-mnist", garments)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    places = [tmp_path / "torch" / "datasets" / "vision", data]
    config = TrainingConfig(dataset="mnist", validation_size=100)
    for place in places:
        raw = place / "FashionMNIST" / "raw"
        shutil.copytree(tmp_path / "tiny" / "raw", raw)
        assert inputs.load(config, data)[1].outliers.source == str(raw)


@pytest.mark.parametrize("layout", ["", "MNIST", "MNIST/raw"])
def test_the_full_set_can_be_named_by_any_of_its_folders(layout: str, full_data: Path) -> None:
    config = TrainingConfig(dataset="mnist")
    _, loaded = inputs.load(config, full_data / layout)
    assert (len(loaded.dataset.train), len(loaded.dataset.test)) == (60_000, 10_000)
    assert loaded.outliers.name == ("fashion-mnist-sample" if layout else "fashion-mnist")


def test_the_outlier_test_finds_digits_and_outliers_in_a_flat_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hw2.outliers.datasets import load_outliers

    data = laid_out(tmp_path, "mnist", "raw", monkeypatch)
    digits = inputs.load(TrainingConfig(dataset="mnist", validation_size=100), data)[1].dataset.test
    assert load_outliers("fashion-mnist", data, digits).name == "fashion-mnist-sample"


@pytest.mark.parametrize(
    ("size", "named"),
    [(50, "50 held-out images"), (501, "99 training images"), (None, "50 held-out images")],
)
def test_too_few_images_for_the_outlier_score_are_said_before_the_training(
    size: int | None, named: str, tmp_path: Path
) -> None:
    class Heard(ProgressListener):
        def warning(self, text: str) -> None:
            warnings.append(text)

    warnings: list[str] = []
    config = TrainingConfig(dataset=str(make_tiny(tmp_path / "tiny")), validation_size=size, threads=1)
    loaded = inputs.load(config, listener=Heard())[1]
    assert loaded.no_score == f"{named}, at least 100 are needed"
    assert warnings == [f"the model gets no outlier score: {loaded.no_score}"]


def test_without_validation_images_both_halves_of_the_training_set_must_suffice(tmp_path: Path) -> None:
    data = str(make_tiny(tmp_path / "tiny"))
    inputs.load(TrainingConfig(dataset=data, validation_size=0))
    assert inputs.score_problem(200, 0) == ""
    assert inputs.score_problem(199, 0).startswith("99 held-out images")


def test_patience_waits_for_the_validation_part_that_a_set_has_of_its_own(tmp_path: Path) -> None:
    config = TrainingConfig(dataset=str(digit_npz(tmp_path)[0]), patience=2, batch_size=600)
    resolved, dataset = inputs.resolve_inputs(config)
    assert (resolved.validation_size, dataset.training_images) == (100, 600)
    with pytest.raises(ConfigurationError, match="batch_size is 601 but only 600 images are trained on"):
        inputs.resolve_inputs(dataclasses.replace(config, batch_size=601))

"""What tests of data sets need: nothing downloaded, and a `mnist` of few images."""

from pathlib import Path

import pytest

from hw2.common.constants import DIGITS
from hw2.data import catalog


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees what this machine has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "datasets" / "vision"


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mnist` is published with 30 and 20 images, without sums."""
    small = catalog.DatasetSpec("MNIST", DIGITS, (30, 20))
    monkeypatch.setitem(catalog.DATASETS, "mnist", small)

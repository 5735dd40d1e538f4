"""What tests of data sets need: nothing downloaded, and a `mnist` of few pictures."""

from pathlib import Path

import pytest

from hw2 import catalogue
from hw2.constants import DIGITS


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees what this machine has downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "datasets" / "vision"


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mnist` is published with 30 and 20 pictures, without sums."""
    small = catalogue.KnownSet("MNIST", DIGITS, (30, 20))
    monkeypatch.setitem(catalogue.DATASETS, "mnist", small)

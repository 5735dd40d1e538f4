"""Where nobody says how many threads a net of one's own gets, a few batches decide."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hw2.training import thread_count
from hw2.training.config import TrainingConfig
from hw2.training.runtime import resolve_runtime
from hw2.training.thread_count import choose
from tests.hw2.training.test_config import NET


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of eight cores, for PyTorch's part."""
    now = 8

    def set_threads(threads: int) -> None:
        nonlocal now
        now = threads

    monkeypatch.setattr(torch, "set_num_threads", set_threads)
    monkeypatch.setattr(torch, "get_num_threads", lambda: now)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({1: 1.0, 2: 2.0}, 1),
        ({1: 1.0, 2: 0.95}, 1),  # about as fast
        ({1: 1.0, 2: 0.6, 4: 0.4, 6: 0.3}, 6),
        ({1: 1.0, 2: 0.6, 4: 0.8}, 2),
    ],
)
def test_the_fastest_number_is_taken_and_of_about_as_fast_ones_the_least(
    seconds: dict[int, float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_count, "least_seconds", lambda batch: seconds[torch.get_num_threads()])
    assert choose(lambda: None, max(seconds)) == expected
    assert torch.get_num_threads() == 8


def test_it_is_measured_for_a_net_of_ones_own_that_may_have_all_cores_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("net.py").write_text(NET, encoding="utf-8")
    tried: list[int] = []

    def measured(batch: Callable[[], object]) -> float:
        batch()
        tried.append(torch.get_num_threads())
        return float(torch.get_num_threads())

    monkeypatch.setattr(thread_count, "least_seconds", measured)
    own = {"model": "net.py:Net", "device": "cpu"}
    assert resolve_runtime(TrainingConfig(**own)).threads == 1  # type: ignore[arg-type]
    assert tried == [1, 2]
    assert resolve_runtime(TrainingConfig(**own, threads=4)).threads == 4  # type: ignore[arg-type]
    assert resolve_runtime(TrainingConfig(device="cpu")).threads == 8
    assert tried == [1, 2]

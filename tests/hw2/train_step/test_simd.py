"""Sixteen numbers at a time are what they are one at a time."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

from hw2.train_step.simd import broadcast, fma, horizontal_sum, jit, load, store, where_equal, where_greater


@jit
def _copy(source: Any, target: Any) -> None:
    store(target, 0, load(source, 0))


@jit
def _calculate(a: Any, b: Any, c: Any, out: Any) -> None:
    x, y, z = load(a, 0), load(b, 0), load(c, 0)
    store(out, 0, fma(x, y, z))
    store(out, 16, x + y - z * x)
    store(out, 32, where_greater(x, y, x, z))
    store(out, 48, where_equal(x, x, broadcast(b[3]), z))
    out[64] = horizontal_sum(x)


def test_bfloat16_is_rounded_as_pytorch_rounds_it() -> None:
    values = torch.randn(16, generator=torch.Generator().manual_seed(0)) * 1e3
    values[:6] = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), float("inf"), 0.0, 1e-40])
    stored = np.zeros(16, np.uint16)
    _copy(values.numpy(), stored)
    expected = values.to(torch.bfloat16)
    assert torch.equal(torch.from_numpy(stored).view(torch.bfloat16), expected)
    back = np.zeros(16, np.float32)
    _copy(stored, back)
    assert torch.equal(torch.from_numpy(back), expected.float())


def test_no_number_stays_no_number_in_bfloat16() -> None:
    stored, back = np.zeros(16, np.uint16), np.zeros(16, np.float32)
    _copy(np.full(16, np.nan, np.float32), stored)
    _copy(stored, back)
    assert np.isnan(back).all()


def test_bytes_hold_small_whole_numbers() -> None:
    stored, back = np.zeros(16, np.uint8), np.zeros(16, np.float32)
    _copy(np.arange(16, dtype=np.float32), stored)
    _copy(stored, back)
    assert stored.tolist() == back.tolist() == list(range(16))


def test_each_operation_is_that_of_single_numbers() -> None:
    random = np.random.default_rng(0)
    a, b, c = random.normal(size=(3, 16)).astype(np.float32)
    out = np.zeros(65, np.float32)
    _calculate(a, b, c, out)
    exact = a.astype(np.float64) * b + c
    assert np.array_equal(out[:16], exact.astype(np.float32))
    assert np.allclose(out[16:32], a + b - c * a, rtol=1e-6, atol=1e-6)
    assert np.array_equal(out[32:48], np.where(a > b, a, c))
    assert np.array_equal(out[48:64], np.full(16, b[3]))
    assert out[64] == pytest.approx(a.sum(), rel=1e-5)

"""All of a training step but three matrix products: Winograd's F(2x2, 3x3) around conv2, and what lies beside it.

A 2x2 tile of conv2's output, which is one window of the max-pool, takes 16 multiplications a channel pair
instead of 36 (A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4.1): 4x4
pixels of the input are transformed, multiplied by transformed weights at each of 16 places, and transformed
back. `_input`, `_output` are the transforms in one dimension, `*_adjoint` pass a gradient back through them.

Arrays are flat (see `step_lanes`), channels innermost. For n pictures: pixels [n, 30, 30] and first
[n, 30, 30, 32] have a border of zeros, which nobody writes to; a transformed array is [16, n * 196, channels];
pooled and winners are [n, 196, 64]; weights of conv1 [9, 32], of fc1 [10, 12544].
"""

import math
from typing import Any

import numpy as np

from hw2.step_lanes import fma, jit, load, splat, store, total, where_equal, where_greater

_Array = Any  # a numpy array; which of its types, numba asks itself
_ROW = 30 * 32  # elements of a row of `first`
_FEATURES = 196 * 64
_ZERO, _ONE, _TWO, _THREE = np.float32(0), np.float32(1), np.float32(2), np.float32(3)


@jit
def _input(a: Any, b: Any, c: Any, d: Any) -> Any:
    return a - c, b + c, c - b, b - d


@jit
def _input_adjoint(v: Any) -> Any:
    return v[0], v[1] - v[2] + v[3], v[1] + v[2] - v[0], splat(_ZERO) - v[3]


@jit
def _output(m: Any) -> Any:
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]


@jit
def _output_adjoint(a: Any, b: Any) -> Any:
    return a, a + b, a - b, splat(_ZERO) - b


@jit
def _load4(array: _Array, offset: int, step: int) -> Any:
    return (
        load(array, offset),
        load(array, offset + step),
        load(array, offset + 2 * step),
        load(array, offset + 3 * step),
    )


@jit
def _store4(array: _Array, offset: int, step: int, v: Any) -> None:
    store(array, offset, v[0])
    store(array, offset + step, v[1])
    store(array, offset + 2 * step, v[2])
    store(array, offset + 3 * step, v[3])


@jit
def _add4(array: _Array, offset: int, step: int, v: Any) -> None:
    store(array, offset, load(array, offset) + v[0])
    store(array, offset + step, load(array, offset + step) + v[1])
    store(array, offset + 2 * step, load(array, offset + 2 * step) + v[2])
    store(array, offset + 3 * step, load(array, offset + 3 * step) + v[3])


@jit
def forward(
    images: _Array,
    index: _Array,
    table: _Array,
    weights: _Array,
    bias: _Array,
    pixels: _Array,
    first: _Array,
    transformed: _Array,
) -> None:
    """Gathers pictures, preprocesses by `table` [256], applies conv1 and ReLU, transforms the result."""
    size = len(index) * 196 * 32  # of each of the 16 places
    for p in range(len(index)):
        source = index[p] * 784
        for y in range(28):
            for x in range(28):
                pixels[p * 900 + (y + 1) * 30 + x + 1] = table[images[source + y * 28 + x]]
        for half in range(0, 32, 16):
            _conv1(pixels, p * 900, weights, bias, half, first)
        for tile in range(196):
            for half in range(0, 32, 16):
                at = p * 900 * 32 + (tile // 14) * 2 * _ROW + (tile % 14) * 64 + half
                a = _input(*_load4(first, at, 32))
                b = _input(*_load4(first, at + _ROW, 32))
                c = _input(*_load4(first, at + 2 * _ROW, 32))
                d = _input(*_load4(first, at + 3 * _ROW, 32))
                to = (p * 196 + tile) * 32 + half
                _store4(transformed, to, 4 * size, _input(a[0], b[0], c[0], d[0]))
                _store4(transformed, to + size, 4 * size, _input(a[1], b[1], c[1], d[1]))
                _store4(transformed, to + 2 * size, 4 * size, _input(a[2], b[2], c[2], d[2]))
                _store4(transformed, to + 3 * size, 4 * size, _input(a[3], b[3], c[3], d[3]))


@jit
def _conv1(pixels: _Array, start: int, weights: _Array, bias: _Array, half: int, first: _Array) -> None:
    b = load(bias, half)
    w0, w1, w2, w3 = _load4(weights, half, 32)
    w4, w5, w6, w7 = _load4(weights, half + 128, 32)
    w8 = load(weights, half + 256)
    for y in range(28):
        for x in range(28):
            o = start + y * 30 + x
            s = fma(splat(pixels[o]), w0, b)
            s = fma(splat(pixels[o + 1]), w1, s)
            s = fma(splat(pixels[o + 2]), w2, s)
            s = fma(splat(pixels[o + 30]), w3, s)
            s = fma(splat(pixels[o + 31]), w4, s)
            s = fma(splat(pixels[o + 32]), w5, s)
            s = fma(splat(pixels[o + 60]), w6, s)
            s = fma(splat(pixels[o + 61]), w7, s)
            s = fma(splat(pixels[o + 62]), w8, s)
            # Written so that no number stays no number, and ends the training.
            store(first, (o + 31) * 32 + half, where_greater(splat(_ZERO), s, splat(_ZERO), s))


@jit
def pool(products: _Array, bias: _Array, pooled: _Array, winners: _Array, count: int) -> None:
    """Transforms conv2's products back, adds the bias, keeps each window's maximum, and its place (0 to 3)."""
    size = count * _FEATURES
    zero, one, two, three = splat(_ZERO), splat(_ONE), splat(_TWO), splat(_THREE)
    for i in range(0, size, 16):
        a = _output(_load4(products, i, 4 * size))
        b = _output(_load4(products, i + size, 4 * size))
        c = _output(_load4(products, i + 2 * size, 4 * size))
        d = _output(_load4(products, i + 3 * size, 4 * size))
        y0, y1 = _output((a[0], b[0], c[0], d[0]))
        y2, y3 = _output((a[1], b[1], c[1], d[1]))
        upper, upper_place = where_greater(y1, y0, y1, y0), where_greater(y1, y0, one, zero)
        lower, lower_place = where_greater(y3, y2, y3, y2), where_greater(y3, y2, three, two)
        store(pooled, i, where_greater(lower, upper, lower, upper) + load(bias, i % 64))
        store(winners, i, where_greater(lower, upper, lower_place, upper_place))


@jit
def logits(pooled: _Array, weights: _Array, bias: _Array, result: _Array, count: int) -> None:
    """fc1: result [count, 10]."""
    for p in range(count):
        for j in range(0, 10, 5):
            w = j * _FEATURES
            s0 = s1 = s2 = s3 = s4 = splat(_ZERO)
            for i in range(0, _FEATURES, 16):
                v = load(pooled, p * _FEATURES + i)
                s0 = fma(v, load(weights, w + i), s0)
                s1 = fma(v, load(weights, w + i + _FEATURES), s1)
                s2 = fma(v, load(weights, w + i + 2 * _FEATURES), s2)
                s3 = fma(v, load(weights, w + i + 3 * _FEATURES), s3)
                s4 = fma(v, load(weights, w + i + 4 * _FEATURES), s4)
            to = p * 10 + j
            result[to] = total(s0) + bias[j]
            result[to + 1] = total(s1) + bias[j + 1]
            result[to + 2] = total(s2) + bias[j + 2]
            result[to + 3] = total(s3) + bias[j + 3]
            result[to + 4] = total(s4) + bias[j + 4]


@jit
def cross_entropy(result: _Array, labels: _Array, batch: int, losses: _Array, hits: _Array) -> None:
    """Of each picture; turns logits, in place, into their share of the gradient of a batch's mean loss."""
    for p in range(len(labels)):
        o = p * 10
        best = 0
        for j in range(1, 10):
            if result[o + j] > result[o + best]:
                best = j
        largest = result[o + best]
        scale = 0.0
        for j in range(10):
            scale += math.exp(result[o + j] - largest)
        losses[p] = math.log(scale) + largest - result[o + labels[p]]
        hits[p] = best == labels[p]
        for j in range(10):
            wanted = 1.0 if j == labels[p] else 0.0
            result[o + j] = (math.exp(result[o + j] - largest) / scale - wanted) / batch


@jit
def unpool(
    d_logits: _Array, weights: _Array, winners: _Array, d_products: _Array, d_bias: _Array, count: int
) -> None:
    """The gradient of `pooled`, put where the maximum was and passed back to conv2's products; d_bias: [64]."""
    size = count * _FEATURES
    for i in range(0, 64, 16):
        store(d_bias, i, splat(_ZERO))
    for p in range(count):
        g0, g1, g2 = splat(d_logits[p * 10]), splat(d_logits[p * 10 + 1]), splat(d_logits[p * 10 + 2])
        g3, g4, g5 = splat(d_logits[p * 10 + 3]), splat(d_logits[p * 10 + 4]), splat(d_logits[p * 10 + 5])
        g6, g7, g8 = splat(d_logits[p * 10 + 6]), splat(d_logits[p * 10 + 7]), splat(d_logits[p * 10 + 8])
        g9 = splat(d_logits[p * 10 + 9])
        for i in range(0, _FEATURES, 16):
            d = g0 * load(weights, i)
            d = fma(g1, load(weights, i + _FEATURES), d)
            d = fma(g2, load(weights, i + 2 * _FEATURES), d)
            d = fma(g3, load(weights, i + 3 * _FEATURES), d)
            d = fma(g4, load(weights, i + 4 * _FEATURES), d)
            d = fma(g5, load(weights, i + 5 * _FEATURES), d)
            d = fma(g6, load(weights, i + 6 * _FEATURES), d)
            d = fma(g7, load(weights, i + 7 * _FEATURES), d)
            d = fma(g8, load(weights, i + 8 * _FEATURES), d)
            d = fma(g9, load(weights, i + 9 * _FEATURES), d)
            store(d_bias, i % 64, load(d_bias, i % 64) + d)
            _unpool16(d, load(winners, p * _FEATURES + i), d_products, p * _FEATURES + i, size)


@jit
def _unpool16(d: Any, winner: Any, d_products: _Array, to: int, size: int) -> None:
    zero = splat(_ZERO)
    y0, y1 = where_equal(winner, zero, d, zero), where_equal(winner, splat(_ONE), d, zero)
    y2, y3 = where_equal(winner, splat(_TWO), d, zero), where_equal(winner, splat(_THREE), d, zero)
    a, b = _output_adjoint(y0, y2), _output_adjoint(y1, y3)
    _store4(d_products, to, size, _output_adjoint(a[0], b[0]))
    _store4(d_products, to + 4 * size, size, _output_adjoint(a[1], b[1]))
    _store4(d_products, to + 8 * size, size, _output_adjoint(a[2], b[2]))
    _store4(d_products, to + 12 * size, size, _output_adjoint(a[3], b[3]))


@jit
def backward(
    d_transformed: _Array,
    first: _Array,
    pixels: _Array,
    d_first: _Array,
    d_weights: _Array,
    d_bias: _Array,
    count: int,
) -> None:
    """From conv2's transformed input back to conv1: d_weights [9, 32], d_bias [32]; d_first: [30, 30, 32]."""
    size = count * 196 * 32
    for i in range(0, 9 * 32, 16):
        store(d_weights, i, splat(_ZERO))
    for i in range(0, 32, 16):
        store(d_bias, i, splat(_ZERO))
    for p in range(count):
        for i in range(0, 900 * 32, 16):
            store(d_first, i, splat(_ZERO))
        for tile in range(196):
            for half in range(0, 32, 16):
                at = (p * 196 + tile) * 32 + half
                a = _input_adjoint(_load4(d_transformed, at, 4 * size))
                b = _input_adjoint(_load4(d_transformed, at + size, 4 * size))
                c = _input_adjoint(_load4(d_transformed, at + 2 * size, 4 * size))
                d = _input_adjoint(_load4(d_transformed, at + 3 * size, 4 * size))
                to = (tile // 14) * 2 * _ROW + (tile % 14) * 64 + half
                _add4(d_first, to, 32, _input_adjoint((a[0], b[0], c[0], d[0])))
                _add4(d_first, to + _ROW, 32, _input_adjoint((a[1], b[1], c[1], d[1])))
                _add4(d_first, to + 2 * _ROW, 32, _input_adjoint((a[2], b[2], c[2], d[2])))
                _add4(d_first, to + 3 * _ROW, 32, _input_adjoint((a[3], b[3], c[3], d[3])))
        for half in range(0, 32, 16):
            _conv1_adjoint(pixels, p * 900, first, d_first, half, d_weights, d_bias)


@jit
def _conv1_adjoint(
    pixels: _Array, start: int, first: _Array, d_first: _Array, half: int, d_weights: _Array, d_bias: _Array
) -> None:
    zero = splat(_ZERO)
    b = load(d_bias, half)
    w0, w1, w2, w3 = _load4(d_weights, half, 32)
    w4, w5, w6, w7 = _load4(d_weights, half + 128, 32)
    w8 = load(d_weights, half + 256)
    for y in range(28):
        for x in range(28):
            o = y * 30 + x
            d = load(d_first, (o + 31) * 32 + half)
            o += start
            d = where_greater(load(first, (o + 31) * 32 + half), zero, d, zero)
            b = b + d
            w0 = fma(splat(pixels[o]), d, w0)
            w1 = fma(splat(pixels[o + 1]), d, w1)
            w2 = fma(splat(pixels[o + 2]), d, w2)
            w3 = fma(splat(pixels[o + 30]), d, w3)
            w4 = fma(splat(pixels[o + 31]), d, w4)
            w5 = fma(splat(pixels[o + 32]), d, w5)
            w6 = fma(splat(pixels[o + 60]), d, w6)
            w7 = fma(splat(pixels[o + 61]), d, w7)
            w8 = fma(splat(pixels[o + 62]), d, w8)
    store(d_bias, half, b)
    _store4(d_weights, half, 32, (w0, w1, w2, w3))
    _store4(d_weights, half + 128, 32, (w4, w5, w6, w7))
    store(d_weights, half + 256, w8)

"""All of a training step but three matrix products: Winograd's F(4x4, 3x3) around conv2, and what lies beside it.

A 4x4 tile of conv2's output, four windows of the max-pool, takes 36 multiplications for each pair of channels
instead of 144 (A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4): 6x6
pixels of the input are transformed, multiplied by transformed weights at each of 36 places, and transformed
back. `_input` and `_output` are the transforms in one dimension, `*_adjoint` pass a gradient back through them.
They evaluate polynomials at 0, +-3/4, +-3/2 and infinity: rounding of the transformed values then costs half as
much as at the usual 0, +-1, +-2.

Arrays are flat (see `simd`), channels innermost. For n images: pixels [n, 30, 30] and first
[n, 30, 30, 32] have a border of zeros, which nobody writes to; a transformed array is [36, n * 49, channels];
pooled and winners are [n, 14, 14, 64]; weights of conv1 [9, 32], of fc1 [10, 12544].
"""

import math
from typing import Any

import numpy as np

from hw2.train_step.simd import broadcast, fma, horizontal_sum, jit, load, store, where_equal, where_greater

_Array = Any  # a numpy array; which of its types, numba asks itself
TILES = 7 * 7  # of an image
PLACES = 36  # of a transformed tile
_ROW = 30 * 32  # elements of a row of `first`
_FEATURES = 14 * 14 * 64
_ZERO, _ONE, _TWO, _THREE = np.float32(0), np.float32(1), np.float32(2), np.float32(3)

_P, _Q = 0.75, 1.5  # the points; their powers and products are exact in float32
_P1, _P2, _P3 = np.float32(_P), np.float32(_P**2), np.float32(_P**3)
_Q1, _Q2, _Q3 = np.float32(_Q), np.float32(_Q**2), np.float32(_Q**3)
_P2Q2, _MINUS_P2_Q2 = np.float32(_P**2 * _Q**2), np.float32(-(_P**2) - _Q**2)
_MINUS_P2, _MINUS_Q2 = np.float32(-(_P**2)), np.float32(-(_Q**2))
_MINUS_P2Q, _MINUS_PQ2 = np.float32(-(_P**2) * _Q), np.float32(-_P * _Q**2)
_SCALE_P, _SCALE_Q = 2 * _P**2 * (_P**2 - _Q**2), 2 * _Q**2 * (_Q**2 - _P**2)
# The transform of the three weights of one dimension, [6, 3].
WEIGHTS_TRANSFORM = (
    (1 / (_P**2 * _Q**2), 0.0, 0.0),
    (1 / _SCALE_P, _P / _SCALE_P, _P**2 / _SCALE_P),
    (1 / _SCALE_P, -_P / _SCALE_P, _P**2 / _SCALE_P),
    (1 / _SCALE_Q, _Q / _SCALE_Q, _Q**2 / _SCALE_Q),
    (1 / _SCALE_Q, -_Q / _SCALE_Q, _Q**2 / _SCALE_Q),
    (0.0, 0.0, 1.0),
)


@jit
def _input(d: Any) -> Any:
    p_even = fma(broadcast(_MINUS_Q2), d[2], d[4])
    p_odd = broadcast(_P1) * fma(broadcast(_MINUS_Q2), d[1], d[3])
    q_even = fma(broadcast(_MINUS_P2), d[2], d[4])
    q_odd = broadcast(_Q1) * fma(broadcast(_MINUS_P2), d[1], d[3])
    return (
        fma(broadcast(_P2Q2), d[0], fma(broadcast(_MINUS_P2_Q2), d[2], d[4])),
        p_even + p_odd,
        p_even - p_odd,
        q_even + q_odd,
        q_even - q_odd,
        fma(broadcast(_P2Q2), d[1], fma(broadcast(_MINUS_P2_Q2), d[3], d[5])),
    )


@jit
def _input_adjoint(v: Any) -> Any:
    p_sum, p_difference, q_sum, q_difference = v[1] + v[2], v[1] - v[2], v[3] + v[4], v[3] - v[4]
    d1 = fma(broadcast(_MINUS_PQ2), p_difference, broadcast(_MINUS_P2Q) * q_difference)
    d2 = fma(broadcast(_MINUS_Q2), p_sum, broadcast(_MINUS_P2) * q_sum)
    d3 = fma(broadcast(_P1), p_difference, broadcast(_Q1) * q_difference)
    return (
        broadcast(_P2Q2) * v[0],
        fma(broadcast(_P2Q2), v[5], d1),
        fma(broadcast(_MINUS_P2_Q2), v[0], d2),
        fma(broadcast(_MINUS_P2_Q2), v[5], d3),
        v[0] + p_sum + q_sum,
        v[5],
    )


@jit
def _output(m: Any) -> Any:
    p_sum, p_difference, q_sum, q_difference = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return (
        m[0] + p_sum + q_sum,
        fma(broadcast(_P1), p_difference, broadcast(_Q1) * q_difference),
        fma(broadcast(_P2), p_sum, broadcast(_Q2) * q_sum),
        fma(broadcast(_P3), p_difference, fma(broadcast(_Q3), q_difference, m[5])),
    )


@jit
def _output_adjoint(y: Any) -> Any:
    p_even, p_odd = fma(broadcast(_P2), y[2], y[0]), fma(broadcast(_P3), y[3], broadcast(_P1) * y[1])
    q_even, q_odd = fma(broadcast(_Q2), y[2], y[0]), fma(broadcast(_Q3), y[3], broadcast(_Q1) * y[1])
    return y[0], p_even + p_odd, p_even - p_odd, q_even + q_odd, q_even - q_odd, y[3]


@jit
def _load6(array: _Array, offset: int, step: int) -> Any:
    return (
        load(array, offset),
        load(array, offset + step),
        load(array, offset + 2 * step),
        load(array, offset + 3 * step),
        load(array, offset + 4 * step),
        load(array, offset + 5 * step),
    )


@jit
def _store6(array: _Array, offset: int, step: int, v: Any) -> None:
    store(array, offset, v[0])
    store(array, offset + step, v[1])
    store(array, offset + 2 * step, v[2])
    store(array, offset + 3 * step, v[3])
    store(array, offset + 4 * step, v[4])
    store(array, offset + 5 * step, v[5])


@jit
def _add6(array: _Array, offset: int, step: int, v: Any) -> None:
    store(array, offset, load(array, offset) + v[0])
    store(array, offset + step, load(array, offset + step) + v[1])
    store(array, offset + 2 * step, load(array, offset + 2 * step) + v[2])
    store(array, offset + 3 * step, load(array, offset + 3 * step) + v[3])
    store(array, offset + 4 * step, load(array, offset + 4 * step) + v[4])
    store(array, offset + 5 * step, load(array, offset + 5 * step) + v[5])


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
    """Gather images, preprocess by `table` [256], apply conv1 and ReLU, transform the result."""
    size = len(index) * TILES * 32  # of each of the places
    for n in range(len(index)):
        source = index[n] * 784
        for y in range(28):
            for x in range(28):
                pixels[n * 900 + (y + 1) * 30 + x + 1] = table[images[source + y * 28 + x]]
        for half in range(0, 32, 16):
            _conv1(pixels, n * 900, weights, bias, half, first)
        for tile in range(TILES):
            for half in range(0, 32, 16):
                at = n * 900 * 32 + (tile // 7) * 4 * _ROW + (tile % 7) * 4 * 32 + half
                a = _input(_load6(first, at, 32))
                b = _input(_load6(first, at + _ROW, 32))
                c = _input(_load6(first, at + 2 * _ROW, 32))
                d = _input(_load6(first, at + 3 * _ROW, 32))
                e = _input(_load6(first, at + 4 * _ROW, 32))
                f = _input(_load6(first, at + 5 * _ROW, 32))
                to = (n * TILES + tile) * 32 + half
                for i in range(6):
                    column = _input((a[i], b[i], c[i], d[i], e[i], f[i]))
                    _store6(transformed, to + i * size, 6 * size, column)


@jit
def _conv1(pixels: _Array, start: int, weights: _Array, bias: _Array, half: int, first: _Array) -> None:
    b = load(bias, half)
    w0, w1, w2, w3, w4, w5 = _load6(weights, half, 32)
    w6, w7, w8 = load(weights, half + 192), load(weights, half + 224), load(weights, half + 256)
    for y in range(28):
        for x in range(28):
            o = start + y * 30 + x
            s = fma(broadcast(pixels[o]), w0, b)
            s = fma(broadcast(pixels[o + 1]), w1, s)
            s = fma(broadcast(pixels[o + 2]), w2, s)
            s = fma(broadcast(pixels[o + 30]), w3, s)
            s = fma(broadcast(pixels[o + 31]), w4, s)
            s = fma(broadcast(pixels[o + 32]), w5, s)
            s = fma(broadcast(pixels[o + 60]), w6, s)
            s = fma(broadcast(pixels[o + 61]), w7, s)
            s = fma(broadcast(pixels[o + 62]), w8, s)
            # Written so that no number stays no number, and ends the training.
            store(first, (o + 31) * 32 + half, where_greater(broadcast(_ZERO), s, broadcast(_ZERO), s))


@jit
def pool(products: _Array, bias: _Array, pooled: _Array, winners: _Array, count: int) -> None:
    """Transform conv2's products back, add the bias, keep each window's maximum, and its place (0 to 3)."""
    size = count * TILES * 64
    for tile in range(count * TILES):
        to = (tile // TILES) * _FEATURES + (tile % TILES // 7) * 28 * 64 + (tile % 7) * 2 * 64
        for block in range(0, 64, 16):
            at = tile * 64 + block
            a = _output(_load6(products, at, 6 * size))
            b = _output(_load6(products, at + size, 6 * size))
            c = _output(_load6(products, at + 2 * size, 6 * size))
            d = _output(_load6(products, at + 3 * size, 6 * size))
            e = _output(_load6(products, at + 4 * size, 6 * size))
            f = _output(_load6(products, at + 5 * size, 6 * size))
            for y in range(2):
                upper = _output((a[2 * y], b[2 * y], c[2 * y], d[2 * y], e[2 * y], f[2 * y]))
                z = 2 * y + 1
                lower = _output((a[z], b[z], c[z], d[z], e[z], f[z]))
                for x in range(2):
                    _pool(
                        (upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]),
                        load(bias, block),
                        pooled,
                        winners,
                        to + (14 * y + x) * 64 + block,
                    )


@jit
def _pool(y: Any, bias: Any, pooled: _Array, winners: _Array, to: int) -> None:
    upper = where_greater(y[1], y[0], y[1], y[0])
    upper_place = where_greater(y[1], y[0], broadcast(_ONE), broadcast(_ZERO))
    lower = where_greater(y[3], y[2], y[3], y[2])
    lower_place = where_greater(y[3], y[2], broadcast(_THREE), broadcast(_TWO))
    store(pooled, to, where_greater(lower, upper, lower, upper) + bias)
    store(winners, to, where_greater(lower, upper, lower_place, upper_place))


@jit
def logits(pooled: _Array, weights: _Array, bias: _Array, result: _Array, count: int) -> None:
    """Apply fc1: result [count, 10]."""
    for p in range(count):
        for j in range(0, 10, 5):
            w = j * _FEATURES
            s0 = s1 = s2 = s3 = s4 = broadcast(_ZERO)
            for i in range(0, _FEATURES, 16):
                v = load(pooled, p * _FEATURES + i)
                s0 = fma(v, load(weights, w + i), s0)
                s1 = fma(v, load(weights, w + i + _FEATURES), s1)
                s2 = fma(v, load(weights, w + i + 2 * _FEATURES), s2)
                s3 = fma(v, load(weights, w + i + 3 * _FEATURES), s3)
                s4 = fma(v, load(weights, w + i + 4 * _FEATURES), s4)
            to = p * 10 + j
            result[to] = horizontal_sum(s0) + bias[j]
            result[to + 1] = horizontal_sum(s1) + bias[j + 1]
            result[to + 2] = horizontal_sum(s2) + bias[j + 2]
            result[to + 3] = horizontal_sum(s3) + bias[j + 3]
            result[to + 4] = horizontal_sum(s4) + bias[j + 4]


@jit
def channel_sums(values: _Array, side: int, channels: int, result: _Array, count: int) -> None:
    """Add up over all places of values [count, side, side, channels]: result [count, channels]."""
    for n in range(count):
        for block in range(0, channels, 16):
            s = broadcast(_ZERO)
            for y in range(side):
                row = broadcast(_ZERO)  # by itself: of fewer numbers, a sum loses less by rounding
                for x in range(side):
                    row = row + load(values, ((n * side + y) * side + x) * channels + block)
                s = s + row
            store(result, n * channels + block, s)


@jit
def cross_entropy(result: _Array, labels: _Array, batch: int, losses: _Array, correct: _Array) -> None:
    """Compute each image's loss; turn logits, in place, into their share of the gradient of a batch's mean loss."""
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
        correct[p] = best == labels[p]
        for j in range(10):
            target = 1.0 if j == labels[p] else 0.0
            result[o + j] = (math.exp(result[o + j] - largest) / scale - target) / batch


@jit
def unpool(
    d_logits: _Array, weights: _Array, winners: _Array, d_products: _Array, d_bias: _Array, count: int
) -> None:
    """Put the gradient of `pooled` where the maximum was, pass it back to conv2's products; d_bias: [64]."""
    size = count * TILES * 64
    for i in range(0, 64, 16):
        store(d_bias, i, broadcast(_ZERO))
    for tile in range(count * TILES):
        n = tile // TILES
        at = (tile % TILES // 7) * 28 * 64 + (tile % 7) * 2 * 64
        for block in range(0, 64, 16):
            i = at + block
            d0, d1 = _d_pooled(d_logits, n, weights, i), _d_pooled(d_logits, n, weights, i + 64)
            d2, d3 = _d_pooled(d_logits, n, weights, i + 896), _d_pooled(d_logits, n, weights, i + 960)
            store(d_bias, block, load(d_bias, block) + d0 + d1 + d2 + d3)
            i += n * _FEATURES
            a, b = _unpool(d0, load(winners, i)), _unpool(d1, load(winners, i + 64))
            c, d = _unpool(d2, load(winners, i + 896)), _unpool(d3, load(winners, i + 960))
            p = _output_adjoint((a[0], a[1], b[0], b[1]))  # row by row, then column by column
            q = _output_adjoint((a[2], a[3], b[2], b[3]))
            r = _output_adjoint((c[0], c[1], d[0], d[1]))
            s = _output_adjoint((c[2], c[3], d[2], d[3]))
            to = tile * 64 + block
            for x in range(6):
                _store6(d_products, to + x * size, 6 * size, _output_adjoint((p[x], q[x], r[x], s[x])))


@jit
def _d_pooled(d_logits: _Array, n: int, weights: _Array, i: int) -> Any:
    d = broadcast(d_logits[n * 10]) * load(weights, i)
    for j in range(1, 10):
        d = fma(broadcast(d_logits[n * 10 + j]), load(weights, i + j * _FEATURES), d)
    return d


@jit
def _unpool(d: Any, winner: Any) -> Any:
    zero = broadcast(_ZERO)
    return (
        where_equal(winner, zero, d, zero),
        where_equal(winner, broadcast(_ONE), d, zero),
        where_equal(winner, broadcast(_TWO), d, zero),
        where_equal(winner, broadcast(_THREE), d, zero),
    )


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
    """From conv2's transformed input back to conv1: d_weights [9, 32], d_bias [32], d_first [30, 30, 32]."""
    size = count * TILES * 32
    for i in range(0, 9 * 32, 16):
        store(d_weights, i, broadcast(_ZERO))
    for i in range(0, 32, 16):
        store(d_bias, i, broadcast(_ZERO))
    for n in range(count):
        for i in range(0, 900 * 32, 16):
            store(d_first, i, broadcast(_ZERO))
        for tile in range(TILES):
            for half in range(0, 32, 16):
                at = (n * TILES + tile) * 32 + half
                a = _input_adjoint(_load6(d_transformed, at, 6 * size))
                b = _input_adjoint(_load6(d_transformed, at + size, 6 * size))
                c = _input_adjoint(_load6(d_transformed, at + 2 * size, 6 * size))
                d = _input_adjoint(_load6(d_transformed, at + 3 * size, 6 * size))
                e = _input_adjoint(_load6(d_transformed, at + 4 * size, 6 * size))
                f = _input_adjoint(_load6(d_transformed, at + 5 * size, 6 * size))
                to = (tile // 7) * 4 * _ROW + (tile % 7) * 4 * 32 + half
                for i in range(6):
                    row = _input_adjoint((a[i], b[i], c[i], d[i], e[i], f[i]))
                    _add6(d_first, to + i * _ROW, 32, row)
        for half in range(0, 32, 16):
            _conv1_adjoint(pixels, n * 900, first, d_first, half, d_weights, d_bias)


@jit
def _conv1_adjoint(
    pixels: _Array, start: int, first: _Array, d_first: _Array, half: int, d_weights: _Array, d_bias: _Array
) -> None:
    zero = broadcast(_ZERO)
    b = load(d_bias, half)
    w0, w1, w2, w3, w4, w5 = _load6(d_weights, half, 32)
    w6, w7, w8 = load(d_weights, half + 192), load(d_weights, half + 224), load(d_weights, half + 256)
    for y in range(28):
        for x in range(28):
            o = y * 30 + x
            d = load(d_first, (o + 31) * 32 + half)
            o += start
            d = where_greater(load(first, (o + 31) * 32 + half), zero, d, zero)
            b = b + d
            w0 = fma(broadcast(pixels[o]), d, w0)
            w1 = fma(broadcast(pixels[o + 1]), d, w1)
            w2 = fma(broadcast(pixels[o + 2]), d, w2)
            w3 = fma(broadcast(pixels[o + 30]), d, w3)
            w4 = fma(broadcast(pixels[o + 31]), d, w4)
            w5 = fma(broadcast(pixels[o + 32]), d, w5)
            w6 = fma(broadcast(pixels[o + 60]), d, w6)
            w7 = fma(broadcast(pixels[o + 61]), d, w7)
            w8 = fma(broadcast(pixels[o + 62]), d, w8)
    store(d_bias, half, b)
    _store6(d_weights, half, 32, (w0, w1, w2, w3, w4, w5))
    store(d_weights, half + 192, w6)
    store(d_weights, half + 224, w7)
    store(d_weights, half + 256, w8)

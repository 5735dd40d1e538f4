"""Sixteen float32 side by side as one value of numba's: vector instructions of whatever width the processor has.

Arrays are one-dimensional and contiguous: float32; uint16, which holds bfloat16, rounded to nearest even; or
uint8, whole numbers. An offset counts elements. No index is checked.
"""

import hashlib
import operator
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

_COUNT = 16
_FLOATS = ir.VectorType(ir.FloatType(), _COUNT)
_WORDS = ir.VectorType(ir.IntType(32), _COUNT)
_STORED = {
    types.float32: _FLOATS,
    types.uint16: ir.VectorType(ir.IntType(16), _COUNT),
    types.uint8: ir.VectorType(ir.IntType(8), _COUNT),
}

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Generated = tuple[Any, Callable[[Any, Any, Any, Any], Any]]


def jit(function: _Function) -> _Function:
    """Compile at the first call, cache on the disk where there is a place for it, run without Python's lock."""
    config: Any = numba.config
    previous = config.CACHE_DIR
    config.CACHE_DIR = str(_cache_folder())
    try:
        compiled = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to write to
        compiled = numba.njit(nogil=True, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = previous
    return cast(_Function, compiled)


def compiled_before() -> bool:
    """Whether kernels of this source lie on the disk, so that they needn't be compiled, which takes some 20 s."""
    return any(_cache_folder().rglob("winograd_kernels.*.nbc"))


def _cache_folder() -> Path:
    config: Any = numba.config
    return Path(config.CACHE_DIR or Path(__file__).parent / "__pycache__") / _sources_sha256()


@cache
def _sources_sha256() -> str:
    """Hash both files that kernels are made of: numba itself looks for changes in one only."""
    folder = Path(__file__).parent
    sources = (folder / "simd.py").read_bytes() + (folder / "winograd_kernels.py").read_bytes()
    return hashlib.sha256(sources).hexdigest()[:16]


def _instruction(function: Callable[..., _Generated]) -> Any:
    return intrinsic(function)


class _Float32x16(types.Type):
    def __init__(self) -> None:
        super().__init__(name="float32x16")


_lanes = _Float32x16()


@register_model(_Float32x16)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, front_end_type: Any) -> None:
        super().__init__(manager, front_end_type, _FLOATS)  # type: ignore[no-untyped-call]


def _constant(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * _COUNT)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _STORED[array_type.dtype].as_pointer())


@_instruction
def load(_: Any, array: Any, offset: Any) -> _Generated:
    """Load sixteen elements from an offset on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_pointer(context, builder, array, *arguments), align=array.dtype.bitwidth // 8)
        if array.dtype == types.uint16:  # a bfloat16 is the upper half of a float32
            return builder.bitcast(builder.shl(builder.zext(value, _WORDS), _constant(_WORDS, 16)), _FLOATS)
        return builder.uitofp(value, _FLOATS) if array.dtype == types.uint8 else value

    return _lanes(array, types.intp), generate


@_instruction
def store(_: Any, array: Any, offset: Any, value: Any) -> _Generated:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *where, result = arguments
        if array.dtype == types.uint16:
            bits = builder.bitcast(result, _WORDS)
            odd = builder.and_(builder.lshr(bits, _constant(_WORDS, 16)), _constant(_WORDS, 1))
            rounded = builder.add(bits, builder.add(odd, _constant(_WORDS, 0x7FFF)))
            result = builder.trunc(builder.lshr(rounded, _constant(_WORDS, 16)), _STORED[array.dtype])
        elif array.dtype == types.uint8:
            result = builder.trunc(builder.fptosi(result, _WORDS), _STORED[array.dtype])
        pointer = _pointer(context, builder, array, *where)
        builder.store(result, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), generate


@_instruction
def broadcast(_: Any, value: Any) -> _Generated:
    """Repeat one float32 sixteen times."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, undefined, _constant(_WORDS, 0))

    return _lanes(types.float32), generate


@_instruction
def horizontal_sum(_: Any, value: Any) -> _Generated:
    """Add up the sixteen, from the first to the last."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        elements = [
            builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), i)) for i in range(_COUNT)
        ]
        result = elements[0]
        for element in elements[1:]:
            result = builder.fadd(result, element)
        return result

    return types.float32(_lanes), generate


@_instruction
def fma(_: Any, a: Any, b: Any, c: Any) -> _Generated:
    """Compute a * b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{_COUNT}f32")  # type: ignore[no-untyped-call]
        return builder.call(function, arguments)

    return _lanes(_lanes, _lanes, _lanes), generate


def _choice(relation: str) -> Any:
    @_instruction
    def where(_: Any, a: Any, b: Any, then: Any, otherwise: Any) -> _Generated:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            a, b, then, otherwise = arguments
            return builder.select(builder.fcmp_ordered(relation, a, b), then, otherwise)

        return _lanes(_lanes, _lanes, _lanes, _lanes), generate

    return where


where_greater = _choice(">")
where_equal = _choice("==")


def _overload_operator(python: Any, instruction: str) -> None:
    @_instruction
    def operation(_: Any, a: Any, b: Any) -> _Generated:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return _lanes(_lanes, _lanes), generate

    @overload(python)
    def chosen(a: Any, b: Any) -> Any:
        def implementation(a: Any, b: Any) -> Any:
            return operation(a, b)

        return implementation if a is _lanes and b is _lanes else None


_overload_operator(operator.add, "fadd")
_overload_operator(operator.sub, "fsub")
_overload_operator(operator.mul, "fmul")

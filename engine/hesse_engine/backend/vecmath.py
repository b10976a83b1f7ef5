"""Mathematical functions on whole vector registers, through the vector library that comes with glibc (libmvec).

Its 256-bit functions serve any processor with AVX2, have errors below 4 ulp and leave NaN, infinities and values
outside the domain to the scalar library. Elements at the end of a strip go through the same function, one at a time,
so a value does not depend on its position. Nanoseconds per float64, scalar -> vector: exp 4.0 -> 0.7, sin 7.8 -> 0.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from hesse_engine.backend.opcodes import BINARY, UNARY

LANES = {"float64": 4, "float32": 8}


def available(dtype: str) -> tuple[str, ...]:
    """The functions that this machine has as vectors, for the features that Numba compiles for."""
    features = str(cpu_target.target_context.codegen().magic_tuple()[2])
    if "+avx2" not in features.split(","):
        return ()
    try:
        llvm.load_library_permanently("libmvec.so.1")
    except RuntimeError:
        return ()
    return tuple([n for n in (*UNARY, *BINARY) if llvm.address_of_symbol(symbol(n, dtype))])


def symbol(name: str, dtype: str) -> str:
    """The name by the vector ABI: 'd' is AVX2, then the lanes, then a 'v' for each operand."""
    suffix = "" if dtype == "float64" else "f"
    return f"_ZGVdN{LANES[dtype]}{'vv' if name in BINARY else 'v'}_{name}{suffix}"


def lanes(name: str, dtype: str) -> Any:
    """An intrinsic (to, of, k) that maps all lanes from element k on; those of two operands take (to, a, b, k)."""
    return _intrinsic(name, dtype, LANES[dtype])


def lane(name: str, dtype: str) -> Any:
    """As `lanes`, for the element k alone: the same function, so the same bits."""
    return _intrinsic(name, dtype, 1)


def _intrinsic(name: str, dtype: str, count: int) -> Any:
    scalar = ir.DoubleType() if dtype == "float64" else ir.FloatType()
    wide = ir.VectorType(scalar, LANES[dtype])
    size = 8 if dtype == "float64" else 4
    operands = 2 if name in BINARY else 1

    def generate(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
        to, *sources, k = args
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(wide, [wide] * operands), symbol(name, dtype)
        )
        kind = wide if count > 1 else scalar
        first = ir.Constant(ir.IntType(32), 0)

        def at(base: Any) -> Any:
            element = builder.gep(builder.inttoptr(base, scalar.as_pointer()), [k])
            return builder.bitcast(element, kind.as_pointer())

        loaded = [builder.load(at(s), align=size) for s in sources]
        if count == 1:  # the other lanes get the same element, for which the function is as well defined
            zero = ir.Constant(wide, ir.Undefined)
            mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES[dtype]), [0] * LANES[dtype])
            loaded = [builder.shuffle_vector(builder.insert_element(zero, v, first), zero, mask) for v in loaded]
        result = builder.call(function, loaded)
        builder.store(builder.extract_element(result, first) if count == 1 else result, at(to), align=size)
        return context.get_dummy_value()

    if operands == 2:

        @intrinsic  # type: ignore[untyped-decorator]
        def two(typing_context: Any, to: Any, a: Any, b: Any, k: Any) -> Any:
            return types.void(types.int64, types.int64, types.int64, types.int64), generate

        return two

    @intrinsic  # type: ignore[untyped-decorator]
    def one(typing_context: Any, to: Any, of: Any, k: Any) -> Any:
        return types.void(types.int64, types.int64, types.int64), generate

    return one

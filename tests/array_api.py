"""What the functions of the array API standard are called with, and how results compare with array-api-strict's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import array_api_strict as strict
import numpy as np

VERSION = "2024.12"
FLOATS = ("float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = (*SIGNED, *UNSIGNED)
BOOL = ("bool",)
REAL = (*INTEGERS, *FLOATS)
ALL = (*BOOL, *REAL)
PROMOTABLE = (("int8", "int32"), ("uint8", "int16"), ("uint16", "uint64"), ("float32", "float64"))

# name, or name and what is special -> why hesse.numpy does not do in a trace what it does outside of one.
# A test sees to it that each is a gap, so that the list shrinks.
GAPS: dict[str, str] = {}


# ---- operands --------------------------------------------------------------------------------------------------------
def sample(dtype: str, *shape: int, seed: int = 0, low: float = -3.0, high: float = 3.0) -> Any:
    """Numbers of a dtype in [low, high]; those of a floating dtype are not near integers."""
    rng = np.random.default_rng([seed, *shape])
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in FLOATS:
        return rng.uniform(low, high, shape).astype(dtype)
    return rng.integers(max(int(low), 0) if dtype in UNSIGNED else int(low), int(high) + 1, shape).astype(dtype)


def lift(value: Any) -> Any:
    """Arrays as array-api-strict's, in lists and tuples too."""
    if isinstance(value, (list, tuple)):
        return type(value)([lift(v) for v in value])
    return strict.asarray(value.copy()) if isinstance(value, np.ndarray) else value


def lower(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [lower(v) for v in value]
    return np.from_dlpack(value) if isinstance(value, strict.asarray(0).__class__) else value


def same(got: Any, wanted: Any, name: str) -> None:
    """Values, shapes and dtypes; floating values to a few units in the last place."""
    if isinstance(wanted, list):
        assert isinstance(got, (list, tuple))
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted, strict=True):
            same(a, b, name)
        return
    assert isinstance(got, np.ndarray), type(got)
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    tolerance = 0.0 if wanted.dtype.kind != "f" else 2e-6 if wanted.dtype == np.float32 else 4e-15
    scale = float(np.max(np.abs(wanted), initial=0.0, where=np.isfinite(wanted))) if wanted.dtype.kind == "f" else 0.0
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale, err_msg=name)


# ---- what is called with what ----------------------------------------------------------------------------------------
class Call:
    """f(namespace, *arrays), where `arrays` are made for a dtype."""

    def __init__(self, name: str, dtypes: tuple[str, ...], make: Callable[[str], tuple[Any, ...]],
                 f: Callable[..., Any] | None = None, label: str = "") -> None:
        self.name, self.dtypes, self.make = name, dtypes, make
        self.f = f or (lambda space, *arrays: named(space, name)(*arrays))
        self.label = f"{name}{label}"


def named(space: Any, name: str) -> Any:
    for part in name.split("."):
        space = getattr(space, part)
    return space


def one(*shape: int, low: float = -3.0, high: float = 3.0) -> Callable[[str], tuple[Any, ...]]:
    return lambda dtype: (sample(dtype, *shape, low=low, high=high),)


def two(first: tuple[int, ...], second: tuple[int, ...], low: float = -3.0, high: float = 3.0) -> Any:
    return lambda dtype: (sample(dtype, *first, seed=1, low=low, high=high),
                          sample(dtype, *second, seed=2, low=low, high=high))


def mixed(first: str, second: str) -> Any:
    return lambda _: (sample(first, 2, 3, seed=1, low=1), sample(second, 3, seed=2, low=1))


UNARY: dict[str, tuple[tuple[str, ...], float, float]] = {
    "abs": (REAL, -3, 3), "acos": (FLOATS, -0.9, 0.9), "acosh": (FLOATS, 1.1, 3), "asin": (FLOATS, -0.9, 0.9),
    "asinh": (FLOATS, -3, 3), "atan": (FLOATS, -3, 3), "atanh": (FLOATS, -0.9, 0.9), "ceil": (REAL, -3, 3),
    "conj": (REAL, -3, 3), "cos": (FLOATS, -3, 3), "cosh": (FLOATS, -3, 3), "exp": (FLOATS, -3, 3),
    "expm1": (FLOATS, -3, 3), "floor": (REAL, -3, 3), "isfinite": (REAL, -3, 3), "isinf": (REAL, -3, 3),
    "isnan": (REAL, -3, 3), "log": (FLOATS, 0.1, 3), "log10": (FLOATS, 0.1, 3), "log1p": (FLOATS, -0.9, 3),
    "log2": (FLOATS, 0.1, 3), "logical_not": (BOOL, 0, 1), "negative": (REAL, -3, 3), "positive": (REAL, -3, 3),
    "real": (REAL, -3, 3), "reciprocal": (FLOATS, 0.1, 3), "round": (REAL, -3, 3), "sign": (REAL, -3, 3),
    "signbit": (FLOATS, -3, 3), "sin": (FLOATS, -3, 3), "sinh": (FLOATS, -3, 3), "sqrt": (FLOATS, 0, 3),
    "square": (REAL, -3, 3), "tan": (FLOATS, -1, 1), "tanh": (FLOATS, -3, 3), "trunc": (REAL, -3, 3),
    "bitwise_invert": ((*BOOL, *INTEGERS), -3, 3),
}
BINARY: dict[str, tuple[tuple[str, ...], float, float]] = {
    "add": (REAL, -3, 3), "atan2": (FLOATS, 0.1, 3), "bitwise_and": ((*BOOL, *INTEGERS), -3, 3),
    "bitwise_left_shift": (INTEGERS, 0, 3), "bitwise_or": ((*BOOL, *INTEGERS), -3, 3),
    "bitwise_right_shift": (INTEGERS, 0, 3), "bitwise_xor": ((*BOOL, *INTEGERS), -3, 3), "copysign": (FLOATS, -3, 3),
    "divide": (FLOATS, 0.1, 3), "equal": (ALL, -3, 3), "floor_divide": (REAL, 1, 9), "greater": (REAL, -3, 3),
    "greater_equal": (REAL, -3, 3), "hypot": (FLOATS, -3, 3), "less": (REAL, -3, 3), "less_equal": (REAL, -3, 3),
    "logaddexp": (FLOATS, -3, 3), "logical_and": (BOOL, 0, 1), "logical_or": (BOOL, 0, 1), "logical_xor": (BOOL, 0, 1),
    "maximum": (REAL, -3, 3), "minimum": (REAL, -3, 3), "multiply": (REAL, -3, 3), "nextafter": (FLOATS, -3, 3),
    "not_equal": (ALL, -3, 3), "pow": (REAL, 1, 3), "remainder": (REAL, 1, 9), "subtract": (REAL, -3, 3),
}


def elementwise_calls() -> Iterator[Call]:
    for name, (dtypes, low, high) in UNARY.items():
        for shape in ((2, 3), (), (0, 2)):
            yield Call(name, dtypes, one(*shape, low=low, high=high), label=str(shape))
    for name, (dtypes, low, high) in BINARY.items():
        for a, b in (((2, 3), (2, 3)), ((2, 1), (3,)), ((), (2,)), ((), ())):
            yield Call(name, dtypes, two(a, b, low, high), label=f"{a}{b}")
        for first, second in PROMOTABLE:
            if first in dtypes and second in dtypes:
                yield Call(name, (f"{first},{second}",), mixed(first, second), label=" promoted")
        if name not in ("logical_and", "logical_or", "logical_xor"):
            scalar = True if dtypes == BOOL else 2
            yield Call(name, tuple(d for d in dtypes if d != "bool"), one(3, low=1, high=3),
                       lambda s, x, n=name, c=scalar: named(s, n)(x, c), " x, 2")
            yield Call(name, tuple(d for d in dtypes if d != "bool"), one(3, low=0, high=2),
                       lambda s, x, n=name, c=scalar: named(s, n)(c, x) if n != "bitwise_left_shift" else s.add(x, c),
                       " 2, x")


def square_matrix(dtype: str) -> tuple[Any, ...]:
    a = sample(dtype, 2, 3, 3, seed=3)
    return (a @ np.moveaxis(a, -1, -2) + 3 * np.eye(3, dtype=dtype),)


AXES: tuple[dict[str, Any], ...] = ({}, {"axis": 1}, {"axis": -1, "keepdims": True}, {"axis": (0, 2)}, {"axis": ()},
                                    {"keepdims": True})
ONE_AXIS: tuple[dict[str, Any], ...] = ({}, {"axis": 1}, {"axis": -1, "keepdims": True}, {"keepdims": True})


def with_options(name: str, dtypes: tuple[str, ...], options: tuple[dict[str, Any], ...], *shape: int) -> list[Call]:
    return [Call(name, dtypes, one(*shape), lambda s, x, o=o: named(s, name)(x, **o), str(o)) for o in options]


def reduction_calls() -> Iterator[Call]:
    shape = (2, 3, 2)
    for name in ("sum", "prod"):
        yield from with_options(name, REAL, AXES, *shape)
        yield Call(name, REAL, one(*shape), lambda s, x, n=name: named(s, n)(x, dtype=s.float64), " dtype")
        yield Call(name, REAL, one(*shape), lambda s, x, n=name: named(s, n)(x, dtype=s.int64, axis=0), " int64")
        yield Call(name, REAL, one(0, 2), lambda s, x, n=name: named(s, n)(x, axis=0), " of none")
    for name in ("max", "min"):
        yield from with_options(name, REAL, AXES, *shape)
    yield from with_options("mean", FLOATS, AXES, *shape)
    for name in ("std", "var"):
        yield from with_options(name, FLOATS, (*AXES, {"correction": 1}, {"correction": 0.5, "axis": 0}), *shape)
    for name in ("all", "any", "count_nonzero"):
        yield from with_options(name, ALL, AXES, *shape)
        yield Call(name, ALL, one(0, 2), lambda s, x, n=name: named(s, n)(x, axis=0), " of none")
    for name in ("argmax", "argmin"):
        yield from with_options(name, REAL, ONE_AXIS, *shape)
    for name in ("cumulative_sum", "cumulative_prod"):
        yield from with_options(name, REAL, ({"axis": 0}, {"axis": -1, "include_initial": True}), *shape)
        yield from with_options(name, REAL, ({}, {"include_initial": True}), 4)
        yield Call(name, REAL, one(4), lambda s, x, n=name: named(s, n)(x, dtype=s.float64), " dtype")
    yield from with_options("diff", REAL, ({}, {"axis": 0}, {"n": 2, "axis": 1}, {"n": 0}), *shape)
    yield Call("diff", REAL, two((3,), (2,)), lambda s, x, y: s.diff(x, prepend=y, append=y), " ends")


def manipulation_calls() -> Iterator[Call]:
    x3, f = (2, 3, 2), one(2, 3, 2)
    yield Call("broadcast_to", ALL, one(3, 1), lambda s, x: s.broadcast_to(x, (2, 3, 4)))
    yield Call("broadcast_arrays", ALL, two((3, 1), (2,)))
    yield Call("concat", ALL, two((2, 3), (1, 3)), lambda s, *a: s.concat(a))
    yield Call("concat", ALL, two((2, 3), (2, 1)), lambda s, *a: s.concat(list(a), axis=-1), " axis")
    yield Call("concat", ALL, two((2, 3), (2,)), lambda s, *a: s.concat(a, axis=None), " flat")
    for first, second in PROMOTABLE:
        make = mixed(first, second)
        yield Call("concat", (f"{first},{second}",), make, lambda s, a, b: s.concat([a[0, ...], b]), " promoted")
        yield Call("stack", (f"{first},{second}",), make, lambda s, a, b: s.stack([a[0, ...], b]), " promoted")
        yield Call("where", (f"{first},{second}",), make, lambda s, a, b: s.where(a > 1, a, b), " promoted")
    for axis in (0, -1, 2):
        yield Call("expand_dims", ALL, f, lambda s, x, a=axis: s.expand_dims(x, axis=a), str(axis))
        yield Call("flip", ALL, f, lambda s, x, a=axis: s.flip(x, axis=a), str(axis))
        yield Call("repeat", ALL, f, lambda s, x, a=axis: s.repeat(x, 2, axis=a), str(axis))
        yield Call("roll", ALL, f, lambda s, x, a=axis: s.roll(x, 2, axis=a), str(axis))
        yield Call("stack", ALL, two(x3, x3), lambda s, *x, a=axis: s.stack(x, axis=a), str(axis))
        yield Call("unstack", ALL, f, lambda s, x, a=axis: s.unstack(x, axis=a), str(axis))
    yield Call("flip", ALL, f, lambda s, x: s.flip(x, axis=(0, 2)), " two")
    yield Call("flip", ALL, f)
    yield Call("moveaxis", ALL, f, lambda s, x: s.moveaxis(x, (0, 1), (-1, 0)))
    yield Call("permute_dims", ALL, f, lambda s, x: s.permute_dims(x, axes=(2, 0, 1)))
    yield Call("matrix_transpose", ALL, f)
    yield Call("repeat", ALL, one(3), lambda s, x: s.repeat(x, s.asarray([2, 0, 1])), " counts")
    yield Call("repeat", ALL, f, lambda s, x: s.repeat(x, 3), " flat")
    yield Call("reshape", ALL, f, lambda s, x: s.reshape(x, (3, -1)))
    yield Call("reshape", ALL, f, lambda s, x: s.reshape(x, (4, 3), copy=True), " copy")
    yield Call("roll", ALL, f, lambda s, x: s.roll(x, (1, -2), axis=(0, 1)), " two")
    yield Call("roll", ALL, f, lambda s, x: s.roll(x, -3), " flat")
    yield Call("squeeze", ALL, one(1, 3, 1), lambda s, x: s.squeeze(x, axis=(0, -1)))
    yield Call("tile", ALL, one(2, 3), lambda s, x: s.tile(x, (2, 1, 2)))
    yield Call("tile", ALL, one(2, 3, 2), lambda s, x: s.tile(x, (2,)), " short")
    yield Call("meshgrid", REAL, two((2,), (3,)))
    yield Call("meshgrid", REAL, two((2,), (3,)), lambda s, *a: s.meshgrid(*a, indexing="ij"), " ij")
    for k in (0, 1, -2):
        yield Call("tril", ALL, f, lambda s, x, k=k: s.tril(x, k=k), str(k))
        yield Call("triu", ALL, f, lambda s, x, k=k: s.triu(x, k=k), str(k))
    for name in ("zeros_like", "ones_like"):
        yield Call(name, ALL, f)
        yield Call(name, ALL, f, lambda s, x, n=name: named(s, n)(x, dtype=s.float32, device=None), " dtype")
    yield Call("full_like", ALL, f, lambda s, x: s.full_like(x, 1))
    yield Call("full_like", FLOATS, f, lambda s, x: s.full_like(x, 2.5), " float")
    for target in ALL:
        yield Call("astype", ALL, one(2, 2, low=0), lambda s, x, t=target: s.astype(x, getattr(s, t)), f" {target}")


def searching_calls() -> Iterator[Call]:
    yield Call("where", ALL, two((2, 3), (3,)), lambda s, a, b: s.where(a == b, a, b))
    yield Call("where", REAL, one(4), lambda s, a: s.where(a > 0, a, 1), " scalar")
    yield Call("clip", REAL, one(2, 3), lambda s, x: s.clip(x, 0, 2))
    yield Call("clip", REAL, one(2, 3), lambda s, x: s.clip(x, min=1), " low")
    yield Call("clip", REAL, one(2, 3), lambda s, x: s.clip(x, max=1), " high")
    yield Call("clip", REAL, one(2, 3), lambda s, x: s.clip(x), " free")
    yield Call("clip", REAL, two((2, 3), (3,)), lambda s, x, y: s.clip(x, y, y + s.ones_like(y)), " arrays")
    yield Call("clip", ("int8,int32",), mixed("int8", "int32"), lambda s, x, y: s.clip(x, y, None), " wider bound")
    yield Call("clip", ("float32,float64",), mixed("float32", "float64"), lambda s, x, y: s.clip(x, None, y), " wider")
    yield Call("clip", ("uint8", "int16"), one(3), lambda s, x: s.clip(x, -100000, 100000), " out of range")
    for axis in (0, -1):
        yield Call("take", ALL, one(2, 3), lambda s, x, a=axis: s.take(x, s.asarray([1, 0, 1]), axis=a), str(axis))
        for options in ({}, {"descending": True}, {"stable": False}):
            o = {**options, "axis": axis}
            yield Call("sort", REAL, one(3, 4), lambda s, x, o=o: s.sort(x, **o), str(o))
            if "stable" not in o:
                yield Call("argsort", REAL, one(3, 4), lambda s, x, o=o: s.argsort(x, **o), str(o))
        yield Call("take_along_axis", REAL, one(3, 3), lambda s, x, a=axis: s.take_along_axis(x, s.asarray([[0, 2, 1]]),
                                                                                             axis=a) if a == 0 else x)
    yield Call("take", ALL, one(4), lambda s, x: s.take(x, s.asarray([3, 0])), " vector")
    for side in ("left", "right"):
        yield Call("searchsorted", REAL, lambda d: (np.sort(sample(d, 5)), sample(d, 2, 3)),
                   lambda s, a, b, side=side: s.searchsorted(a, b, side=side), f" {side}")
    yield Call("nonzero", ALL, one(3, 4))
    for name in ("unique_all", "unique_counts", "unique_inverse", "unique_values"):
        yield Call(name, ALL, one(3, 4))


def algebra_calls() -> Iterator[Call]:
    for a, b in (((2, 3), (3, 4)), ((3,), (3,)), ((2, 2, 3), (3,)), ((3,), (2, 3, 2)), ((2, 1, 2, 3), (3, 3, 2))):
        yield Call("matmul", REAL, two(a, b), label=f"{a}{b}")
    for axes in (0, 1, ((0, 1), (1, 0))):
        yield Call("tensordot", REAL, two((2, 3), (3, 2)), lambda s, *x, k=axes: s.tensordot(*x, axes=k), str(axes))
    yield Call("vecdot", REAL, two((2, 3), (3,)))
    yield Call("vecdot", REAL, two((3, 2), (3, 2)), lambda s, *x: s.vecdot(*x, axis=-2), " axis")
    for first, second in PROMOTABLE:
        yield Call("matmul", (f"{first},{second}",), mixed(first, second), label=" promoted")
        yield Call("vecdot", (f"{first},{second}",), mixed(first, second), label=" promoted")
    yield Call("linalg.outer", REAL, two((2,), (3,)))
    yield Call("linalg.cross", REAL, two((2, 3), (2, 3)))
    yield Call("linalg.diagonal", ALL, one(2, 3, 4), lambda s, x: s.linalg.diagonal(x, offset=1))
    yield Call("linalg.trace", REAL, one(2, 3, 4), lambda s, x: s.linalg.trace(x, offset=-1))
    yield Call("linalg.trace", REAL, one(3, 3), lambda s, x: s.linalg.trace(x, dtype=s.float64), " dtype")
    for name in ("matmul", "tensordot", "vecdot"):
        yield Call(f"linalg.{name}", REAL, two((3, 3), (3, 3)))
    yield Call("linalg.matrix_transpose", REAL, one(2, 3))
    for n in (0, 1, 3, -2):
        yield Call("linalg.matrix_power", FLOATS, square_matrix, lambda s, x, n=n: s.linalg.matrix_power(x, n), str(n))
    for order in (1, 2, 3, 0, -1, np.inf, -np.inf):
        yield Call("linalg.vector_norm", FLOATS, one(2, 3), lambda s, x, o=order: s.linalg.vector_norm(x, ord=o),
                   str(order))
    yield Call("linalg.vector_norm", FLOATS, one(2, 3, 2),
               lambda s, x: s.linalg.vector_norm(x, axis=(0, 2), keepdims=True), " axes")
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        yield Call("linalg.matrix_norm", FLOATS, one(2, 3, 2),
                   lambda s, x, o=order: s.linalg.matrix_norm(x, ord=o, keepdims=o == 1), str(order))
    for name in ("cholesky", "det", "inv", "slogdet", "eigvalsh", "svdvals", "pinv", "matrix_rank"):
        yield Call(f"linalg.{name}", FLOATS, square_matrix)
    yield Call("linalg.cholesky", FLOATS, square_matrix, lambda s, x: s.linalg.cholesky(x, upper=True), " upper")
    yield Call("linalg.solve", FLOATS, lambda d: (*square_matrix(d), sample(d, 3)))
    yield Call("linalg.solve", FLOATS, lambda d: (*square_matrix(d), sample(d, 3, 2)), label=" columns")
    # the factors are compared by what they multiply to: their signs are free
    yield Call("linalg.eigh", FLOATS, square_matrix, lambda s, x: _product(s, s.linalg.eigh(x)))
    yield Call("linalg.qr", FLOATS, one(4, 3), lambda s, x: s.matmul(*s.linalg.qr(x, mode="reduced")))
    yield Call("linalg.svd", FLOATS, one(4, 3), lambda s, x: _three(s, s.linalg.svd(x, full_matrices=False)))


def _product(s: Any, factors: Any) -> Any:
    values, vectors = factors
    return s.matmul(vectors * s.expand_dims(values, axis=-2), s.matrix_transpose(vectors))


def _three(s: Any, factors: Any) -> Any:
    left, values, right = factors
    return s.matmul(left * s.expand_dims(values, axis=-2), right)


CALLS = [*elementwise_calls(), *reduction_calls(), *manipulation_calls(), *searching_calls(), *algebra_calls()]

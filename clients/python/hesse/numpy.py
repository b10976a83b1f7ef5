"""NumPy's functions under the array API standard's names, for code that is traced and for code that is not.

Outside a trace every function is NumPy's own and answers with an `np.ndarray`. Where an argument is traced, or a list
holds something traced, the function builds the graph instead. Anything else that NumPy offers is reached the same way
(`hesse.numpy.kron`), by name.

    import hesse.numpy as xp

    def f(x):
        return xp.sum(xp.where(x > 0, x**2, 0.0))
"""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hesse.eager import Array
from hesse.eager import binary as _binary
from hesse.eager import call as _call
from hesse.eager import unary as _unary
from hesse_engine.errors import ArgumentTypeError
from hesse_engine.frontends.table import find
from hesse_engine.frontends.trace import register_namespace
from hesse_engine.frontends.trace import tracer_in as _tracer_in

Axis = int | Sequence[int] | None

pi, e, inf, nan, newaxis = np.pi, np.e, np.inf, np.nan, None
float64, float32, bool = np.float64, np.float32, np.bool_
int64, int32, int16, int8 = np.int64, np.int32, np.int16, np.int8
uint64, uint32, uint16, uint8 = np.uint64, np.uint32, np.uint16, np.uint8
finfo, iinfo, isdtype, dtype, ndarray = np.finfo, np.iinfo, np.isdtype, np.dtype, np.ndarray
__array_api_version__ = "2024.12"


# ---- elementwise -----------------------------------------------------------------------------------------------------
abs, sign, square = _unary("abs"), _unary("sign"), _unary("square")
negative, positive = _unary("negative"), _unary("positive")
sqrt, exp, expm1, log, log1p = _unary("sqrt"), _unary("exp"), _unary("expm1"), _unary("log"), _unary("log1p")
log2, log10, reciprocal = _unary("log2"), _unary("log10"), _unary("reciprocal")
sin, cos, tan, tanh = _unary("sin"), _unary("cos"), _unary("tan"), _unary("tanh")
sinh, cosh = _unary("sinh"), _unary("cosh")
asin, acos, atan = _unary("asin"), _unary("acos"), _unary("atan")
asinh, acosh, atanh = _unary("asinh"), _unary("acosh"), _unary("atanh")
floor, ceil, round, trunc = _unary("floor"), _unary("ceil"), _unary("round"), _unary("trunc")
sigmoid, softplus = _unary("sigmoid"), _unary("softplus")
isnan, isinf, isfinite, logical_not = _unary("isnan"), _unary("isinf"), _unary("isfinite"), _unary("logical_not")
add, subtract, multiply, divide = _binary("add"), _binary("subtract"), _binary("multiply"), _binary("divide")
pow, power, atan2, hypot = _binary("pow"), _binary("power"), _binary("atan2"), _binary("hypot")
remainder, floor_divide = _binary("remainder"), _binary("floor_divide")
maximum, minimum, logaddexp = _binary("maximum"), _binary("minimum"), _binary("logaddexp")
equal, not_equal, less, less_equal = _binary("equal"), _binary("not_equal"), _binary("less"), _binary("less_equal")
greater, greater_equal = _binary("greater"), _binary("greater_equal")
logical_and, logical_or, logical_xor = _binary("logical_and"), _binary("logical_or"), _binary("logical_xor")


def clip(x: Array, min: Array = None, max: Array = None) -> Array:
    """min(max(x, low), high); a bound of None does not bind."""
    return _call("clip", x, min, max)


def where(condition: Array, x1: Array, x2: Array) -> Array:
    """x1 where the condition holds, else x2."""
    return _call("where", condition, x1, x2)


# ---- reductions ------------------------------------------------------------------------------------------------------
def sum(x: Array, axis: Axis = None, *, dtype: Any = None, keepdims: builtins.bool = False) -> Array:
    """Sum over axes."""
    return _call("sum", x, axis=_axes(axis), dtype=dtype, keepdims=keepdims)


def mean(x: Array, axis: Axis = None, *, keepdims: builtins.bool = False) -> Array:
    """Arithmetic mean over axes."""
    return _call("mean", x, axis=_axes(axis), keepdims=keepdims)


def prod(x: Array, axis: Axis = None, *, dtype: Any = None, keepdims: builtins.bool = False) -> Array:
    """Product over axes."""
    return _call("prod", x, axis=_axes(axis), dtype=dtype, keepdims=keepdims)


def max(x: Array, axis: Axis = None, *, keepdims: builtins.bool = False) -> Array:
    """Largest element over axes; ties share the derivative evenly."""
    return _call("max", x, axis=_axes(axis), keepdims=keepdims)


def min(x: Array, axis: Axis = None, *, keepdims: builtins.bool = False) -> Array:
    """Smallest element over axes; ties share the derivative evenly."""
    return _call("min", x, axis=_axes(axis), keepdims=keepdims)


def var(x: Array, axis: Axis = None, *, correction: float = 0.0, keepdims: builtins.bool = False) -> Array:
    """Mean squared deviation over axes, the count reduced by `correction`."""
    return _call("var", x, axis=_axes(axis), ddof=correction, keepdims=keepdims)


def std(x: Array, axis: Axis = None, *, correction: float = 0.0, keepdims: builtins.bool = False) -> Array:
    """Square root of `var`."""
    return _call("std", x, axis=_axes(axis), ddof=correction, keepdims=keepdims)


def any(x: Array, axis: Axis = None, *, keepdims: builtins.bool = False) -> Array:
    """Whether any element over axes is true."""
    return _call("any", x, axis=_axes(axis), keepdims=keepdims)


def all(x: Array, axis: Axis = None, *, keepdims: builtins.bool = False) -> Array:
    """Whether every element over axes is true."""
    return _call("all", x, axis=_axes(axis), keepdims=keepdims)


def argmax(x: Array, axis: int | None = None, *, keepdims: builtins.bool = False) -> Array:
    """Position of the first largest element along an axis."""
    return _call("argmax", x, axis=axis, keepdims=keepdims)


def argmin(x: Array, axis: int | None = None, *, keepdims: builtins.bool = False) -> Array:
    """Position of the first smallest element along an axis."""
    return _call("argmin", x, axis=axis, keepdims=keepdims)


def cumulative_sum(x: Array, axis: int | None = None) -> Array:
    """Sums of the first 1, 2, ... elements along an axis."""
    return _call("cumsum", x, axis=_only_axis("cumulative_sum", x, axis))


def cumulative_prod(x: Array, axis: int | None = None) -> Array:
    """Products of the first 1, 2, ... elements along an axis."""
    return _call("cumprod", x, axis=_only_axis("cumulative_prod", x, axis))


def diff(x: Array, n: int = 1, axis: int = -1) -> Array:
    """Differences of neighbours along an axis, n times."""
    return _call("diff", x, n=n, axis=axis)


def _axes(axis: Axis) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _only_axis(name: str, x: Array, axis: int | None) -> int:
    if axis is None and np.ndim(x) != 1:
        raise ArgumentTypeError("bad-type", f"{name} needs an axis for an array with {np.ndim(x)} dimensions.")
    return 0 if axis is None else axis


# ---- manipulation ----------------------------------------------------------------------------------------------------
def reshape(x: Array, shape: int | Sequence[int]) -> Array:
    """The same elements in row-major order under another shape; one length may be -1."""
    return _call("reshape", x, shape)


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    """Axes in another order."""
    return _call("transpose", x, tuple(axes))


def matrix_transpose(x: Array) -> Array:
    """The last two axes exchanged."""
    return _call("matrix_transpose", x)


def moveaxis(x: Array, source: int | Sequence[int], destination: int | Sequence[int]) -> Array:
    """Axes moved to other places, the others in their order."""
    return _call("moveaxis", x, source, destination)


def expand_dims(x: Array, axis: int | Sequence[int] = 0) -> Array:
    """A new axis of length 1."""
    return _call("expand_dims", x, axis)


def squeeze(x: Array, axis: Axis = None) -> Array:
    """Without axes of length 1."""
    return _call("squeeze", x, axis=_axes(axis))


def broadcast_to(x: Array, shape: Sequence[int]) -> Array:
    """x repeated to a shape that it broadcasts to."""
    return _call("broadcast_to", x, tuple(shape))


def broadcast_arrays(*arrays: Array) -> list[Array]:
    """The arrays broadcast against each other."""
    return list(_call("broadcast_arrays", *arrays))


def concat(arrays: Sequence[Array], axis: int | None = 0) -> Array:
    """The arrays one after the other along an axis; None flattens them first."""
    return _call("concatenate", arrays, axis=axis)


concatenate = concat


def stack(arrays: Sequence[Array], axis: int = 0) -> Array:
    """The arrays along a new axis."""
    return _call("stack", arrays, axis=axis)


def unstack(x: Array, axis: int = 0) -> tuple[Array, ...]:
    """The slices of x along an axis."""
    return tuple(_call("unstack", x, axis=axis))


def flip(x: Array, axis: Axis = None) -> Array:
    """Axes reversed in direction."""
    return _call("flip", x, axis=_axes(axis))


def roll(x: Array, shift: int | Sequence[int], axis: Axis = None) -> Array:
    """Elements moved along axes, around the end."""
    return _call("roll", x, shift, axis=_axes(axis))


def tile(x: Array, repetitions: int | Sequence[int]) -> Array:
    """x repeated along its axes."""
    return _call("tile", x, repetitions)


def repeat(x: Array, repeats: Any, axis: int | None = None) -> Array:
    """Each element repeated."""
    return _call("repeat", x, repeats, axis=axis)


def take(x: Array, indices: Array, axis: int | None = None) -> Array:
    """The entries of x at integer indices along an axis."""
    return _call("take", x, indices, axis=axis)


def take_along_axis(x: Array, indices: Array, axis: int = -1) -> Array:
    """The entry of x at an index of its own, for every position."""
    return _call("take_along_axis", x, indices, axis=axis)


def tril(x: Array, k: int = 0) -> Array:
    """The lower triangle, zeros above."""
    return _call("tril", x, k=k)


def triu(x: Array, k: int = 0) -> Array:
    """The upper triangle, zeros below."""
    return _call("triu", x, k=k)


def meshgrid(*arrays: Array, indexing: str = "xy") -> list[Array]:
    """Coordinates of a grid from those of its axes."""
    return list(_call("meshgrid", *arrays, indexing=indexing))


# ---- products --------------------------------------------------------------------------------------------------------
def matmul(x1: Array, x2: Array) -> Array:
    """Matrix product over the last two axes."""
    return _call("matmul", x1, x2)


def tensordot(x1: Array, x2: Array, axes: Any = 2) -> Array:
    """Sum of products over pairs of axes."""
    return _call("tensordot", x1, x2, axes)


def vecdot(x1: Array, x2: Array, axis: int = -1) -> Array:
    """Sum of products along an axis."""
    return _call("vecdot", x1, x2, axis=axis)


def outer(x1: Array, x2: Array) -> Array:
    """x1_i x2_j of the flattened operands."""
    return _call("outer", x1, x2)


def dot(a: Array, b: Array) -> Array:
    """NumPy's dot."""
    return _call("dot", a, b)


def einsum(subscripts: str, *operands: Array) -> Array:
    """Einstein summation."""
    return _call("einsum", subscripts, *operands)


class linalg:  # noqa: N801  (a namespace, as NumPy's is)
    """The part of NumPy's `linalg` that is differentiated: products, norms, factors, solutions and determinants."""

    matmul, tensordot = staticmethod(matmul), staticmethod(tensordot)
    vecdot, outer = staticmethod(vecdot), staticmethod(outer)
    matrix_transpose = staticmethod(matrix_transpose)

    @staticmethod
    def norm(x: Array, ord: Any = None, axis: Any = None, keepdims: builtins.bool = False) -> Array:
        """Norm of vectors, or of matrices where two axes are named; at 0 its derivatives are 0."""
        return _call("linalg.norm", x, ord, axis=axis, keepdims=keepdims)

    @staticmethod
    def vector_norm(x: Array, *, axis: Any = None, keepdims: builtins.bool = False, ord: Any = 2) -> Array:
        """(sum |x|^ord)^(1/ord) over axes."""
        return _call("linalg.vector_norm", x, axis=axis, keepdims=keepdims, ord=ord)

    @staticmethod
    def matrix_norm(x: Array, *, keepdims: builtins.bool = False, ord: Any = "fro") -> Array:
        """Norm over the last two axes."""
        return _call("linalg.matrix_norm", x, keepdims=keepdims, ord=ord)

    @staticmethod
    def matrix_power(x: Array, n: int) -> Array:
        """x @ x @ ... n times."""
        return _call("linalg.matrix_power", x, n)

    @staticmethod
    def trace(x: Array, *, offset: int = 0) -> Array:
        """Sum of a diagonal of the last two axes."""
        return _call("linalg.trace", x, offset=offset)

    @staticmethod
    def diagonal(x: Array, *, offset: int = 0) -> Array:
        """A diagonal of the last two axes."""
        return _call("linalg.diagonal", x, offset=offset)

    @staticmethod
    def cross(x1: Array, x2: Array, *, axis: int = -1) -> Array:
        """Vector product along an axis of length 3."""
        return _call("linalg.cross", x1, x2, axis=axis)

    @staticmethod
    def cholesky(x: Array, *, upper: builtins.bool = False) -> Array:
        """L with L L' = x, or its transpose, for symmetric positive definite x, read by its lower triangle."""
        return _call("linalg.cholesky", x, upper=upper)

    @staticmethod
    def solve(a: Array, b: Array) -> Array:
        """a^-1 b for the columns of b, or one vector b."""
        return _call("linalg.solve", a, b)

    @staticmethod
    def inv(x: Array) -> Array:
        """The inverse."""
        return _call("linalg.inv", x)

    @staticmethod
    def det(x: Array) -> Array:
        """The determinant."""
        return _call("linalg.det", x)

    @staticmethod
    def slogdet(x: Array) -> tuple[Array, Array]:
        """(sign, logabsdet): the determinant is sign * exp(logabsdet)."""
        sign, logabsdet = _call("linalg.slogdet", x)
        return sign, logabsdet


# ---- creation --------------------------------------------------------------------------------------------------------
def asarray(obj: Any, dtype: Any = None, *, copy: builtins.bool | None = None) -> Array:
    """`obj` as an array; a list that holds traced values becomes a traced array."""
    if _tracer_in([obj]) is None:
        return np.asarray(obj, dtype=dtype, copy=copy)
    return _call("asarray", obj, dtype=dtype)


def array(obj: Any, dtype: Any = None) -> Array:
    """As `asarray`, always a copy."""
    return asarray(obj, dtype, copy=True)


def astype(x: Array, dtype: Any) -> Array:
    """x in another dtype."""
    return _call("astype", x, dtype)


def zeros(shape: int | Sequence[int], dtype: Any = None) -> np.ndarray[Any, Any]:
    """Zeros."""
    return np.zeros(shape, dtype or np.float64)


empty = zeros


def ones(shape: int | Sequence[int], dtype: Any = None) -> np.ndarray[Any, Any]:
    """Ones."""
    return np.ones(shape, dtype or np.float64)


def full(shape: int | Sequence[int], fill_value: Array, dtype: Any = None) -> Array:
    """One value everywhere."""
    if _tracer_in([fill_value]) is None:
        return np.full(shape, fill_value, dtype)
    return _call("broadcast_to", fill_value if dtype is None else astype(fill_value, dtype), shape)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> np.ndarray[Any, Any]:
    """start, start + step, ... below stop."""
    bounds: tuple[Any, ...] = (start,) if stop is None else (start, stop, step)
    return np.arange(*bounds, dtype=dtype)


def linspace(start: Array, stop: Array, num: int, dtype: Any = None, *, endpoint: builtins.bool = True) -> Array:
    """`num` points from start to stop."""
    return _call("linspace", start, stop, num, dtype=dtype, endpoint=endpoint)


def eye(n_rows: int, n_cols: int | None = None, *, k: int = 0, dtype: Any = None) -> np.ndarray[Any, Any]:
    """Ones on a diagonal."""
    return np.eye(n_rows, n_cols, k, dtype or np.float64)


def zeros_like(x: Array, dtype: Any = None) -> Array:
    """Zeros in the shape of x."""
    return _call("zeros_like", x, dtype=dtype)


empty_like = zeros_like


def ones_like(x: Array, dtype: Any = None) -> Array:
    """Ones in the shape of x."""
    return _call("ones_like", x, dtype=dtype)


def full_like(x: Array, fill_value: Array, dtype: Any = None) -> Array:
    """One value in the shape of x."""
    return _call("full_like", x, fill_value, dtype=dtype)


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The common dtype."""
    found: np.dtype[Any] = _call("result_type", *arrays_and_dtypes)
    return found


# ---- the rest of NumPy, by name --------------------------------------------------------------------------------------
def __getattr__(name: str) -> Any:
    if name == "random":
        return importlib.import_module("hesse.random")
    if name.startswith("_") or find(name, "numpy") is None or not hasattr(np, name):
        raise AttributeError(f"module 'hesse.numpy' has no attribute {name!r}")

    def function(*args: Any, **kwargs: Any) -> Any:
        return _call(name, *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"As `numpy.{name}`."
    return function


register_namespace(__name__)

"""Linear algebra: products, factors, solutions, norms and determinants of the matrices on the last two axes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from hesse.eager import Array, Axis, as_arrays, call, is_traced
from hesse.numpy.manipulation import matrix_transpose
from hesse.numpy.named import function


# ---- products, which stand in the main namespace too -----------------------------------------------------------------
def matmul(x1: Array, x2: Array, /) -> Array:
    """Matrix product over the last two axes; vectors are rows on the left and columns on the right."""
    return call("matmul", x1, x2)


def tensordot(x1: Array, x2: Array, /, *, axes: Any = 2) -> Array:
    """Sum of products over pairs of axes: a number of them, or two lists."""
    return call("tensordot", x1, x2, axes)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Sum of products along an axis; of complex numbers x1 is conjugated."""
    return call("vecdot", x1, x2, axis=axis)


def outer(x1: Array, x2: Array, /) -> Array:
    """x1_i x2_j of two vectors."""
    return call("linalg.outer", x1, x2)


def cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Vector product along an axis of length 3."""
    return call("linalg.cross", x1, x2, axis=axis)


def matrix_power(x: Array, n: int, /) -> Array:
    """x @ x @ ... n times; of the inverse for negative n."""
    return call("linalg.matrix_power", x, n)


# ---- diagonals and norms ---------------------------------------------------------------------------------------------
def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """A diagonal."""
    return call("linalg.diagonal", x, offset=offset)


def trace(x: Array, /, *, offset: int = 0, dtype: Any = None) -> Array:
    """Sum of a diagonal; small integers are added in 64 bits."""
    return call("linalg.trace", x, offset=offset, dtype=dtype)


def norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """NumPy's `norm`: of vectors, or of matrices where two axes are named; at 0 its derivatives are 0."""
    return call("linalg.norm", x, ord, axis=axis, keepdims=keepdims)


def vector_norm(x: Array, /, *, axis: Axis = None, keepdims: bool = False, ord: Any = 2) -> Array:
    """(sum |x|^ord)^(1/ord) over axes; at 0 its derivatives are 0."""
    return call("linalg.vector_norm", x, axis=axis, keepdims=keepdims, ord=ord)


def matrix_norm(x: Array, /, *, keepdims: bool = False, ord: Any = "fro") -> Array:
    """Norm of matrices: 'fro', 'nuc', or of order 1, 2, inf and their negatives."""
    return call("linalg.matrix_norm", x, keepdims=keepdims, ord=ord)


# ---- factors ---------------------------------------------------------------------------------------------------------
def cholesky(x: Array, /, *, upper: bool = False) -> Array:
    """L with L L' = x, or its transpose, for symmetric positive definite x, read by its lower triangle."""
    return call("linalg.cholesky", x, upper=upper)


def eigh(x: Array, /) -> Any:
    """(eigenvalues, eigenvectors) of symmetric x, in ascending order; the vectors are columns."""
    return call("linalg.eigh", x)


def eigvalsh(x: Array, /) -> Array:
    """Eigenvalues of symmetric x, in ascending order."""
    return call("linalg.eigvalsh", x)


def qr(x: Array, /, *, mode: str = "reduced") -> Any:
    """(Q, R) with x = Q R, Q' Q = I and R upper triangular."""
    return call("linalg.qr", x, mode=mode)


def svd(x: Array, /, *, full_matrices: bool = True) -> Any:
    """(U, S, Vh) with x = U diag(S) Vh, the singular values in descending order."""
    return call("linalg.svd", x, full_matrices=full_matrices)


def svdvals(x: Array, /) -> Array:
    """Singular values, in descending order."""
    return call("linalg.svdvals", x)


def matrix_rank(x: Array, /, *, rtol: Any = None) -> Array:
    """How many singular values exceed rtol times the largest; rtol is max(M, N) eps where it is not given."""
    return call("linalg.matrix_rank", x, rtol=rtol)


# ---- solutions and determinants --------------------------------------------------------------------------------------
def det(x: Array, /) -> Array:
    """The determinant."""
    return call("linalg.det", x)


def inv(x: Array, /) -> Array:
    """The inverse."""
    return call("linalg.inv", x)


def pinv(x: Array, /, *, rtol: Any = None) -> Array:
    """The pseudo-inverse, singular values up to rtol times the largest taken as 0."""
    return call("linalg.pinv", x, rtol=rtol)


def slogdet(x: Array, /) -> Any:
    """(sign, logabsdet): the determinant is sign * exp(logabsdet)."""
    return call("linalg.slogdet", x)


def solve(x1: Array, x2: Array, /) -> Array:
    """x1^-1 x2 for the columns of x2, or one vector x2."""
    return call("linalg.solve", x1, x2)


# ---- what SciPy's `linalg` has; its own functions turn their arguments into arrays -----------------------------------
def _of_scipy(name: str, *args: Any, **kwargs: Any) -> Array:
    if is_traced(*args):
        return call(f"linalg.{name}", *args, **kwargs)
    return as_arrays(getattr(importlib.import_module("scipy.linalg"), name)(*args, **kwargs))


def solve_triangular(
    a: Array, b: Array, /, *, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False
) -> Array:
    """T^-1 b for the upper or lower triangle T of a, or its transpose; outside of a trace it needs SciPy."""
    return _of_scipy("solve_triangular", a, b, trans=trans, lower=lower, unit_diagonal=unit_diagonal)


def expm(x: Array, /) -> Array:
    """The exponential of a square matrix; outside of a trace it needs SciPy."""
    return _of_scipy("expm", x)


def sqrtm(x: Array, /) -> Array:
    """A square root of a matrix: traced, the one of a symmetric positive semidefinite matrix; else it needs SciPy."""
    return _of_scipy("sqrtm", x)


def __getattr__(name: str) -> Callable[..., Any]:
    """What else NumPy's `linalg` offers, by name."""
    if name.startswith("_") or not callable(getattr(np.linalg, name, None)):
        raise AttributeError(f"module 'hesse.numpy.linalg' has no attribute {name!r}")
    return function(f"linalg.{name}")


__all__ = [
    "cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "expm", "inv", "matmul", "matrix_norm", "matrix_power",
    "matrix_rank", "matrix_transpose", "norm", "outer", "pinv", "qr", "slogdet", "solve", "solve_triangular",
    "sqrtm", "svd", "svdvals", "tensordot", "trace", "vecdot", "vector_norm",
]

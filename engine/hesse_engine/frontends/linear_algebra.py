"""Linear algebra under NumPy's names: factors, spectra, solutions, inverses, determinants, powers."""

from __future__ import annotations

import operator
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.operands import complex_error, floating, tensor, tensors
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops.linalg import check_square, factored, product, triangle, turned
from hesse_engine.ir.shapes import axis_of, convert

SlogdetResult = namedtuple("SlogdetResult", ["sign", "logabsdet"])
EighResult = namedtuple("EighResult", ["eigenvalues", "eigenvectors"])
SVDResult = namedtuple("SVDResult", ["U", "S", "Vh"])
QRResult = namedtuple("QRResult", ["Q", "R"])


def identity_like(x: Node) -> Node:
    eye = x.builder.constant(np.eye(x.shape[-1]), floating(x).dtype)
    return apply("broadcast_to", eye, shape=x.shape)


# ---- factors ---------------------------------------------------------------------------------------------------------
@numpy_function("linalg.cholesky")
def cholesky(a: Any, /, *, upper: bool = False) -> Node:
    """The factor of the symmetric matrix with the lower triangle of a, or with the upper one."""
    x = tensor(a)
    check_square("cholesky", x)
    return turned(apply("cholesky", turned(x))) if upper else apply("cholesky", x)


@numpy_function("linalg.qr")
def qr(a: Any, mode: str = "reduced") -> Any:
    x = floating(tensor(a))
    if mode not in ("reduced", "complete", "r"):
        raise GraphError("bad-attribute", f"qr: the mode {mode!r} is not one of 'reduced', 'complete', 'r'.")
    q = apply("qr_factor", x)
    r = _upper(product(q, x, "ji,jk->ik"))
    if mode == "r":
        return r
    m, n = x.shape[-2:]
    if mode == "complete" and m > n:
        q = apply("concat", q, apply("complement", x, by="qr"), axis=-1)
        below = x.builder.full((*x.shape[:-2], m - n, n), 0.0, x.dtype)
        r = apply("concat", r, below, axis=-2)
    return QRResult(q, r)


def _upper(x: Node) -> Node:
    """What stands below the diagonal is rounding."""
    mask = x.builder.constant(np.triu(np.ones(x.shape[-2:])), x.dtype)
    return x * apply("broadcast_to", mask, shape=x.shape)


# ---- spectra ---------------------------------------------------------------------------------------------------------
def symmetric_operand(name: str, a: Any, uplo: Any) -> Node:
    """The matrix, turned so that its lower triangle is the one to be read."""
    x = floating(tensor(a))
    check_square(name, x)
    if not isinstance(uplo, str) or uplo.upper() not in ("L", "U"):
        raise GraphError("bad-attribute", f"{name}: UPLO must be 'L' or 'U', not {uplo!r}.")
    return turned(x) if uplo.upper() == "U" else x


@numpy_function("linalg.eigh")
def eigh(a: Any, UPLO: str = "L") -> EighResult:  # noqa: N803  (NumPy's name)
    x = symmetric_operand("eigh", a, UPLO)
    packed = apply("eigh", x)
    return EighResult(apply("eigh_values", x, packed), apply("eigh_vectors", x, packed))


@numpy_function("linalg.eigvalsh")
def eigvalsh(a: Any, UPLO: str = "L") -> Node:  # noqa: N803
    found: Node = eigh(a, UPLO).eigenvalues
    return found


@numpy_function("linalg.eig", "linalg.eigvals")
def eig(a: Any) -> Node:
    raise complex_error("eigenvalues of a matrix that is not symmetric are complex in general; eigh and eigvalsh take "
                        "symmetric ones.")


@numpy_function("linalg.svd")
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    x = floating(tensor(a))
    packed = apply("svd", x)
    values = apply("svd_values", x, packed)
    if not compute_uv:
        return values
    u, v = apply("svd_left", x, packed), apply("svd_right", x, packed)
    m, n = x.shape[-2:]
    if full_matrices and m > n:
        u = apply("concat", u, apply("complement", x, by="svd"), axis=-1)
    if full_matrices and m < n:
        v = apply("concat", v, apply("complement", turned(x), by="svd"), axis=-1)
    return SVDResult(u, values, turned(v))


@numpy_function("linalg.svdvals")
def svdvals(x: Any, /) -> Node:
    found: Node = svd(x, compute_uv=False)
    return found


def norm_of_singular_values(x: Node, ord: Any, axis: Sequence[int], keepdims: bool) -> Node:
    """The largest singular value (2), the smallest (-2), or the sum of all ('nuc')."""
    rows, columns = (axis_of("norm", k, x.ndim) for k in axis)
    if rows == columns:
        raise GraphError("bad-attribute", "norm: the two axes of a matrix must differ.")
    order = [*[k for k in range(x.ndim) if k not in (rows, columns)], rows, columns]
    values = svdvals(apply("permute_dims", x, axes=order))
    y = apply("sum" if ord == "nuc" else "max" if ord > 0 else "min", values, axis=-1)
    return apply("expand_dims", y, axis=(rows, columns)) if keepdims else y


@numpy_function("linalg.matrix_rank")
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Node:  # noqa: N803
    x = floating(tensor(A))
    if x.ndim < 2:
        return convert(apply("max", apply("not_equal", x, 0.0) * 1), np.dtype(np.int64))
    return rank_above(x, tol, rtol)


def rank_above(x: Node, atol: Any, rtol: Any) -> Node:
    """How many singular values exceed atol, rtol times the largest, or both where both are given."""
    values = svdvals(x)
    if atol is None and rtol is None:
        rtol = max(x.shape[-2:]) * float(np.finfo(x.dtype).eps)
    top = apply("max", values, axis=-1, keepdims=True)
    limits = [top * v if is_relative else v for v, is_relative in ((rtol, True), (atol, False)) if v is not None]
    above = apply("greater", values, limits[0])
    for limit in limits[1:]:
        above = apply("logical_and", above, apply("greater", values, limit))
    return apply("sum", above, axis=-1)


# ---- solutions and inverses ------------------------------------------------------------------------------------------
@numpy_function("linalg.solve")
def solve(a: Any, b: Any) -> Node:
    return apply("solve", *tensors(a, b))


@numpy_function("linalg.inv")
def inv(a: Any) -> Node:
    x = tensor(a)
    return apply("inv", x) if factored(x) is None else apply("solve", x, identity_like(x))


@numpy_function("linalg.pinv")
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Node:
    """The pseudo-inverse; NumPy's default for singular values that count as 0 is 1e-15 of the largest."""
    x = floating(tensor(a))
    if rtol is None:
        limit = max(x.shape[-2:], default=0) * float(np.finfo(x.dtype).eps)
    else:
        limit = 1e-15 if rtol is np._NoValue and rcond is None else rcond if rtol is np._NoValue else rtol
    return apply("pinv", x, rtol=limit, is_hermitian=bool(hermitian))


@numpy_function("linalg.lstsq")
def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Node, Node, Node, Node]:
    """(solution of least norm, sums of squared residuals, rank, singular values)."""
    x, y = (floating(t) for t in tensors(a, b))
    if x.ndim != 2 or y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise GraphError("shape-mismatch", f"lstsq: shapes {list(x.shape)} and {list(y.shape)} do not fit.")
    limit = max(x.shape) * float(np.finfo(x.dtype).eps) if rcond is None else max(float(rcond), 0.0)
    solution = apply("matmul", apply("pinv", x, rtol=limit), y)
    left = apply("sum", apply("square", y - apply("matmul", x, solution)), axis=0, keepdims=y.ndim == 1)
    if x.shape[0] <= x.shape[1]:
        left = x.builder.zeros((0,), x.dtype)
    return solution, left, rank_above(x, None, limit), svdvals(x)


@numpy_function("linalg.tensorinv")
def tensorinv(a: Any, ind: int = 2) -> Node:
    x = tensor(a)
    size = int(np.prod(x.shape[ind:]))
    flat = apply("reshape", x, shape=(x.size // size if size else 0, size))
    return apply("reshape", inv(flat), shape=(*x.shape[ind:], *x.shape[:ind]))


@numpy_function("linalg.tensorsolve")
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Node:
    x, y = tensors(a, b)
    if axes is not None:
        moved = [axis_of("tensorsolve", k, x.ndim) for k in axes]
        x = apply("permute_dims", x, axes=[*[k for k in range(x.ndim) if k not in moved], *moved])
    rest = x.shape[y.ndim:]
    flat = apply("reshape", x, shape=(y.size, int(np.prod(rest))))
    return apply("reshape", apply("solve", flat, apply("reshape", y, shape=(y.size,))), shape=rest)


# ---- determinants ----------------------------------------------------------------------------------------------------
@numpy_function("linalg.det")
def det(a: Any) -> Node:
    return apply("det", tensor(a))


@numpy_function("linalg.slogdet")
def slogdet(a: Any) -> SlogdetResult:
    x = tensor(a)
    return SlogdetResult(apply("signdet", x), apply("logabsdet", x))


# ---- products and functions of matrices ------------------------------------------------------------------------------
@numpy_function("linalg.multi_dot")
def multi_dot(arrays: Any) -> Node:
    """The product, in the order that takes the fewest multiplications."""
    factors = tensors(*arrays)
    if len(factors) < 2:
        raise GraphError("wrong-arity", "multi_dot: at least two arrays are needed.")
    shapes = [f.shape if f.ndim == 2 else (1, *f.shape) if k == 0 else (*f.shape, 1) for k, f in enumerate(factors)]
    if any([f.ndim != 2 and not (f.ndim == 1 and k in (0, len(factors) - 1)) for k, f in enumerate(factors)]):
        raise GraphError("shape-mismatch", "multi_dot: the arrays must be matrices; the first and the last may be "
                                           "vectors.")
    splits = _cheapest_splits([shapes[0][0], *[s[1] for s in shapes]])

    def chain(i: int, j: int) -> Node:
        k = splits.get((i, j), i)
        return factors[i] if i == j else apply("matmul", chain(i, k), chain(k + 1, j))

    return chain(0, len(factors) - 1)


def _cheapest_splits(lengths: Sequence[int]) -> dict[tuple[int, int], int]:
    """(i, j) -> the last matrix of the left part of the product of matrices i to j (Cormen et al., section 14.2)."""
    n = len(lengths) - 1
    cost, splits = {(i, i): 0 for i in range(n)}, {}
    for span in range(1, n):
        for i in range(n - span):
            j = i + span
            found = [(cost[i, k] + cost[k + 1, j] + lengths[i] * lengths[k + 1] * lengths[j + 1], k)
                     for k in range(i, j)]
            cost[i, j], splits[i, j] = min(found)
    return splits


@numpy_function("linalg.matrix_power")
def matrix_power(a: Any, n: int) -> Node:
    """By repeated squaring; of the inverse where n is negative."""
    x = tensor(a)
    check_square("matrix_power", x)
    n = operator.index(n)
    x, n = (inv(x), -n) if n < 0 else (x, n)
    eye = x.builder.constant(np.eye(x.shape[-1]), x.dtype)
    result = apply("broadcast_to", eye, shape=x.shape)
    square, started = x, False
    while n:
        if n & 1:
            result, started = (apply("matmul", result, square) if started else square), True
        n >>= 1
        square = apply("matmul", square, square) if n else square
    return result


@numpy_function("linalg.expm")
def expm(a: Any) -> Node:
    return apply("expm", floating(tensor(a)))


@numpy_function("linalg.sqrtm")
def sqrtm(a: Any) -> Node:
    """The symmetric root of a symmetric positive semidefinite matrix, read by its lower triangle."""
    x = symmetric_operand("sqrtm", a, "L")
    packed = apply("eigh", x)
    return apply("spectral", x, packed, apply("sqrt", apply("eigh_values", x, packed)))


def solve_triangular(a: Any, b: Any, lower: bool, left: bool = True, unitriangular: bool = False,
                     transposed: bool = False) -> Node:
    """T^-1 b, or b T^-1, for a triangle T of a or its transpose."""
    x, y = tensors(a, b)
    check_square("solve_triangular", x)
    if unitriangular:
        x = triangle(x, lower, 0.0) + identity_like(x)
    if left:
        return apply("triangular_solve", x, y, lower=lower, transposed=transposed)
    return turned(apply("triangular_solve", x, turned(y), lower=lower, transposed=not transposed))


@numpy_function("linalg.solve_triangular")
def scipy_solve_triangular(a: Any, b: Any, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False) -> Node:
    """SciPy's spelling."""
    if trans not in (0, 1, "N", "T"):
        raise GraphError("bad-attribute", f"solve_triangular: trans must be 0, 1, 'N' or 'T', not {trans!r}.")
    return solve_triangular(a, b, bool(lower), True, unit_diagonal, trans in (1, "T"))



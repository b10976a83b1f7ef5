"""Linear algebra under torch's names: `torch.linalg` and its predecessors."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends import linear_algebra as names
from hesse_engine.frontends import manipulation, products
from hesse_engine.frontends.operands import dtype_like, floating, tensor, tensors
from hesse_engine.frontends.table import torch_function
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops.linalg import check_square, turned
from hesse_engine.ir.shapes import convert

linalg_eigh = namedtuple("linalg_eigh", ["eigenvalues", "eigenvectors"])
linalg_svd = namedtuple("linalg_svd", ["U", "S", "Vh"])
svd_result = namedtuple("svd_result", ["U", "S", "V"])
linalg_qr = namedtuple("linalg_qr", ["Q", "R"])
linalg_lstsq = namedtuple("linalg_lstsq", ["solution", "residuals", "rank", "singular_values"])
linalg_slogdet = namedtuple("linalg_slogdet", ["sign", "logabsdet"])
linalg_inv_ex = namedtuple("linalg_inv_ex", ["inverse", "info"])
linalg_cholesky_ex = namedtuple("linalg_cholesky_ex", ["L", "info"])
linalg_solve_ex = namedtuple("linalg_solve_ex", ["result", "info"])
triangular_solve_result = namedtuple("triangular_solve_result", ["solution", "cloned_coefficient"])
INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)

torch_function("inverse", "linalg_inv")(names.inv)
torch_function("det", "linalg_det")(names.det)
torch_function("linalg_multi_dot")(names.multi_dot)
torch_function("matrix_power", "linalg_matrix_power")(names.matrix_power)
torch_function("matrix_exp", "linalg_matrix_exp")(names.expm)
torch_function("linalg_eig", "linalg_eigvals", "eig")(names.eig)


# ---- factors ---------------------------------------------------------------------------------------------------------
@torch_function("linalg_cholesky", "cholesky")
def cholesky(input: Any, upper: bool = False) -> Node:
    return names.cholesky(input, upper=upper)


@torch_function("linalg_cholesky_ex")
def cholesky_ex(input: Any, *, upper: bool = False, check_errors: bool = False) -> linalg_cholesky_ex:
    """The factor of a definite matrix and 0; one that is not definite is an error, as with check_errors."""
    factor = names.cholesky(input, upper=upper)
    return linalg_cholesky_ex(factor, _no_error(factor))


def _no_error(x: Node) -> Node:
    return x.builder.full(x.shape[:-2], 0, INT32)


@torch_function("linalg_qr")
def qr(A: Any, mode: str = "reduced") -> linalg_qr:  # noqa: N803  (torch's names)
    if mode == "r":
        r = names.qr(A, "r")
        return linalg_qr(r.builder.zeros((0,), r.dtype), r)
    return linalg_qr(*names.qr(A, mode))


@torch_function("qr")
def old_qr(input: Any, some: bool = True) -> linalg_qr:
    return qr(input, "reduced" if some else "complete")


# ---- spectra ---------------------------------------------------------------------------------------------------------
@torch_function("linalg_eigh")
def eigh(A: Any, UPLO: str = "L") -> linalg_eigh:  # noqa: N803
    return linalg_eigh(*names.eigh(A, UPLO))


torch_function("linalg_eigvalsh")(names.eigvalsh)


@torch_function("linalg_svd")
def svd(A: Any, full_matrices: bool = True, *, driver: Any = None) -> linalg_svd:  # noqa: N803
    return linalg_svd(*names.svd(A, full_matrices))


@torch_function("svd")
def old_svd(input: Any, some: bool = True, compute_uv: bool = True) -> svd_result:
    u, s, vh = names.svd(input, not some)
    return svd_result(u, s, turned(vh))


@torch_function("linalg_svdvals")
def svdvals(A: Any, *, driver: Any = None) -> Node:  # noqa: N803
    return names.svdvals(A)


@torch_function("linalg_matrix_rank")
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Node:  # noqa: N803
    x = floating(tensor(A))
    return names.rank_above(x, tol if atol is None else atol, rtol)


# ---- solutions and inverses ------------------------------------------------------------------------------------------
@torch_function("linalg_solve")
def solve(A: Any, B: Any, *, left: bool = True) -> Node:  # noqa: N803
    a, b = tensors(A, B)
    if b.ndim == a.ndim - 1 and b.ndim > 1 and b.shape == a.shape[:-1]:  # a batch of vectors
        return apply("squeeze", solve(a, apply("expand_dims", b, axis=-1), left=left), axis=-1)
    if not left and b.ndim > 1:
        return turned(apply("solve", turned(a), turned(b)))
    return apply("solve", a, b)


@torch_function("linalg_solve_ex")
def solve_ex(A: Any, B: Any, *, left: bool = True, check_errors: bool = False) -> linalg_solve_ex:  # noqa: N803
    return linalg_solve_ex(solve(A, B, left=left), _no_error(tensors(A, B)[0]))


@torch_function("linalg_inv_ex")
def inv_ex(A: Any, *, check_errors: bool = False) -> linalg_inv_ex:  # noqa: N803
    x = names.inv(A)
    return linalg_inv_ex(x, _no_error(x))


@torch_function("linalg_solve_triangular")
def solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Node:  # noqa: N803
    return names.solve_triangular(A, B, not upper, left, unitriangular)


@torch_function("triangular_solve")
def triangular_solve(input: Any, A: Any, upper: bool = True, transpose: bool = False,  # noqa: N803
                     unitriangular: bool = False) -> triangular_solve_result:
    return triangular_solve_result(names.solve_triangular(A, input, not upper, True, unitriangular, transpose),
                                   tensors(A, input)[0])


@torch_function("cholesky_solve")
def cholesky_solve(B: Any, L: Any, upper: bool = False) -> Node:  # noqa: N803
    """(L L')^-1 B, or (U' U)^-1 B."""
    b, factor = tensors(B, L)
    if upper:
        factor = turned(factor)
    half = apply("triangular_solve", factor, b, lower=True)
    return apply("triangular_solve", factor, half, lower=True, transposed=True)


@torch_function("cholesky_inverse")
def cholesky_inverse(L: Any, upper: bool = False) -> Node:  # noqa: N803
    factor = tensor(L)
    check_square("cholesky_inverse", factor)
    return cholesky_solve(names.identity_like(factor), factor, upper)


@torch_function("linalg_pinv")
def pinv(A: Any, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Node:  # noqa: N803
    if atol is not None:
        raise GraphError("bad-attribute", "pinv: atol is not offered; rtol is.")
    return names.pinv(A, hermitian=hermitian, rtol=rtol if rcond is None else rcond)


@torch_function("pinverse")
def pinverse(input: Any, rcond: float = 1e-15) -> Node:
    return names.pinv(input, rcond)


@torch_function("linalg_lstsq")
def lstsq(A: Any, B: Any, rcond: Any = None, *, driver: Any = None) -> linalg_lstsq:  # noqa: N803
    """The solution by the pseudo-inverse, whatever the driver; singular values where it is one that gives them."""
    x, b = (floating(t) for t in tensors(A, B))
    if x.ndim < 2 or b.ndim < 2 or b.shape[-2] != x.shape[-2]:
        raise GraphError("shape-mismatch", f"lstsq: shapes {list(x.shape)} and {list(b.shape)} do not fit.")
    limit = max(x.shape[-2:]) * float(np.finfo(x.dtype).eps) if rcond is None else max(float(rcond), 0.0)
    solution = apply("matmul", apply("pinv", x, rtol=limit), b)
    left = apply("sum", apply("square", b - apply("matmul", x, solution)), axis=-2)
    nothing = x.builder.zeros((0,), x.dtype)
    has_residuals = x.shape[-2] > x.shape[-1] and driver in ("gels", "gelsd", "gelss")
    rank = nothing if driver == "gels" else names.rank_above(x, None, limit)
    values = names.svdvals(x) if driver in ("gelsd", "gelss") else nothing
    return linalg_lstsq(solution, left if has_residuals else nothing, convert(rank, INT64), values)


torch_function("linalg_tensorinv")(names.tensorinv)


@torch_function("linalg_tensorsolve")
def tensorsolve(A: Any, B: Any, dims: Any = None) -> Node:  # noqa: N803
    return names.tensorsolve(A, B, dims)


# ---- norms and arrays of powers --------------------------------------------------------------------------------------
@torch_function("linalg_norm")
def norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Node:  # noqa: N803
    """Of vectors over one axis, of matrices over two; over all elements where neither an order nor axes are given."""
    x = floating(tensor(A) if dtype is None else convert(tensor(A), dtype_like(dtype)))
    if ord is not None and dim is None and x.ndim > 2:
        raise GraphError("bad-attribute", "linalg.norm: with an order, and no dim, the input must have 1 or 2 axes, "
                                          f"not {x.ndim}.")
    return products.norm(x, ord, tuple(dim) if isinstance(dim, list) else dim, keepdim)


@torch_function("linalg_diagonal")
def diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Node:  # noqa: N803
    return manipulation.diagonal(A, offset, dim1, dim2)


@torch_function("linalg_vander")
def vander(x: Any, N: Any = None) -> Node:  # noqa: N803
    """x^0 ... x^(N-1) beside each other."""
    base = tensor(x)
    count = base.shape[-1] if N is None else int(N)
    if count <= 1:
        raise GraphError("bad-attribute", f"linalg.vander: N must be greater than 1, not {count}.")
    powers = [base.builder.full(base.shape, 1, base.dtype)]
    for _ in range(count - 1):
        powers.append(powers[-1] * base)
    return apply("stack", *powers, axis=-1)


# ---- determinants ----------------------------------------------------------------------------------------------------
@torch_function("slogdet", "linalg_slogdet")
def slogdet(input: Any) -> linalg_slogdet:
    return linalg_slogdet(*names.slogdet(input))


@torch_function("logdet")
def logdet(input: Any) -> Node:
    return apply("logdet", tensor(input))

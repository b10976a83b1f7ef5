"""Rows of linear algebra: factors, solutions, inverses and determinants of the matrices on the last two axes.

None of them is differentiated through its algorithm: each states how its result moves with the matrix.

    L = cholesky(A)              dL = L phi(L^-1 dS L^-T),  dS = (dA + dA') / 2,  phi: lower triangle, half diagonal
    X = triangular_solve(A, B)   dX = T^-1 (dB - dT X),     T the triangle of A, or its transpose
    X = solve(A, B)              dX = A^-1 (dB - dA X)
    X = inv(A)                   dX = -X dA X
    l = logabsdet(A)             dl = <A^-T, dA>

Solutions are linear in B, which their row states beside the tangent (`transpose`), so that reverse mode ends there.

`cholesky_solve`, `cholesky_inv` and `cholesky_logdet` are functions of the symmetric matrix A that are computed from
its factor L, given beside it: their derivatives are those of solutions, inverses and determinants, and never pass
through the factor. A symmetric matrix is read by its lower triangle; derivatives are those of its symmetric part, as in
torch.

Source: S. F. Walter and L. Lehmann, Algorithmic differentiation of linear algebra functions, Optim. Methods Softw. 25
(2010); I. Murray, Differentiation of the Cholesky decomposition, arXiv:1602.07527.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError, GraphError, InputError
from hesse_engine.ir.faults import each_matrix, refuse
from hesse_engine.ir.graph import Array, Node, apply, is_zero
from hesse_engine.ir.ops.contraction import LETTERS, contract
from hesse_engine.ir.ops.elementwise import check_arity, check_operands, result_dtype
from hesse_engine.ir.ops.structural import broadcast_to, permute_dims, reshape
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import broadcast, convert, lift

Tangents = list[Node | None]
Build = Callable[..., Node]


# ---- products of the last two axes -----------------------------------------------------------------------------------
def product(a: Node, b: Node, form: str = "ij,jk->ik") -> Node:
    """A product over the last two axes of each, in the letters i, j, k; leading axes are shared."""
    lead = LETTERS[26:26 + a.ndim - 2]
    left, right, out = form.replace("->", ",").split(",")
    return contract(a, b, subscripts=f"{lead}{left},{lead}{right}->{lead}{out}")


def turned(x: Node) -> Node:
    """The last two axes exchanged."""
    return permute_dims(x, axes=[*range(x.ndim - 2), x.ndim - 1, x.ndim - 2])


def symmetric_part(x: Node) -> Node:
    return (x + turned(x)) * 0.5


def triangle(x: Node, lower: bool, diagonal: float = 1.0) -> Node:
    """One triangle of x, its diagonal scaled."""
    n = x.shape[-1]
    mask = np.tril(np.ones((n, n)), -1) if lower else np.triu(np.ones((n, n)), 1)
    weights = x.builder.constant(mask + diagonal * np.eye(n), x.dtype)
    return x * broadcast_to(weights, shape=x.shape)


# ---- building --------------------------------------------------------------------------------------------------------
def floating_operands(op: str, *args: Any) -> list[Node]:
    nodes, dtype = lift(args, op)
    wanted, _ = result_dtype("float", dtype, nodes[0].builder.library)
    return [convert(n, wanted) for n in nodes]


def check_square(op: str, x: Node) -> None:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise GraphError("shape-mismatch", f"{op}: shape {list(x.shape)} is not that of square matrices.")


def matrix_operand(op: str, x: Any) -> Node:
    check_operands(op, (x,), 1)
    (node,) = floating_operands(op, x)
    check_square(op, node)
    return node


def _system(op: str, *args: Any) -> list[Node]:
    """Square matrices and right-hand sides, of one dtype, with the same leading axes."""
    *matrices, b = floating_operands(op, *args)
    for a in matrices:
        check_square(op, a)
    n = matrices[0].shape[-1]
    if b.ndim < 2 or b.shape[-2] != n or any([a.shape[-1] != n for a in matrices]):
        shapes = " and ".join([str(list(x.shape)) for x in (*matrices, b)])
        raise GraphError("shape-mismatch", f"{op}: the shapes {shapes} are not those of matrices and right-hand sides.")
    lead = broadcast(op, [x.shape[:-2] for x in (*matrices, b)])
    return [broadcast_to(x, shape=(*lead, *x.shape[-2:])) for x in (*matrices, b)]


def _as_columns(build: Build) -> Build:
    """`build` of systems, where a right-hand side may also be one vector."""

    def accept(*args: Any, **attrs: Any) -> Node:
        b = args[-1] if args else None
        if not isinstance(b, Node) or b.ndim != 1:
            return build(*args, **attrs)
        x = build(*args[:-1], reshape(b, shape=(b.size, 1)), **attrs)
        return reshape(x, shape=x.shape[:-1])

    return accept


def _flag(op: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise GraphError("bad-attribute", f"{op}: {name} must be true or false, not {type(value).__name__}.")
    return bool(value)


# ---- batching --------------------------------------------------------------------------------------------------------
def _to_front(x: Node) -> Node:
    return permute_dims(x, axes=[x.ndim - 1, *range(x.ndim - 1)])


def _to_back(x: Node) -> Node:
    return permute_dims(x, axes=[*range(1, x.ndim), 0])


def batch_matrices(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    """The batch becomes a leading axis."""
    stacked = [
        _to_front(a) if b else broadcast_to(reshape(a, shape=(1, *a.shape)), shape=(size, *a.shape))
        for a, b in zip(args, batched, strict=True)
    ]
    return _to_back(apply(node.op, *stacked, **node.attrs))


def _batch_systems(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    """Right-hand sides for one matrix are further columns of it: one factorization, one call."""
    if any(batched[:-1]):
        return batch_matrices(node, args, batched, size)
    *matrices, b = args
    columns = reshape(b, shape=(*node.shape[:-1], node.shape[-1] * size))
    return reshape(apply(node.op, *matrices, columns, **node.attrs), shape=(*node.shape, size))


# ---- values ----------------------------------------------------------------------------------------------------------
def not_definite(op: str) -> InputError:
    return InputError("not-positive-definite", f"{op}: a matrix is not positive definite.",
                      hint="Its symmetric part must have positive eigenvalues; a small multiple of the identity, added "
                           "to it, often helps.")


def singular(op: str) -> InputError:
    return InputError("singular-matrix", f"{op}: a matrix is singular.")


def cholesky_numpy(x: Array) -> Array:
    """The factor; NaN for a matrix that is not finite, which is neither definite nor indefinite."""
    try:
        return np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        return each_matrix(_cholesky_of_one, x, out=np.empty_like(x))


def _cholesky_of_one(x: Array) -> Any:
    if np.isfinite(np.tril(x)).all():
        try:
            return np.linalg.cholesky(x)
        except np.linalg.LinAlgError:
            refuse(not_definite("cholesky"))
    return np.nan


def solve_numpy(a: Array, b: Array, op: str = "solve") -> Array:
    def of_one(a: Array, b: Array) -> Any:
        try:
            return np.linalg.solve(a, b)
        except np.linalg.LinAlgError:
            refuse(singular(op))
            return np.nan

    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        return each_matrix(of_one, a, b, out=np.empty(b.shape, b.dtype))


def inv_numpy(x: Array) -> Array:
    def of_one(x: Array) -> Any:
        try:
            return np.linalg.inv(x)
        except np.linalg.LinAlgError:
            refuse(singular("inv"))
            return np.nan

    try:
        return np.linalg.inv(x)
    except np.linalg.LinAlgError:
        return each_matrix(of_one, x, out=np.empty_like(x))


def triangular_solve_numpy(a: Array, b: Array, *, lower: bool, transposed: bool) -> Array:
    part = np.tril(a) if lower else np.triu(a)
    return solve_numpy(part.swapaxes(-1, -2) if transposed else part, b, "triangular_solve")


def cholesky_solve_numpy(a: Array, factor: Array, b: Array) -> Array:
    half = triangular_solve_numpy(factor, b, lower=True, transposed=False)
    return triangular_solve_numpy(factor, half, lower=True, transposed=True)


def cholesky_inv_numpy(a: Array, factor: Array) -> Array:
    half = solve_numpy(np.tril(factor), np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape), "cholesky_inv")
    return half.swapaxes(-1, -2) @ half


def cholesky_logdet_numpy(a: Array, factor: Array) -> Array:
    return np.asarray(2.0 * np.sum(np.log(np.diagonal(factor, axis1=-2, axis2=-1)), axis=-1), a.dtype)


# ---- cholesky --------------------------------------------------------------------------------------------------------
def _build_cholesky(*args: Node) -> Node:
    check_arity("cholesky", args, 1)
    x = matrix_operand("cholesky", args[0])
    return x.builder.make("cholesky", (x,), {}, x.shape, x.dtype)


def _tangent_of_cholesky(y: Node, tangents: Tangents) -> Node | None:
    (dx,) = tangents
    if dx is None:
        return None
    half = triangular_solve(y, symmetric_part(dx), lower=True)
    whole = triangular_solve(y, turned(half), lower=True)  # symmetric: L^-1 dS L^-T
    return product(y, triangle(whole, lower=True, diagonal=0.5))


register(
    Row("cholesky", "nonlinear", 1, (), _build_cholesky, cholesky_numpy, _tangent_of_cholesky, batch_matrices,
        doc="The lower triangular L with L L' = x, for symmetric positive definite x, read by its lower triangle; "
            "derivatives are those of the symmetric part.")
)


# ---- solutions -------------------------------------------------------------------------------------------------------
def factored(x: Node) -> tuple[Node, bool] | None:
    """(L, is x the transpose of L) where x is a factor that `cholesky` made."""
    if x.op == "cholesky":
        return x, False
    if x.op == "permute_dims" and x.args[0].op == "cholesky" and x is turned(x.args[0]):
        return x.args[0], True
    return None


@_as_columns
def _build_triangular_solve(*args: Any, lower: Any = True, transposed: Any = False) -> Node:
    check_arity("triangular_solve", args, 2)
    lower, transposed = _flag("triangular_solve", "lower", lower), _flag("triangular_solve", "transposed", transposed)
    a, b = _system("triangular_solve", *args)
    if is_zero(b):
        return b
    if lower and transposed and a.op == "cholesky" and b.op == "triangular_solve" and b.args[0] is a \
            and not b.attrs["transposed"] and b.attrs["lower"]:
        return cholesky_solve(a.args[0], a, b.args[1])  # L'^-1 L^-1 b = A^-1 b, computed the same way
    attrs = {"lower": lower, "transposed": transposed}
    return b.builder.make("triangular_solve", (a, b), attrs, b.shape, b.dtype)


def _tangent_of_triangular_solve(y: Node, tangents: Tangents) -> Node | None:
    (a, _), (da, db), lower = y.args, tangents, y.attrs["lower"]
    rhs = db
    if da is not None:
        moved = product(triangle(da, lower), y, "ji,jk->ik" if y.attrs["transposed"] else "ij,jk->ik")
        rhs = -moved if db is None else db - moved
    return None if rhs is None else triangular_solve(a, rhs, **y.attrs)


def _transpose_triangular_solve(ct: Node, y: Node) -> tuple[Node | None, ...]:
    flipped = not y.attrs["transposed"]
    return None, triangular_solve(y.args[0], ct, lower=y.attrs["lower"], transposed=flipped)


triangular_solve: Build = _build_triangular_solve
register(
    Row("triangular_solve", "nonlinear", 2, ("lower", "transposed"), triangular_solve, triangular_solve_numpy,
        _tangent_of_triangular_solve, _batch_systems, linear=(1,), transpose=_transpose_triangular_solve,
        doc="T^-1 b for the lower or upper triangle T of a, or its transpose; what lies outside the triangle is not "
            "read: attrs lower, transposed.")
)


@_as_columns
def _build_solve(*args: Any) -> Node:
    check_arity("solve", args, 2)
    if not isinstance(args[0], Node) and not isinstance(args[1], Node):
        raise ArgumentTypeError("bad-type", "solve: none of the operands belongs to a graph.")
    a, b = _system("solve", *args)
    if is_zero(b):
        return b
    factor = factored(a)
    if factor is not None:  # its other triangle is 0
        return triangular_solve(factor[0], b, lower=True, transposed=factor[1])
    return b.builder.make("solve", (a, b), {}, b.shape, b.dtype)


def _tangent_of_solve(y: Node, tangents: Tangents) -> Node | None:
    (a, _), (da, db) = y.args, tangents
    rhs = db
    if da is not None:
        moved = product(da, y)
        rhs = -moved if db is None else db - moved
    return None if rhs is None else solve(a, rhs)


solve: Build = _build_solve
register(
    Row("solve", "nonlinear", 2, (), solve, solve_numpy, _tangent_of_solve, _batch_systems, linear=(1,),
        transpose=lambda ct, y: (None, solve(turned(y.args[0]), ct)),
        doc="a^-1 b for square matrices a and the columns of b, or one vector b.")
)


def _with_factor(op: str, *args: Any) -> list[Node]:
    check_operands(op, args, len(args))
    nodes = floating_operands(op, *args)
    for x in nodes:
        check_square(op, x)
    if nodes[0].shape != nodes[1].shape:
        raise GraphError("shape-mismatch", f"{op}: the factor of {list(nodes[0].shape)} cannot have shape "
                                           f"{list(nodes[1].shape)}.")
    return nodes


@_as_columns
def _build_cholesky_solve(*args: Any) -> Node:
    check_arity("cholesky_solve", args, 3)
    a, factor, b = _system("cholesky_solve", *args)
    return b if is_zero(b) else b.builder.make("cholesky_solve", (a, factor, b), {}, b.shape, b.dtype)


def _tangent_of_cholesky_solve(y: Node, tangents: Tangents) -> Node | None:
    (a, factor, _), (da, _, db) = y.args, tangents
    rhs = db
    if da is not None:
        moved = product(symmetric_part(da), y)
        rhs = -moved if db is None else db - moved
    return None if rhs is None else cholesky_solve(a, factor, rhs)


cholesky_solve: Build = _build_cholesky_solve
register(
    Row("cholesky_solve", "nonlinear", 3, (), cholesky_solve, cholesky_solve_numpy, _tangent_of_cholesky_solve,
        _batch_systems, slots=(0, 2), linear=(2,),
        transpose=lambda ct, y: (None, None, cholesky_solve(y.args[0], y.args[1], ct)),
        doc="a^-1 b for symmetric positive definite a, whose factor cholesky(a) is the second operand.")
)


# ---- inverses --------------------------------------------------------------------------------------------------------
def _build_inv(*args: Node) -> Node:
    check_arity("inv", args, 1)
    x = matrix_operand("inv", args[0])
    return x.builder.make("inv", (x,), {}, x.shape, x.dtype)


def _tangent_of_inv(y: Node, tangents: Tangents) -> Node | None:
    (dx,) = tangents
    if dx is None:
        return None
    # the tangent is the right operand of both products: a batch of them, on its last axis, stays last
    return -product(y, product(y, dx, "jk,ij->ik"))


register(
    Row("inv", "nonlinear", 1, (), _build_inv, inv_numpy, _tangent_of_inv, batch_matrices,
        doc="The inverse of square matrices.")
)


def _build_cholesky_inv(*args: Node) -> Node:
    check_arity("cholesky_inv", args, 2)
    a, factor = _with_factor("cholesky_inv", *args)
    return a.builder.make("cholesky_inv", (a, factor), {}, a.shape, a.dtype)


def _tangent_of_cholesky_inv(y: Node, tangents: Tangents) -> Node | None:
    dx = tangents[0]
    if dx is None:
        return None
    # X S X = X (X S)' for symmetric X and S
    return -product(y, product(y, symmetric_part(dx)), "ij,kj->ik")


register(
    Row("cholesky_inv", "nonlinear", 2, (), _build_cholesky_inv, cholesky_inv_numpy, _tangent_of_cholesky_inv,
        batch_matrices, slots=(0,),
        doc="The inverse of symmetric positive definite a, whose factor cholesky(a) is the second operand.")
)


# ---- determinants ----------------------------------------------------------------------------------------------------
def _build_logabsdet(*args: Node) -> Node:
    check_arity("logabsdet", args, 1)
    x = matrix_operand("logabsdet", args[0])
    return x.builder.make("logabsdet", (x,), {}, x.shape[:-2], x.dtype)


def _tangent_of_logabsdet(y: Node, tangents: Tangents) -> Node | None:
    (dx,) = tangents
    return None if dx is None else product(apply("inv", y.args[0]), dx, "ji,ij->")


register(
    Row("logabsdet", "nonlinear", 1, (), _build_logabsdet, lambda x: np.linalg.slogdet(x)[1], _tangent_of_logabsdet,
        batch_matrices, doc="The logarithm of the absolute value of the determinant.")
)


def _build_signdet(*args: Node) -> Node:
    check_arity("signdet", args, 1)
    x = matrix_operand("signdet", args[0])
    return x.builder.make("signdet", (x,), {}, x.shape[:-2], x.dtype)


register(
    Row("signdet", "nonlinear", 1, (), _build_signdet, lambda x: np.linalg.slogdet(x)[0], lambda y, tangents: None,
        batch_matrices, doc="The sign of the determinant: 1, -1 or 0; its derivative is 0.")
)


def _build_cholesky_logdet(*args: Node) -> Node:
    check_arity("cholesky_logdet", args, 2)
    a, factor = _with_factor("cholesky_logdet", *args)
    return a.builder.make("cholesky_logdet", (a, factor), {}, a.shape[:-2], a.dtype)


def _tangent_of_cholesky_logdet(y: Node, tangents: Tangents) -> Node | None:
    dx = tangents[0]
    return None if dx is None else product(apply("cholesky_inv", *y.args), dx, "ij,ij->")


register(
    Row("cholesky_logdet", "nonlinear", 2, (), _build_cholesky_logdet, cholesky_logdet_numpy,
        _tangent_of_cholesky_logdet, batch_matrices, slots=(0,),
        doc="log det a = 2 sum log diag(L) for symmetric positive definite a, whose factor L = cholesky(a) is the "
            "second operand.")
)

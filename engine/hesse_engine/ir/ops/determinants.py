"""The determinant as a polynomial: its first and second derivatives exist at singular matrices too.

With A = U diag(s) V', d = det(U) det(V) and P = U' E V:

    d det(A)[E]         = <C, E>,   C = d U diag(prod_(k != i) s_k) V',  the matrix of cofactors
    C'(A)[E]            = d U H V', H_ii = sum_(k != i) P_kk g_ik, H_ij = -P_ji g_ij, g_ij = prod_(k != i, j) s_k

Both are products of singular values, without a division. C' is symmetric, <E, C'[F]> = <F, C'[E]>: its own transpose.
Its tangent, of the third order, goes through the inverse: C'[E] = det (tr(X E) X' - X'E'X') with X = A^-1.

Source: M. B. Giles (2008), section 2.2; R. A. Horn and C. R. Johnson, Matrix Analysis, section 0.8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import Array, Node, apply, is_zero
from hesse_engine.ir.ops.composite import composite
from hesse_engine.ir.ops.elementwise import check_arity
from hesse_engine.ir.ops.linalg import (
    batch_matrices,
    check_square,
    floating_operands,
    matrix_operand,
    product,
    turned,
)
from hesse_engine.ir.ops.structural import broadcast_to, reshape
from hesse_engine.ir.rows import Row, register

Tangents = list[Node | None]


# ---- values ----------------------------------------------------------------------------------------------------------
def _decomposed(x: Array) -> tuple[Array, Array, Array, Array]:
    """U, s, V and det(U) det(V); NaN for a matrix that is not finite."""
    finite = np.asarray(np.isfinite(x).all(axis=(-2, -1), keepdims=True))
    u, s, vh = np.linalg.svd(np.where(finite, x, 0.0))
    sign = np.linalg.det(u) * np.linalg.det(vh)
    return u, np.where(finite[..., 0], s, np.nan), vh.swapaxes(-1, -2), np.where(sign < 0, -1.0, 1.0)


def _products_without(s: Array) -> Array:
    """prod_(k != i) s_k, from the products of the elements before and after."""
    one = np.ones_like(s[..., :1])
    before = np.cumprod(np.concatenate([one, s[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([one, s[..., :0:-1]], -1), -1)[..., ::-1]
    return np.asarray(before * after)


def cofactor_numpy(x: Array) -> Array:
    if not x.shape[-1]:
        return x
    u, s, v, sign = _decomposed(x)
    weights = sign[..., None] * _products_without(s)
    return np.asarray((u * weights[..., None, :]) @ v.swapaxes(-1, -2), x.dtype)


def cofactor_tangent_numpy(x: Array, e: Array) -> Array:
    n = x.shape[-1]
    if not n:
        return e
    u, s, v, sign = _decomposed(x)
    p = u.swapaxes(-1, -2) @ e @ v
    pairs = np.stack([_products_without(np.where(np.arange(n) == i, 1.0, s)) for i in range(n)], -2)
    pairs = np.where(np.eye(n, dtype=bool), 0.0, pairs)  # g_ij
    diagonal = np.einsum("...ik,...kk->...i", pairs, p)
    h = -pairs * p.swapaxes(-1, -2) + diagonal[..., None, :] * np.eye(n)
    return np.asarray(sign[..., None, None] * (u @ h @ v.swapaxes(-1, -2)), x.dtype)


# ---- building --------------------------------------------------------------------------------------------------------
def _build_det(*args: Node) -> Node:
    check_arity("det", args, 1)
    x = matrix_operand("det", args[0])
    return x.builder.make("det", (x,), {}, x.shape[:-2], x.dtype)


def _build_cofactor(*args: Node) -> Node:
    check_arity("cofactor", args, 1)
    x = matrix_operand("cofactor", args[0])
    return x.builder.make("cofactor", (x,), {}, x.shape, x.dtype)


def _build_cofactor_tangent(*args: Node) -> Node:
    check_arity("cofactor_tangent", args, 2)
    x, e = floating_operands("cofactor_tangent", *args)
    check_square("cofactor_tangent", x)
    if x.shape != e.shape:
        raise GraphError("shape-mismatch", f"cofactor_tangent: the shapes {list(x.shape)} and {list(e.shape)} differ.")
    return e if is_zero(e) else x.builder.make("cofactor_tangent", (x, e), {}, x.shape, x.dtype)


# ---- tangents --------------------------------------------------------------------------------------------------------
def _tangent_of_det(y: Node, tangents: Tangents) -> Node | None:
    (dx,) = tangents
    return None if dx is None else product(apply("cofactor", y.args[0]), dx, "ij,ij->")


def _tangent_of_cofactor(y: Node, tangents: Tangents) -> Node | None:
    return None if tangents[0] is None else apply("cofactor_tangent", y.args[0], tangents[0])


def _scaled(weight: Node, x: Node) -> Node:
    """One weight for each matrix."""
    return broadcast_to(reshape(weight, shape=(*weight.shape, 1, 1)), shape=x.shape) * x


def _tangent_of_cofactor_tangent(y: Node, tangents: Tangents) -> Node | None:
    """Of det (tr(X E) X' - X'E'X'), by dX = -X dA X and d det = det tr(X dA)."""
    (x, e), (dx, de) = y.args, tangents
    total = None if de is None else apply("cofactor_tangent", x, de)
    if dx is None:
        return total
    inverse, size = apply("inv", x), apply("det", x)
    step = product(inverse, dx)  # X dA
    moved = product(step, inverse)  # -dX
    image, turn = product(inverse, e), turned(inverse)
    one, two = (product(product(a, turned(e)), b) for a, b in ((turned(moved), turn), (turn, turned(moved))))
    inner = _scaled(-product(moved, e, "ij,ji->"), turn) - _scaled(_trace(image), turned(moved)) + one + two
    found = _scaled(_trace(step), y) + _scaled(size, inner)
    return found if total is None else total + found


def _trace(x: Node) -> Node:
    eye = broadcast_to(x.builder.constant(np.eye(x.shape[-1]), x.dtype), shape=x.shape)
    return product(x, eye, "ij,ij->")


# ---- rows ------------------------------------------------------------------------------------------------------------
register(
    Row("det", "nonlinear", 1, (), _build_det, np.linalg.det, _tangent_of_det, batch_matrices,
        doc="The determinant.",
        kink="At a singular matrix, first and second derivatives are those of the polynomial; the third raises the "
             "error singular-matrix.")
)
register(
    Row("cofactor", "nonlinear", 1, (), _build_cofactor, cofactor_numpy, _tangent_of_cofactor, batch_matrices,
        doc="The matrix of cofactors of square matrices, det(x) x^-T where x is regular.")
)
register(
    Row("cofactor_tangent", "nonlinear", 2, (), _build_cofactor_tangent, cofactor_tangent_numpy,
        _tangent_of_cofactor_tangent, batch_matrices, linear=(1,),
        transpose=lambda ct, y: (None, apply("cofactor_tangent", y.args[0], ct)),
        doc="The derivative of the matrix of cofactors at x in the direction e.")
)


def _logdet_numpy(x: Array) -> Any:
    sign, size = np.linalg.slogdet(x)
    return np.where(sign < 0, np.nan, size)


@composite(_logdet_numpy)
def logdet(x: Node) -> Node:
    """The logarithm of the determinant: NaN where that is negative."""
    return apply("where", apply("less", apply("signdet", x), 0.0), float("nan"), apply("logabsdet", x))

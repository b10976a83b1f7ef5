"""Rows of orthogonal factors, pseudo-inverses and exponentials of the matrices on the last two axes.

    N = complement(A)         dN = -Q R^-T dA' N
    Q = qr_factor(A)          dQ = Q (L - L' - Q'X) + X,  X = dA R^-1, R = Q'A, L: strict lower triangle of Q'X
    Y = pinv(A)               dY = -Y dA Y + Y Y' dA' (I - A Y) + (I - Y A) dA' Y' Y   at constant rank
    E = expm(A)               dE = expm_tangent(A, dA), the upper right block of expm([[A, dA], [0, A]])

`expm_tangent` is linear in its second operand, with the transpose expm_tangent(A', ct); its own tangent in A is a block
of the tangent of the larger matrix, so that every order is exact.

Source: S. F. Walter and L. Lehmann (2010), section 3; G. H. Golub and V. Pereyra, SIAM J. Numer. Anal. 10 (1973);
N. J. Higham, Functions of Matrices (2008), theorem 3.6 and section 10.6.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import Array, Node, apply, is_zero
from hesse_engine.ir.ops.elementwise import check_arity
from hesse_engine.ir.ops.linalg import (
    batch_matrices,
    check_square,
    floating_operands,
    matrix_operand,
    product,
    symmetric_part,
    triangle,
    turned,
)
from hesse_engine.ir.ops.singular import outside, rectangular, sizes
from hesse_engine.ir.ops.structural import concat, slice_
from hesse_engine.ir.rows import Row, register

Tangents = list[Node | None]


# ---- orthogonal factors ----------------------------------------------------------------------------------------------
def qr_factor_numpy(x: Array) -> Array:
    return np.linalg.qr(x)[0]


def _build_qr_factor(*args: Node) -> Node:
    """For m < n, the factor of the first m columns."""
    check_arity("qr_factor", args, 1)
    x = rectangular("qr_factor", args[0])
    m, n, k = sizes(x)
    if m < n:
        x = slice_(x, start=(0,) * x.ndim, count=(*x.shape[:-1], k))
    return x.builder.make("qr_factor", (x,), {}, (*x.shape[:-2], m, k), x.dtype)


def _tangent_of_qr_factor(y: Node, tangents: Tangents) -> Node | None:
    (dx,) = tangents
    if dx is None:
        return None
    factor = product(y, y.args[0], "ji,jk->ik")
    moved = turned(apply("triangular_solve", factor, turned(dx), lower=False, transposed=True))  # dA R^-1
    inner = product(y, moved, "ji,jk->ik")
    low = triangle(inner, lower=True, diagonal=0.0)
    turn = product(y, low - turned(low))
    return turn + outside(y, moved) if y.shape[-2] > y.shape[-1] else turn


register(
    Row("qr_factor", "nonlinear", 1, (), _build_qr_factor, qr_factor_numpy, _tangent_of_qr_factor, batch_matrices,
        doc="The orthogonal factor Q of x = Q R, in reduced form; R is the upper triangle of Q' x.",
        kink="The first min(m, n) columns must be independent: otherwise the error singular-matrix is raised.")
)


def complement_numpy(x: Array, *, by: str) -> Array:
    n = x.shape[-1]
    whole = np.linalg.qr(x, mode="complete")[0] if by == "qr" else np.linalg.svd(x)[0]
    return np.asarray(whole[..., n:])


def _build_complement(*args: Node, by: Any = "qr") -> Node:
    check_arity("complement", args, 1)
    x = rectangular("complement", args[0])
    m, n, _ = sizes(x)
    if m < n or by not in ("qr", "svd"):
        raise GraphError("bad-attribute", f"complement: {list(x.shape)} has more columns than rows, or {by!r} is "
                                          "neither 'qr' nor 'svd'.")
    return x.builder.make("complement", (x,), {"by": by}, (*x.shape[:-1], m - n), x.dtype)


def _tangent_of_complement(y: Node, tangents: Tangents) -> Node | None:
    """N'A = 0, so dN = -Q R^-T dA' N up to a rotation of the columns of N."""
    (dx,) = tangents
    if dx is None or not y.size:
        return None
    x = y.args[0]
    q = apply("qr_factor", x)
    moved = apply("triangular_solve", product(q, x, "ji,jk->ik"), product(dx, y, "ji,jk->ik"), lower=False,
                  transposed=True)
    return -product(q, moved)


register(
    Row("complement", "nonlinear", 1, ("by",), _build_complement, complement_numpy, _tangent_of_complement,
        batch_matrices,
        doc="An orthonormal basis N of what is orthogonal to the columns of x: attrs by ('qr' or 'svd', whose last "
            "columns it is).",
        kink="A derivative exists for functions that do not depend on the choice of the basis, as N N' does not; the "
             "columns of x must be independent.")
)


# ---- pseudo-inverses -------------------------------------------------------------------------------------------------
def pinv_numpy(x: Array, *, rtol: float, is_hermitian: bool) -> Array:
    finite = np.isfinite(x).all(axis=(-2, -1), keepdims=True)
    clean = np.where(finite, x, 0.0)
    if is_hermitian:
        low = np.tril(clean)
        clean = low + np.tril(low, -1).swapaxes(-1, -2)
    found = np.linalg.pinv(clean, rtol, hermitian=is_hermitian)
    return np.where(finite, found, np.nan).astype(x.dtype, copy=False)


def _build_pinv(*args: Node, rtol: Any = None, is_hermitian: Any = False) -> Node:
    check_arity("pinv", args, 1)
    x = rectangular("pinv", args[0])
    if is_hermitian:
        check_square("pinv", x)
    if rtol is None:
        rtol = max(sizes(x)) * float(np.finfo(x.dtype).eps)
    if not isinstance(rtol, (int, float, np.floating)) or not rtol >= 0.0 or not isinstance(is_hermitian, bool):
        raise GraphError("bad-attribute", f"pinv: rtol must be a number that is not negative, not {rtol!r}.")
    m, n, _ = sizes(x)
    attrs = {"rtol": float(rtol), "is_hermitian": is_hermitian}
    return x.builder.make("pinv", (x,), attrs, (*x.shape[:-2], n, m), x.dtype)


def _tangent_of_pinv(y: Node, tangents: Tangents) -> Node | None:
    """dY = -Y dA Y + Y Y' W + W' ... with the parts outside of the range and of the row space of A."""
    (dx,) = tangents
    if dx is None:
        return None
    x = y.args[0]
    if y.attrs["is_hermitian"]:
        dx, x = symmetric_part(dx), _mirrored(x)
    total = -product(product(y, dx), y)
    back = turned(dx)
    below = product(product(y, y, "ij,kj->ik"), back)  # Y Y' dA'
    total = total + below - product(product(below, x), y)
    beside = product(back, product(y, y, "ji,jk->ik"))  # dA' Y' Y
    return total + beside - product(y, product(x, beside))


def _mirrored(x: Node) -> Node:
    """The symmetric matrix with the lower triangle of x; derivatives are those of the symmetric part."""
    whole, part = triangle(x, lower=True) + turned(triangle(x, lower=True, diagonal=0.0)), symmetric_part(x)
    return part + apply("stop_gradient", whole - part)


register(
    Row("pinv", "nonlinear", 1, ("rtol", "is_hermitian"), _build_pinv, pinv_numpy, _tangent_of_pinv, batch_matrices,
        doc="The Moore-Penrose inverse; singular values up to rtol times the largest count as 0: attrs rtol (none: "
            "max(m, n) eps), is_hermitian (x is symmetric, read by its lower triangle).",
        kink="Derivatives are those at constant rank, as in torch.")
)


# ---- exponentials ----------------------------------------------------------------------------------------------------
# coefficients of the numerator of the [13/13] Pade approximant, and the norm up to which it is exact to rounding
_PADE = (64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
         10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0)
_PADE_NORM = 5.371920351148152


def expm_numpy(x: Array) -> Array:
    """By scaling and squaring, each matrix as often as its own norm asks; in double precision throughout."""
    if not x.size:
        return x
    finite = np.isfinite(x).all(axis=(-2, -1), keepdims=True)
    a = np.where(finite, x, 0.0).astype(np.float64)
    norm = np.abs(a).sum(-2).max(-1)[..., None, None]
    with np.errstate(all="ignore"):
        times = np.ceil(np.log2(np.maximum(norm / _PADE_NORM, 1.0))).astype(np.int64)
        y = _pade(np.ldexp(a, -times))
        for k in range(int(times.max(initial=0))):
            y = np.where(k < times, y @ y, y)
        return np.where(finite, y, np.nan).astype(x.dtype, copy=False)


def _pade(a: Array) -> Array:
    """(V - U)^-1 (V + U), U and V the odd and the even terms of the numerator."""
    eye, b = np.eye(a.shape[-1]), _PADE
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a2 @ a4
    u = a @ (a6 @ (b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * eye)
    v = a6 @ (b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * eye
    return np.linalg.solve(v - u, v + u)


def expm_tangent_numpy(x: Array, e: Array) -> Array:
    """By the block matrix, with e scaled to the norm of x, so that it does not add squarings."""
    if not x.size:
        return e
    n, size = x.shape[-1], np.max(np.abs(e), axis=(-2, -1), keepdims=True, initial=0.0)
    norm = np.max(np.abs(x), axis=(-2, -1), keepdims=True, initial=0.0)
    unit = np.where((size > 0) & np.isfinite(size), size / np.where(norm > 0, norm, 1.0), 1.0)
    top = np.concatenate([x, e / unit], -1)
    whole = expm_numpy(np.concatenate([top, np.concatenate([np.zeros_like(x), x], -1)], -2))
    return np.asarray(whole[..., :n, n:] * unit, x.dtype)


def _build_expm(*args: Node) -> Node:
    check_arity("expm", args, 1)
    x = matrix_operand("expm", args[0])
    return x.builder.make("expm", (x,), {}, x.shape, x.dtype)


def _build_expm_tangent(*args: Node) -> Node:
    check_arity("expm_tangent", args, 2)
    x, e = floating_operands("expm_tangent", *args)
    check_square("expm_tangent", x)
    if x.shape != e.shape:
        raise GraphError("shape-mismatch", f"expm_tangent: the shapes {list(x.shape)} and {list(e.shape)} differ.")
    return e if is_zero(e) else x.builder.make("expm_tangent", (x, e), {}, x.shape, x.dtype)


def _stacked(a: Node, b: Node) -> Node:
    """[[a, b], [0, a]]."""
    nothing = a.builder.full(a.shape, 0.0, a.dtype)
    return concat(concat(a, b, axis=-1), concat(nothing, a, axis=-1), axis=-2)


def _tangent_of_expm_tangent(y: Node, tangents: Tangents) -> Node | None:
    (x, e), (dx, de) = y.args, tangents
    total = None if de is None else apply("expm_tangent", x, de)
    if dx is not None:
        zero = x.builder.full(x.shape, 0.0, x.dtype)
        whole = apply("expm_tangent", _stacked(x, e), _stacked(dx, zero))
        n = x.shape[-1]
        moved = slice_(whole, start=(*(0,) * (x.ndim - 2), 0, n), count=x.shape)
        total = moved if total is None else total + moved
    return total


register(
    Row("expm", "nonlinear", 1, (), _build_expm, expm_numpy,
        lambda y, tangents: None if tangents[0] is None else apply("expm_tangent", y.args[0], tangents[0]),
        batch_matrices, doc="The exponential of square matrices.")
)
register(
    Row("expm_tangent", "nonlinear", 2, (), _build_expm_tangent, expm_tangent_numpy, _tangent_of_expm_tangent,
        batch_matrices, linear=(1,),
        transpose=lambda ct, y: (None, apply("expm_tangent", turned(y.args[0]), ct)),
        doc="The derivative of expm at x in the direction e.")
)

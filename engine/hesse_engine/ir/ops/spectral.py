"""Rows of the symmetric eigenproblem A = V diag(w) V', w ascending, of the matrices on the last two axes.

`eigh` gives values and vectors in one array, the values in its first row; `eigh_values` and `eigh_vectors` are
functions of A that are read off it. With P = V' dS V, dS = (dA + dA') / 2:

    dw = diag(P)                        dV = V (F o P),  F_ij = 1 / (w_j - w_i), 0 for i = j
    Q  = V diag(c) V'                   dQ = V (diag(dc) + D o P) V',  D_ij = (c_i - c_j) / (w_i - w_j), 0 for i = j
    q  = diag(V' M V)                   dq = diag(V' dM V) + 2 sum_j (F_ji o P_ij o (V' M V)_ij)

Q is the transpose of dw, so the gradient of a function of the eigenvalues is a Q, and its Hessian takes D alone: for a
symmetric function, D has a limit where values are repeated (`spectral_slope`), and no gap is divided by.

Source: M. B. Giles, Collected matrix derivative results for forward and reverse mode algorithmic differentiation
(2008); A. S. Lewis and H. S. Sendov, Twice differentiable spectral functions, SIAM J. Matrix Anal. Appl. 23 (2001).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError, InputError
from hesse_engine.ir.faults import refuse
from hesse_engine.ir.graph import Array, Node, apply
from hesse_engine.ir.ops.elementwise import check_arity
from hesse_engine.ir.ops.linalg import (
    batch_matrices,
    check_square,
    floating_operands,
    matrix_operand,
    product,
    symmetric_part,
)
from hesse_engine.ir.ops.slopes import slope_along
from hesse_engine.ir.ops.structural import broadcast_to, concat, reshape
from hesse_engine.ir.rows import Row, register

Tangents = list[Node | None]


# ---- values ----------------------------------------------------------------------------------------------------------
def eigh_numpy(x: Array) -> Array:
    """w above V; NaN for a matrix that is not finite."""
    lower = np.tril(x)
    finite = np.isfinite(lower).all(axis=(-2, -1), keepdims=True)
    w, v = np.linalg.eigh(np.where(finite, lower, 0.0))
    return np.where(finite, np.concatenate([w[..., None, :], v], -2), np.nan).astype(x.dtype, copy=False)


def spectral_numpy(x: Array, packed: Array, c: Array) -> Array:
    v = packed[..., 1:, :]
    found: Array = (v * c[..., None, :]) @ v.swapaxes(-1, -2)
    return found


def spectral_diag_numpy(x: Array, packed: Array, m: Array) -> Array:
    v = packed[..., 1:, :]
    found: Array = np.sum(v * (0.5 * (m + m.swapaxes(-1, -2)) @ v), axis=-2)
    return found


def repeated(values: Array, i: int, j: int, name: str = "eigenvalues") -> InputError:
    gap = abs(float(values[j]) - float(values[i]))
    return InputError(
        "repeated-eigenvalues",
        f"The {name} {i} and {j} are {float(values[i])!r} and {float(values[j])!r}: the gap of {gap!r} is none to "
        "working precision, and a derivative divides by it.",
        hint="Vectors of repeated values have no derivative; symmetric functions of the values have two, by forward "
             "over reverse.")


def gap_noise(w: Array) -> Array:
    """Gaps that rounding makes: 4 n eps max|w|, one for each row of values."""
    n = w.shape[-1]
    largest = np.max(np.abs(w), axis=-1, initial=0.0, keepdims=True)
    return np.asarray(4 * n * np.finfo(w.dtype).eps * largest)[..., None]


def _refuse_first(bad: Array, w: Array) -> None:
    if bad.any():
        *at, i, j = (int(k) for k in np.argwhere(bad)[0])
        refuse(repeated(w[tuple(at)], min(i, j), max(i, j)))


def reciprocal_gaps_numpy(w: Array) -> Array:
    gap = w[..., None, :] - w[..., :, None]
    off = ~np.eye(w.shape[-1], dtype=bool)
    bad = off & (np.abs(gap) <= gap_noise(w))
    _refuse_first(bad, w)
    with np.errstate(all="ignore"):
        return np.where(bad, np.nan, np.where(off, 1.0 / gap, 0.0)).astype(w.dtype)


def divided_numpy(w: Array, c: Array, e: Array, *, is_paired: bool) -> Array:
    """The quotient, or the mean of both slopes where these hardly differ and explain the difference of c."""
    n, eps, tiny = w.shape[-1], float(np.finfo(w.dtype).eps), gap_noise(w)
    gap, rise = w[..., :, None] - w[..., None, :], c[..., :, None] - c[..., None, :]
    left, right = e[..., :, None], e[..., None, :]
    with np.errstate(all="ignore"):
        slope, steep = 0.5 * (left + right), np.maximum(np.abs(left), np.abs(right))
        size, largest = np.maximum(np.abs(c[..., :, None]), np.abs(c[..., None, :])), tiny / (4 * n * eps)
        smooth = (np.abs(left - right) <= eps ** (1 / 3) * steep + 64 * n * eps * size / np.maximum(largest, 1e-300)) \
            & (np.abs(gap) <= eps**0.25 * largest) \
            & (np.abs(rise - slope * gap) <= 64 * n * eps * (size + np.abs(slope) * largest))
        quotient = rise / gap
    unused = np.eye(n, dtype=bool)
    if is_paired:
        unused = unused | np.eye(n, k=n // 2, dtype=bool) | np.eye(n, k=-(n // 2), dtype=bool)
    bad = ~unused & ~smooth & (np.abs(gap) <= tiny)
    _refuse_first(bad, w)
    return np.where(unused, 0.0, np.where(bad, np.nan, np.where(smooth, slope, quotient))).astype(w.dtype)


# ---- building --------------------------------------------------------------------------------------------------------
def _build_eigh(*args: Node) -> Node:
    check_arity("eigh", args, 1)
    x = matrix_operand("eigh", args[0])
    return x.builder.make("eigh", (x,), {}, (*x.shape[:-2], x.shape[-1] + 1, x.shape[-1]), x.dtype)


def _with_spectrum(op: str, count: int, *args: Any) -> list[Node]:
    check_arity(op, args, count)
    nodes = floating_operands(op, *args)
    x, packed = nodes[:2]
    check_square(op, x)
    if packed.shape != (*x.shape[:-2], x.shape[-1] + 1, x.shape[-1]):
        raise GraphError("shape-mismatch", f"{op}: the spectrum of {list(x.shape)} cannot have shape "
                                           f"{list(packed.shape)}.")
    return nodes


def _build_values(*args: Node) -> Node:
    x, packed = _with_spectrum("eigh_values", 2, *args)
    return x.builder.make("eigh_values", (x, packed), {}, x.shape[:-1], x.dtype)


def _build_vectors(*args: Node) -> Node:
    x, packed = _with_spectrum("eigh_vectors", 2, *args)
    return x.builder.make("eigh_vectors", (x, packed), {}, x.shape, x.dtype)


def _build_spectral(*args: Node) -> Node:
    x, packed, c = _with_spectrum("spectral", 3, *args)
    if c.shape != x.shape[:-1]:
        raise GraphError("shape-mismatch", f"spectral: {list(c.shape)} are not the values of {list(x.shape)}.")
    return x.builder.make("spectral", (x, packed, c), {}, x.shape, x.dtype)


def _build_spectral_diag(*args: Node) -> Node:
    x, packed, m = _with_spectrum("spectral_diag", 3, *args)
    if m.shape != x.shape:
        raise GraphError("shape-mismatch", f"spectral_diag: the shapes {list(x.shape)} and {list(m.shape)} differ.")
    return x.builder.make("spectral_diag", (x, packed, m), {}, x.shape[:-1], x.dtype)


def _values(op: str, count: int, *args: Any) -> list[Node]:
    check_arity(op, args, count)
    nodes = floating_operands(op, *args)
    if not nodes[0].ndim or any([n.shape != nodes[0].shape for n in nodes]):
        raise GraphError("shape-mismatch", f"{op}: {' and '.join([str(list(n.shape)) for n in nodes])} are not equal "
                                           "shapes with one axis at least.")
    return nodes


def _build_gaps(*args: Node) -> Node:
    (w,) = _values("reciprocal_gaps", 1, *args)
    return w.builder.make("reciprocal_gaps", (w,), {}, (*w.shape, w.shape[-1]), w.dtype)


def _build_divided(*args: Node, is_paired: Any = False) -> Node:
    w, c, e = _values("divided", 3, *args)
    if not isinstance(is_paired, (bool, np.bool_)):
        raise GraphError("bad-attribute", "divided: is_paired must be true or false.")
    return w.builder.make("divided", (w, c, e), {"is_paired": bool(is_paired)}, (*w.shape, w.shape[-1]), w.dtype)


# ---- tangents --------------------------------------------------------------------------------------------------------
def differences(x: Node, turn: bool = False) -> Node:
    """x_i - x_j at [i, j], or x_j - x_i."""
    whole = (*x.shape, x.shape[-1])
    rows = broadcast_to(reshape(x, shape=(*x.shape, 1)), shape=whole)
    columns = broadcast_to(reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1])), shape=whole)
    return columns - rows if turn else rows - columns


def within(v: Node, m: Node) -> Node:
    """V' M V."""
    return product(v, product(m, v), "ji,jk->ik")


def around(v: Node, m: Node) -> Node:
    """V M V'."""
    return product(product(v, m), v, "ij,kj->ik")


def _tangent_of_eigh(y: Node, tangents: Tangents) -> Node | None:
    if tangents[0] is None:
        return None
    x = y.args[0]
    w, v = apply("eigh_values", x, y), apply("eigh_vectors", x, y)
    dw, dv = _tangent_of_values(w, tangents), _tangent_of_vectors(v, tangents)
    assert dw is not None
    assert dv is not None
    return concat(reshape(dw, shape=(*dw.shape[:-1], 1, dw.shape[-1])), dv, axis=-2)


def _tangent_of_values(y: Node, tangents: Tangents) -> Node | None:
    return None if tangents[0] is None else apply("spectral_diag", *y.args, tangents[0])


def _tangent_of_vectors(y: Node, tangents: Tangents) -> Node | None:
    if tangents[0] is None:
        return None
    gaps = apply("reciprocal_gaps", apply("eigh_values", *y.args))
    return product(y, gaps * within(y, symmetric_part(tangents[0])))


def _tangent_of_spectral(y: Node, tangents: Tangents) -> Node | None:
    x, packed, c = y.args
    dx, _, dc = tangents
    total = None if dc is None else apply("spectral", x, packed, dc)
    if dx is not None:
        w, v = apply("eigh_values", x, packed), apply("eigh_vectors", x, packed)
        weights = apply("divided", w, c, spectral_slope(c, w))
        moved = around(v, weights * within(v, symmetric_part(dx)))
        total = moved if total is None else total + moved
    return total


def spectral_slope(c: Node, w: Node) -> Node:
    """dc_j/dw_j - dc_i/dw_j where w_i = w_j, by the elementwise path from w to c; NaN where there are other paths."""
    found = slope_along(c, w)
    return w.builder.full(w.shape, float("nan"), w.dtype) if found is None else found


def _tangent_of_spectral_diag(y: Node, tangents: Tangents) -> Node | None:
    x, packed, m = y.args
    dx, _, dm = tangents
    total = None if dm is None else apply("spectral_diag", x, packed, dm)
    if dx is not None:
        w, v = apply("eigh_values", x, packed), apply("eigh_vectors", x, packed)
        rates = apply("reciprocal_gaps", w) * within(v, symmetric_part(m)) * -2.0
        moved = apply("sum", rates * within(v, symmetric_part(dx)), axis=-1)
        total = moved if total is None else total + moved
    return total


def _tangent_of_gaps(y: Node, tangents: Tangents) -> Node | None:
    """dF = F o F o (dw_i - dw_j)"""
    return None if tangents[0] is None else y * y * differences(tangents[0])


def _tangent_of_divided(y: Node, tangents: Tangents) -> Node | None:
    """dD = (dc_i - dc_j - D (dw_i - dw_j)) / (w_i - w_j)"""
    dw, dc, _ = tangents
    rise = None if dc is None else differences(dc)
    if dw is not None:
        fall = y * differences(dw)
        rise = -fall if rise is None else rise - fall
    return None if rise is None else -apply("reciprocal_gaps", y.args[0]) * _unused_cleared(y, rise)


def _unused_cleared(y: Node, x: Node) -> Node:
    """Entries that pair a singular value with its own negative have no derivative, as they have no value."""
    if not y.attrs["is_paired"]:
        return x
    n = y.shape[-1]
    used = 1.0 - np.eye(n, k=n // 2) - np.eye(n, k=-(n // 2))
    return x * broadcast_to(x.builder.constant(used, x.dtype), shape=x.shape)


# ---- rows ------------------------------------------------------------------------------------------------------------
GAUGE = "A derivative exists for functions that do not depend on the signs of vectors, as in torch."
register(
    Row("eigh", "nonlinear", 1, (), _build_eigh, eigh_numpy, _tangent_of_eigh, batch_matrices,
        doc="Eigenvalues, ascending, in the first row and eigenvectors in the columns below, for symmetric x, read by "
            "its lower triangle; derivatives are those of the symmetric part.",
        kink=f"{GAUGE} At repeated values the error repeated-eigenvalues is raised.")
)
register(
    Row("eigh_values", "nonlinear", 2, (), _build_values, lambda x, packed: packed[..., 0, :], _tangent_of_values,
        batch_matrices, slots=(0,), doc="The eigenvalues of x, whose eigh(x) is the second operand.",
        kink="At repeated values, symmetric functions of all values have first and second derivatives; others raise "
             "the error repeated-eigenvalues.")
)
register(
    Row("eigh_vectors", "nonlinear", 2, (), _build_vectors, lambda x, packed: packed[..., 1:, :], _tangent_of_vectors,
        batch_matrices, slots=(0,), doc="The eigenvectors of x, whose eigh(x) is the second operand.",
        kink=f"{GAUGE} At repeated values the error repeated-eigenvalues is raised.")
)
register(
    Row("spectral", "nonlinear", 3, (), _build_spectral, spectral_numpy, _tangent_of_spectral, batch_matrices,
        slots=(0, 2), linear=(2,), transpose=lambda ct, y: (None, None, apply("spectral_diag", *y.args[:2], ct)),
        doc="V diag(c) V' for x with eigenvectors V, whose eigh(x) is the second operand.")
)
register(
    Row("spectral_diag", "nonlinear", 3, (), _build_spectral_diag, spectral_diag_numpy, _tangent_of_spectral_diag,
        batch_matrices, slots=(0, 2), linear=(2,),
        transpose=lambda ct, y: (None, None, apply("spectral", *y.args[:2], ct)),
        doc="diag(V' m V) for x with eigenvectors V, whose eigh(x) is the second operand.")
)

register(
    Row("reciprocal_gaps", "nonlinear", 1, (), _build_gaps, reciprocal_gaps_numpy, _tangent_of_gaps, batch_matrices,
        doc="1 / (w_j - w_i) at [i, j], 0 on the diagonal.",
        domain="Gaps beyond rounding: otherwise the error repeated-eigenvalues is raised.")
)
register(
    Row("divided", "nonlinear", 3, ("is_paired",), _build_divided, divided_numpy, _tangent_of_divided, batch_matrices,
        slots=(0, 1),
        doc="Divided differences (c_i - c_j) / (w_i - w_j) at [i, j], 0 on the diagonal; their limit by the slopes "
            "e = dc/dw, the third operand, where w_i and w_j are nearly equal: attrs is_paired (w_i and w_(i+n/2) are "
            "not compared).",
        domain="Where c_i - c_j does not vanish along with w_i - w_j, the error repeated-eigenvalues is raised.")
)

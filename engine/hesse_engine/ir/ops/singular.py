"""Rows of the singular value decomposition A = U diag(s) V' of the matrices on the last two axes, s descending.

A is m x n, k = min(m, n), U is m x k and V is n x k. `svd` gives U, s and V one below the other in one array, m + 1 + n
rows of length k; the others are functions of A that are read off it. With P = U' dA V, Y and K its symmetric and skew
parts, F_ij = 1 / (s_j - s_i) and G_ij = 1 / (s_j + s_i), 0 for i = j:

    ds = diag(P)
    dU = U (F o Y + G o K) + (I - UU') dA V S^-1
    dV = V (F o Y - G o K) + (I - VV') dA' U S^-1
    B  = U diag(c) V'    dB = U (diag(dc) + D o Y + E o K) V' + (I - UU') dA V R V' + U R U' dA (I - VV')
                         D_ij = (c_i - c_j) / (s_i - s_j), E_ij = (c_i + c_j) / (s_i + s_j), R = diag(c / s)
    q  = diag(U' M V)    dq = diag(U' dM V + dU' M V + U' M dV)

B is the transpose of ds: as with eigenvalues, the Hessian of a symmetric function of s takes no gap. D and E are one
table of divided differences, over the values and their negatives.

Source: A. Sengupta et al., see M. B. Giles (2008), section 3; A. S. Lewis and H. S. Sendov, Nonsmooth analysis of
singular values, Set-Valued Analysis 13 (2005).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import Array, Node, apply
from hesse_engine.ir.ops.elementwise import check_arity
from hesse_engine.ir.ops.linalg import batch_matrices, floating_operands, product, turned
from hesse_engine.ir.ops.spectral import GAUGE, spectral_slope
from hesse_engine.ir.ops.structural import broadcast_to, concat, reshape, slice_
from hesse_engine.ir.rows import Row, register

Tangents = list[Node | None]


# ---- values ----------------------------------------------------------------------------------------------------------
def svd_numpy(x: Array) -> Array:
    """U over s over V; NaN for a matrix that is not finite."""
    finite = np.isfinite(x).all(axis=(-2, -1), keepdims=True)
    u, s, vh = np.linalg.svd(np.where(finite, x, 0.0), full_matrices=False)
    packed = np.concatenate([u, s[..., None, :], vh.swapaxes(-1, -2)], -2)
    return np.where(finite, packed, np.nan).astype(x.dtype, copy=False)


def _left(x: Array, packed: Array) -> Array:
    return packed[..., :x.shape[-2], :]


def _middle(x: Array, packed: Array) -> Array:
    return packed[..., x.shape[-2], :]


def _right(x: Array, packed: Array) -> Array:
    return packed[..., x.shape[-2] + 1:, :]


def svd_matrix_numpy(x: Array, packed: Array, c: Array) -> Array:
    found: Array = (_left(x, packed) * c[..., None, :]) @ _right(x, packed).swapaxes(-1, -2)
    return found


def svd_diag_numpy(x: Array, packed: Array, m: Array) -> Array:
    found: Array = np.sum(_left(x, packed) * (m @ _right(x, packed)), axis=-2)
    return found


# ---- building --------------------------------------------------------------------------------------------------------
def sizes(x: Node) -> tuple[int, int, int]:
    m, n = x.shape[-2:]
    return m, n, min(m, n)


def rectangular(op: str, x: Any) -> Node:
    check_arity(op, (x,), 1)
    (node,) = floating_operands(op, x)
    if node.ndim < 2:
        raise GraphError("shape-mismatch", f"{op}: shape {list(node.shape)} is not that of matrices.")
    return node


def _build_svd(*args: Node) -> Node:
    check_arity("svd", args, 1)
    x = rectangular("svd", args[0])
    m, n, k = sizes(x)
    return x.builder.make("svd", (x,), {}, (*x.shape[:-2], m + 1 + n, k), x.dtype)


def _with_parts(op: str, count: int, *args: Any) -> list[Node]:
    check_arity(op, args, count)
    nodes = floating_operands(op, *args)
    x, packed = nodes[:2]
    m, n, k = sizes(x) if x.ndim > 1 else (0, 0, 0)
    if x.ndim < 2 or packed.shape != (*x.shape[:-2], m + 1 + n, k):
        raise GraphError("shape-mismatch", f"{op}: the decomposition of {list(x.shape)} cannot have shape "
                                           f"{list(packed.shape)}.")
    return nodes


def _make(op: str, count: int, *args: Any) -> Node:
    """The node of `op`, whose shape is that of x with the last axes replaced."""
    nodes = _with_parts(op, count, *args)
    x = nodes[0]
    m, n, k = sizes(x)
    tail, third = {"svd_left": ((m, k), ()), "svd_values": ((k,), ()), "svd_right": ((n, k), ()),
                   "svd_matrix": ((m, n), (k,)), "svd_diag": ((k,), (m, n))}[op]
    if count == 3 and nodes[2].shape != (*x.shape[:-2], *third):
        raise GraphError("shape-mismatch", f"{op}: {list(nodes[2].shape)} does not fit matrices of {list(x.shape)}.")
    return x.builder.make(op, tuple(nodes), {}, (*x.shape[:-2], *tail), x.dtype)


# ---- tangents --------------------------------------------------------------------------------------------------------
def _parts(y: Node) -> tuple[Node, Node, Node]:
    """U, s and V."""
    u, s, v = (apply(op, *y.args[:2]) for op in ("svd_left", "svd_values", "svd_right"))
    return u, s, v


def _split(p: Node) -> tuple[Node, Node]:
    """The symmetric and the skew part."""
    return (p + turned(p)) * 0.5, (p - turned(p)) * 0.5


def _block(x: Node, row: int, column: int, k: int) -> Node:
    """x[..., row:row + k, column:column + k]."""
    lead = (0,) * (x.ndim - 2)
    return slice_(x, start=(*lead, row, column), count=(*x.shape[:-2], k, k))


def _sums(s: Node) -> Node:
    """1 / (s_j + s_i), 0 on the diagonal."""
    k, whole = s.shape[-1], (*s.shape, s.shape[-1])
    both = broadcast_to(reshape(s, shape=(*s.shape, 1)), shape=whole) \
        + broadcast_to(reshape(s, shape=(*s.shape[:-1], 1, k)), shape=whole)
    eye = broadcast_to(s.builder.constant(np.eye(k), s.dtype), shape=whole)
    return (1.0 - eye) / apply("where", apply("equal", eye, 1.0), 1.0, both)


def _gaps(x: Node, s: Node) -> tuple[Node, Node | None]:
    """(F, 1 / s); the latter, where A is not square, as gaps to a further value 0, which are refused alike."""
    m, n, k = sizes(x)
    if m == n:
        return apply("reciprocal_gaps", s), None
    zero = s.builder.full((*s.shape[:-1], 1), 0.0, s.dtype)
    wide = apply("reciprocal_gaps", concat(s, zero, axis=-1))
    lead = (0,) * (s.ndim - 1)
    last = slice_(wide, start=(*lead, 0, k), count=(*s.shape, 1))
    return _block(wide, 0, 0, k), -reshape(last, shape=s.shape)


def _columns(x: Node, weights: Node) -> Node:
    """X diag(weights)."""
    return x * broadcast_to(reshape(weights, shape=(*weights.shape[:-1], 1, weights.shape[-1])), shape=x.shape)


def outside(u: Node, x: Node) -> Node:
    """(I - UU') X."""
    return x - product(u, product(u, x, "ji,jk->ik"))


def _tangent_of_factor(y: Node, dx: Node, is_left: bool) -> Node:
    x = y.args[0]
    u, s, v = _parts(y)
    k = s.shape[-1]
    gaps, inverse = _gaps(x, s)
    own, other, moved = (u, v, dx) if is_left else (v, u, turned(dx))
    image = product(moved, other)  # dA V, or dA' U
    symmetric, skew = _split(product(own, image, "ji,jk->ik"))
    total = product(own, gaps * symmetric + _sums(s) * skew)
    if own.shape[-2] > k:
        assert inverse is not None
        total = total + _columns(outside(own, image), inverse)
    return total


def _tangent_of_left(y: Node, tangents: Tangents) -> Node | None:
    return None if tangents[0] is None else _tangent_of_factor(y, tangents[0], True)


def _tangent_of_right(y: Node, tangents: Tangents) -> Node | None:
    return None if tangents[0] is None else _tangent_of_factor(y, tangents[0], False)


def _tangent_of_values(y: Node, tangents: Tangents) -> Node | None:
    return None if tangents[0] is None else apply("svd_diag", *y.args, tangents[0])


def _tangent_of_svd(y: Node, tangents: Tangents) -> Node | None:
    if tangents[0] is None:
        return None
    u, s, v = (apply(op, y.args[0], y) for op in ("svd_left", "svd_values", "svd_right"))
    du, ds, dv = _tangent_of_left(u, tangents), _tangent_of_values(s, tangents), _tangent_of_right(v, tangents)
    assert du is not None
    assert ds is not None
    assert dv is not None
    return concat(du, reshape(ds, shape=(*ds.shape[:-1], 1, ds.shape[-1])), dv, axis=-2)


def _tangent_of_matrix(y: Node, tangents: Tangents) -> Node | None:
    x, packed, c = y.args
    dx, _, dc = tangents
    total = None if dc is None else apply("svd_matrix", x, packed, dc)
    if dx is None:
        return total
    u, s, v = _parts(y)
    m, n, k = sizes(x)
    slope = spectral_slope(c, s)
    table = apply("divided", concat(s, -s, axis=-1), concat(c, -c, axis=-1), concat(slope, slope, axis=-1),
                  is_paired=m == n)
    near, far = _block(table, 0, 0, k), _block(table, 0, k, k)
    image = product(dx, v)  # dA V
    symmetric, skew = _split(product(u, image, "ji,jk->ik"))
    moved = product(product(u, near * symmetric + far * skew), v, "ij,kj->ik")
    if m != n:
        ratio = _diagonal(far)
        if m > n:
            moved = moved + product(_columns(outside(u, image), ratio), v, "ij,kj->ik")
        else:
            back = product(dx, u, "ji,jk->ik")  # dA' U
            moved = moved + product(u, _columns(outside(v, back), ratio), "ij,kj->ik")
    return moved if total is None else total + moved


def _diagonal(x: Node) -> Node:
    k, lead = x.shape[-1], x.shape[:-2]
    line = reshape(x, shape=(*lead, k * k))
    return slice_(line, start=(0,) * line.ndim, step=(*(1,) * len(lead), k + 1), count=(*lead, k))


def _tangent_of_diag(y: Node, tangents: Tangents) -> Node | None:
    x, packed, m = y.args
    dx, _, dm = tangents
    total = None if dm is None else apply("svd_diag", x, packed, dm)
    if dx is None:
        return total
    u, _, v = _parts(y)
    du, dv = _tangent_of_factor(u, dx, True), _tangent_of_factor(v, dx, False)
    moved = apply("sum", du * product(m, v), axis=-2) + apply("sum", dv * product(m, u, "ji,jk->ik"), axis=-2)
    return moved if total is None else total + moved


# ---- rows ------------------------------------------------------------------------------------------------------------
REPEATED = "At repeated values, and at 0 where the matrix is not square, the error repeated-eigenvalues is raised."
register(
    Row("svd", "nonlinear", 1, (), _build_svd, svd_numpy, _tangent_of_svd, batch_matrices,
        doc="The singular value decomposition: left vectors in columns, below them the values, descending, below them "
            "the right vectors.", kink=f"{GAUGE} {REPEATED}")
)
register(
    Row("svd_values", "nonlinear", 2, (), lambda *args: _make("svd_values", 2, *args), _middle, _tangent_of_values,
        batch_matrices, slots=(0,), doc="The singular values of x, whose svd(x) is the second operand.",
        kink="At repeated values, symmetric functions of all values have first and second derivatives. At 0 the first "
             "derivative is that of one choice of vectors, as in torch.")
)
for _name, _numpy, _tangent in (("svd_left", _left, _tangent_of_left), ("svd_right", _right, _tangent_of_right)):
    register(
        Row(_name, "nonlinear", 2, (), lambda *args, name=_name: _make(name, 2, *args), _numpy, _tangent,
            batch_matrices, slots=(0,), kink=f"{GAUGE} {REPEATED}",
            doc=f"The {_name.removeprefix('svd_')} singular vectors of x, whose svd(x) is the second operand.")
    )
register(
    Row("svd_matrix", "nonlinear", 3, (), lambda *args: _make("svd_matrix", 3, *args), svd_matrix_numpy,
        _tangent_of_matrix, batch_matrices, slots=(0, 2), linear=(2,),
        transpose=lambda ct, y: (None, None, apply("svd_diag", *y.args[:2], ct)),
        doc="U diag(c) V' for x with singular vectors U and V, whose svd(x) is the second operand.")
)
register(
    Row("svd_diag", "nonlinear", 3, (), lambda *args: _make("svd_diag", 3, *args), svd_diag_numpy, _tangent_of_diag,
        batch_matrices, slots=(0, 2), linear=(2,),
        transpose=lambda ct, y: (None, None, apply("svd_matrix", *y.args[:2], ct)),
        doc="diag(U' m V) for x with singular vectors U and V, whose svd(x) is the second operand.")
)

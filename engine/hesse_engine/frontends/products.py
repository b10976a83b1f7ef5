"""NumPy's products, traces and norms, written in the bilinear row `contract`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends import linear_algebra
from hesse_engine.frontends.operands import builder_of, elementwise, floating, root, tensor, tensors
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops.contraction import LETTERS
from hesse_engine.ir.shapes import axis_of


@numpy_function("matmul", "linalg.matmul")
def matmul(x1: Any, x2: Any) -> Node:
    return apply("matmul", *tensors(x1, x2))


@numpy_function()
def dot(a: Any, b: Any) -> Node:
    return apply("dot", *tensors(a, b))


@numpy_function()
def vdot(a: Any, b: Any) -> Node:
    x, y = (apply("reshape", n, shape=(n.size,)) for n in tensors(a, b))
    return apply("dot", x, y)


@numpy_function()
def inner(a: Any, b: Any) -> Node:
    x, y = tensors(a, b)
    if not x.ndim or not y.ndim:
        return x * y
    return tensordot(x, y, ([-1], [-1]))


@numpy_function("outer", "linalg.outer")
def outer(a: Any, b: Any) -> Node:
    return apply("outer", *tensors(a, b))


@numpy_function("vecdot", "linalg.vecdot")
def vecdot(x1: Any, x2: Any, *, axis: int = -1) -> Node:
    return apply("sum", elementwise("multiply", x1, x2), axis=axis)


@numpy_function()
def matvec(x1: Any, x2: Any) -> Node:
    x, y = tensors(x1, x2)
    return apply("squeeze", apply("matmul", x, apply("expand_dims", y, axis=-1)), axis=-1)


@numpy_function()
def vecmat(x1: Any, x2: Any) -> Node:
    x, y = tensors(x1, x2)
    return apply("squeeze", apply("matmul", apply("expand_dims", x, axis=-2), y), axis=-2)


@numpy_function("tensordot", "linalg.tensordot")
def tensordot(a: Any, b: Any, axes: Any = 2) -> Node:
    x, y = tensors(a, b)
    if isinstance(axes, (int, np.integer)):
        count = int(axes)
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise GraphError("bad-attribute", f"tensordot: {count} axes of operands with {x.ndim} and {y.ndim} axes.")
        left, right = list(range(x.ndim - count, x.ndim)), list(range(count))
    else:
        first, second = axes
        left = [axis_of("tensordot", k, x.ndim) for k in (first if isinstance(first, (list, tuple)) else [first])]
        right = [axis_of("tensordot", k, y.ndim) for k in (second if isinstance(second, (list, tuple)) else [second])]
    if len(left) != len(right):
        raise GraphError("bad-attribute", f"tensordot: {len(left)} axes of the first for {len(right)} of the second.")
    mine = list(LETTERS[:x.ndim])
    theirs = list(LETTERS[x.ndim:x.ndim + y.ndim])
    for k, m in zip(left, right, strict=True):
        theirs[m] = mine[k]
    kept = [c for k, c in enumerate(mine) if k not in left] + [c for k, c in enumerate(theirs) if k not in right]
    return apply("contract", x, y, subscripts=f"{''.join(mine)},{''.join(theirs)}->{''.join(kept)}")


@numpy_function()
def einsum(subscripts: Any, *operands: Any) -> Node:
    if not isinstance(subscripts, str):
        subscripts, operands = _from_lists((subscripts, *operands))
    if len(operands) == 1 and type(operands[0]) in (list, tuple):
        operands = tuple(operands[0])
    return apply("einsum", *tensors(*operands), subscripts=subscripts)


@numpy_function()
def kron(a: Any, b: Any) -> Node:
    x, y = tensors(a, b)
    rank = max(x.ndim, y.ndim)
    x = apply("reshape", x, shape=(1,) * (rank - x.ndim) + x.shape)
    y = apply("reshape", y, shape=(1,) * (rank - y.ndim) + y.shape)
    left = apply("reshape", x, shape=[s for length in x.shape for s in (length, 1)])
    right = apply("reshape", y, shape=[s for length in y.shape for s in (1, length)])
    return apply("reshape", left * right, shape=[p * q for p, q in zip(x.shape, y.shape, strict=True)])


def _from_lists(args: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """einsum(a, [0, 1], b, [1, 2], [0, 2]) as einsum('ab,bc->ac', a, b)."""
    operands, lists = args[:len(args) // 2 * 2:2], list(args[1::2])
    out = args[-1] if len(args) % 2 else None

    def term(entries: Any) -> str:
        if not isinstance(entries, (list, tuple)):
            raise GraphError("bad-attribute", "einsum: the subscripts must be a string like 'ij,jk->ik', given first, "
                                              "or a list of integers after each operand.")
        return "".join(["..." if e is Ellipsis else LETTERS[e] for e in entries])

    text = ",".join([term(entries) for entries in lists])
    return text if out is None else f"{text}->{term(out)}", operands


@numpy_function()
def einsum_path(subscripts: Any, *operands: Any, optimize: Any = "greedy") -> Any:
    """NumPy's own path, which shapes alone decide."""
    if not isinstance(subscripts, str):
        subscripts, operands = _from_lists((subscripts, *operands))
    shapes = [tensor(o, builder_of(*operands)).shape for o in operands]
    return np.einsum_path(subscripts, *[np.broadcast_to(0.0, s) for s in shapes], optimize=optimize)


@numpy_function()
def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Node:
    """NumPy's spelling: an axis for each operand and the result, or one for all."""
    first, second, last = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    x, y = tensors(a, b)
    product = linalg_cross(_moved(x, first, -1), _moved(y, second, -1))
    return _moved(product, -1, last)


def _moved(x: Node, axis: int, to: int) -> Node:
    order = list(range(x.ndim))
    order.insert(axis_of("cross", to, x.ndim), order.pop(axis_of("cross", axis, x.ndim)))
    return apply("permute_dims", x, axes=order)


@numpy_function("linalg.cross")
def linalg_cross(a: Any, b: Any, /, *, axis: int = -1) -> Node:
    """(a2 b3 - a3 b2, a3 b1 - a1 b3, a1 b2 - a2 b1) along an axis of length 3."""
    x, y = tensors(a, b)
    k, m = axis_of("cross", axis, x.ndim), axis_of("cross", axis, y.ndim)
    if x.shape[k] != 3 or y.shape[m] != 3:
        raise GraphError("shape-mismatch", f"cross: the axis has lengths {x.shape[k]} and {y.shape[m]}, not 3.")

    def turned(n: Node, at: int, order: list[int]) -> Node:
        return apply("take", n, n.builder.constant(order), axis=at)

    return turned(x, k, [1, 2, 0]) * turned(y, m, [2, 0, 1]) - turned(x, k, [2, 0, 1]) * turned(y, m, [1, 2, 0])


# ---- norms -----------------------------------------------------------------------------------------------------------
def vector_norm_of(x: Node, p: Any, axis: Any, keepdims: bool) -> Node:
    """(sum |x|^p)^(1/p), with torch's subgradient 0 where it vanishes."""
    def total(n: Node) -> Node:
        return apply("sum", n, axis=axis, keepdims=keepdims)

    if p == 2:
        return root(total(apply("square", x)))
    size = apply("abs", x)
    if p == 1:
        return total(size)
    if p in (math.inf, -math.inf):
        return apply("max" if p > 0 else "min", size, axis=axis, keepdims=keepdims)
    if p == 0:
        return apply("convert", total(apply("not_equal", x, 0)), dtype=x.dtype)
    whole = total(apply("power", size, float(p)))
    at_zero = apply("equal", whole, 0.0)
    if p < 0:
        return apply("power", whole, 1.0 / float(p))
    return apply("where", at_zero, 0.0, apply("power", apply("where", at_zero, 1.0, whole), 1.0 / float(p)))


@numpy_function("linalg.norm", "norm")
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Node:
    node = floating(tensor(x))
    if ord is None or (ord == "fro" and (axis is None or len(_axes(axis)) == 2)):
        return vector_norm_of(node, 2, axis, keepdims)
    axes = _axes(axis) if axis is not None else tuple(range(node.ndim))
    if len(axes) == 1:
        if isinstance(ord, str):
            raise GraphError("bad-attribute", f"norm: order {ord!r} is not one of vectors.")
        return vector_norm_of(node, ord, axes, keepdims)
    if len(axes) != 2:
        raise GraphError("bad-attribute", f"norm: an order is for one axis or two, not {len(axes)}.")
    return matrix_norm(node, keepdims=keepdims, ord=ord, axis=axes)


def _axes(axis: Any) -> tuple[int, ...]:
    return tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)


@numpy_function("linalg.vector_norm")
def vector_norm(x: Any, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Node:
    return vector_norm_of(floating(tensor(x)), ord, axis, keepdims)


@numpy_function("linalg.matrix_norm")
def matrix_norm(x: Any, *, keepdims: bool = False, ord: Any = "fro", axis: tuple[int, ...] = (-2, -1)) -> Node:
    node = floating(tensor(x))
    if ord == "fro":
        return vector_norm_of(node, 2, axis, keepdims)
    if ord in ("nuc", 2, -2):
        return linear_algebra.norm_of_singular_values(node, ord, axis, keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise GraphError("bad-attribute", f"norm: order {ord!r} is not one of matrices.")
    rows, columns = (axis_of("norm", k, node.ndim) for k in axis)
    along, over = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = apply("sum", apply("abs", node), axis=along, keepdims=True)
    y = apply("max" if ord > 0 else "min", sums, axis=over, keepdims=True)
    return y if keepdims else apply("squeeze", y, axis=(rows, columns))


@numpy_function()
def polyval(p: Any, x: Any) -> Node:
    """Horner's scheme: p[0] x^(n-1) + ... + p[n-1]."""
    builder = builder_of(p, x)
    coefficients, at = tensor(p, builder), tensor(x, builder)
    y = builder.zeros(at.shape, at.dtype)
    for k in range(coefficients.shape[0]):
        one = apply("reshape", apply("slice", coefficients, start=(k,), count=(1,)), shape=())
        y = elementwise("add", elementwise("multiply", y, at), one)
    return y

"""Linear rows that follow an index array: `take` and `take_along`, and their transposes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError, GraphError, IndexRangeError
from hesse_engine.ir.graph import INT64, Node, apply, is_zero
from hesse_engine.ir.ops.elementwise import align, check_arity
from hesse_engine.ir.ops.structural import linear, permute_dims, reshape
from hesse_engine.ir.shapes import axis_of, convert, integer


def index_of(op: str, x: Node, index: Any) -> Node:
    """The indices as a node that NumPy can index by: uint64 alone does not fit into int64."""
    if not isinstance(x, Node):
        raise ArgumentTypeError("bad-type", f"{op}: the first operand must belong to a graph; got {type(x).__name__}.")
    if not isinstance(index, Node):
        is_empty = isinstance(index, (list, tuple)) and not index  # NumPy makes floats of it
        index = x.builder.constant(index, INT64 if is_empty else None)
    assert isinstance(index, Node)
    if index.dtype.kind not in "iu":
        raise GraphError("dtype-mismatch", f"{op}: the indices must be integers, not {index.dtype}.")
    if index.dtype == np.uint64:  # what int64 cannot hold is out of every range, and must not wrap into one
        return convert(apply("minimum", index, int(np.iinfo(np.int64).max)), INT64)
    return index


def check_indices(op: str, index: Node, length: int) -> None:
    """Constant indices are checked now; computed ones when they are known (`take_numpy`)."""
    if index.value is not None:
        check_range(op, index.value, length)


def check_range(op: str, indices: Any, length: int) -> None:
    if indices.size and not (-length <= int(indices.min()) and int(indices.max()) < length):
        bad = int(indices.min()) if int(indices.min()) < -length else int(indices.max())
        raise IndexRangeError("index-out-of-range",
                              f"{op}: index {bad} is out of range for an axis of length {length}.")


def _build_take(*args: Node, axis: Any = 0) -> Node:
    check_arity("take", args, 2)
    x, index = args[0], index_of("take", *args)
    k = axis_of("take", axis, x.ndim)
    check_indices("take", index, x.shape[k])
    shape = (*x.shape[:k], *index.shape, *x.shape[k + 1:])
    if is_zero(x):
        return x.builder.zeros(shape, x.dtype)
    return x.builder.make("take", (x, index), {"axis": k}, shape, x.dtype)


def take_numpy(x: Any, index: Any, *, axis: int) -> Any:
    check_range("take", index, x.shape[axis])
    return np.take(x, index, axis=axis)


def _transpose_take(ct: Node, y: Node) -> tuple[Node | None, ...]:
    x, index = y.args
    k = y.attrs["axis"]
    return scatter_add(ct, index, axis=k, size=x.shape[k]), None


def _batch_take(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    (x, index), k = args, node.attrs["axis"]
    if not batched[1]:
        return take(x, index, axis=k)
    rank, span = index.ndim - 1, node.args[0].shape[k]
    if not batched[0]:                      # (..., i..., B, ...): the batch axis came in with the index
        rows = take(x, index, axis=k)
        return _axis_to_end(rows, k + rank)
    # both: gather from the pair (axis, batch) flattened, at index * B + b
    paired = permute_dims(x, axes=[a for a in range(x.ndim - 1) if a != k] + [k, x.ndim - 1])
    paired = reshape(paired, shape=(*paired.shape[:-2], span * size))
    flat_index = _paired(index, span, size)
    rows = take(paired, flat_index, axis=paired.ndim - 1)      # (others..., i..., B)
    others, order = node.args[0].ndim - 1, []
    order = [*range(k), *range(others, others + rank), *range(k, others), others + rank]
    return permute_dims(rows, axes=order)


def _paired(index: Node, span: int, size: int) -> Node:
    """index[..., b] on an axis of length `span` as a position on (axis, batch) flattened: index * B + b.

    A negative index gives a position that counts from the end too. What is out of range stays so, where the product
    alone could wrap around into the range.
    """
    inside = apply("logical_and", index >= _within(index, -span), index <= _within(index, span - 1))
    position = convert(index, INT64) * size + index.builder.constant(np.arange(size, dtype=np.int64))
    return apply("where", inside, position, span * size)


def _within(index: Node, bound: int) -> int:
    """`bound`, or the nearest number that the index's type holds."""
    limits = np.iinfo(index.dtype)
    return max(int(limits.min), min(int(limits.max), bound))


def _axis_to_end(x: Node, axis: int) -> Node:
    return permute_dims(x, axes=[a for a in range(x.ndim) if a != axis] + [axis])


take = linear("take", 2, ("axis",), _build_take, take_numpy, _transpose_take, _batch_take,
              slots=(0,), is_movement=False,
              doc="The entries of x at integer indices along an axis (negative ones count from the end): attrs axis.")


def _build_scatter_add(*args: Node, axis: Any = 0, size: Any) -> Node:
    check_arity("scatter_add", args, 2)
    x, index = args[0], index_of("scatter_add", *args)
    length = integer("scatter_add", "size", size)
    post = x.ndim - index.ndim
    if length < 0 or post < 0:
        raise GraphError("bad-attribute", f"scatter_add: size {length} or index rank {index.ndim} does not fit.")
    k = axis_of("scatter_add", axis, post + 1)
    if x.shape[k:k + index.ndim] != index.shape:
        raise GraphError("shape-mismatch", f"scatter_add: axes {k} to {k + index.ndim - 1} of {list(x.shape)} are not "
                                           f"those of the indices {list(index.shape)}.")
    check_indices("scatter_add", index, length)
    shape = (*x.shape[:k], length, *x.shape[k + index.ndim:])
    if is_zero(x):
        return x.builder.zeros(shape, x.dtype)
    return x.builder.make("scatter_add", (x, index), {"axis": k, "size": length}, shape, x.dtype)


def _scatter_add_numpy(x: Any, index: Any, *, axis: int, size: int) -> Any:
    check_range("scatter_add", index, size)
    rank = index.ndim
    front = np.moveaxis(x, range(axis, axis + rank), range(rank))
    out = np.zeros((size, *front.shape[rank:]), x.dtype)
    np.add.at(out, index, front)
    return np.moveaxis(out, 0, axis)


def _transpose_scatter_add(ct: Node, y: Node) -> tuple[Node | None, ...]:
    return take(ct, y.args[1], axis=y.attrs["axis"]), None


def _batch_scatter_add(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    (x, index), k, span = args, node.attrs["axis"], node.attrs["size"]
    if not batched[1]:
        return scatter_add(x, index, axis=k, size=span)
    x = x if batched[0] else align(x, size)
    rank = index.ndim - 1
    # scatter into the pair (axis, batch) flattened, at index * B + b
    moved = permute_dims(x, axes=[*range(k), *range(k + rank, x.ndim - 1), *range(k, k + rank), x.ndim - 1])
    flat_index = _paired(index, span, size)
    at = moved.ndim - rank - 1
    out = scatter_add(moved, flat_index, axis=at, size=span * size)
    out = reshape(out, shape=(*out.shape[:-1], span, size))
    return permute_dims(out, axes=[*range(k), at, *range(k, at), at + 1])


scatter_add = linear(
    "scatter_add", 2, ("axis", "size"), _build_scatter_add, _scatter_add_numpy, _transpose_scatter_add,
    _batch_scatter_add, slots=(0,), is_movement=False,
    doc="Sums of x by integer index along a new axis of the given size: the transpose of take; attrs axis, size.",
)


# ---- along an axis, a place of its own for every element -------------------------------------------------------------
def _paired_shapes(op: str, x: Node, index: Node, axis: Any, *, is_free: bool) -> int:
    """The axis, where x and the indices have one shape, save along it if it is free."""
    k = axis_of(op, axis, x.ndim)
    differs = [j for j in range(x.ndim) if j >= index.ndim or x.shape[j] != index.shape[j]]
    if index.ndim != x.ndim or differs not in ([], [k] if is_free else []):
        raise GraphError("shape-mismatch", f"{op}: the indices {list(index.shape)} do not fit {list(x.shape)} along "
                                           f"axis {k}.")
    return k


def _build_take_along(*args: Any, axis: Any = -1) -> Node:
    check_arity("take_along", args, 2)
    index = index_of("take_along", *args)
    x: Node = args[0]
    k = _paired_shapes("take_along", x, index, axis, is_free=True)
    check_indices("take_along", index, x.shape[k])
    if is_zero(x):
        return x.builder.zeros(index.shape, x.dtype)
    return x.builder.make("take_along", (x, index), {"axis": k}, index.shape, x.dtype)


def _take_along_numpy(x: Any, index: Any, *, axis: int) -> Any:
    check_range("take_along", index, x.shape[axis])
    return np.take_along_axis(x, index, axis)


def _build_add_along(*args: Any, axis: Any = -1, size: Any) -> Node:
    check_arity("add_along", args, 2)
    index = index_of("add_along", *args)
    x: Node = args[0]
    k, length = _paired_shapes("add_along", x, index, axis, is_free=False), integer("add_along", "size", size)
    if length < 0:
        raise GraphError("bad-attribute", f"add_along: size {length} is negative.")
    check_indices("add_along", index, length)
    shape = (*x.shape[:k], length, *x.shape[k + 1:])
    if is_zero(x):
        return x.builder.zeros(shape, x.dtype)
    return x.builder.make("add_along", (x, index), {"axis": k, "size": length}, shape, x.dtype)


def _add_along_numpy(x: Any, index: Any, *, axis: int, size: int) -> Any:
    check_range("add_along", index, size)
    out = np.zeros((*x.shape[:axis], size, *x.shape[axis + 1:]), x.dtype)
    key = list(np.indices(x.shape, sparse=True))
    key[axis] = index
    np.add.at(out, tuple(key), x)
    return out


def _batch_along(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    return apply(node.op, *[a if b else align(a, size) for a, b in zip(args, batched, strict=True)], **node.attrs)


take_along: Callable[..., Node] = linear(
    "take_along", 2, ("axis",), _build_take_along, _take_along_numpy,
    lambda ct, y: (add_along(ct, y.args[1], axis=y.attrs["axis"], size=y.args[0].shape[y.attrs["axis"]]), None),
    _batch_along, slots=(0,), is_movement=False,
    doc="y[i, j, ..] = x[index[i, j, ..], j, ..], the index in place of one axis: attrs axis.",
)
add_along: Callable[..., Node] = linear(
    "add_along", 2, ("axis", "size"), _build_add_along, _add_along_numpy,
    lambda ct, y: (take_along(ct, y.args[1], axis=y.attrs["axis"]), None),
    _batch_along, slots=(0,), is_movement=False,
    doc="Sums of x[i, j, ..] at [index[i, j, ..], j, ..], an axis of the given size: the transpose of take_along; "
        "attrs axis, size.",
)

"""Rows that find positions: of sorted, searched, running and most frequent elements, and of the last writer.

Positions are integers and carry no derivative. What they select is read by `take`, so sorted values, order statistics
and scattered arrays have the derivatives of a gather, in every order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import INT64, Array, Node, apply
from hesse_engine.ir.ops.elementwise import align, check_arity, check_operands
from hesse_engine.ir.ops.gathering import check_indices, check_range, index_of
from hesse_engine.ir.ops.structural import permute_dims
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import axis_of, integer, lift


def _flag(op: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise GraphError("bad-attribute", f"{op}: {name} must be true or false, not {type(value).__name__}.")
    return bool(value)


def _no_tangent(y: Node, tangents: list[Node | None]) -> None:
    return None


def _batch_same(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    return apply(node.op, *args, **node.attrs)


# ---- along an axis ---------------------------------------------------------------------------------------------------
def _along(name: str, flags: tuple[str, ...], numpy: Callable[..., Array], doc: str) -> None:
    def build(*args: Node, axis: Any = -1, **options: Any) -> Node:
        check_operands(name, args, 1)
        (x,) = args
        unknown = set(options) - set(flags)
        if unknown:
            raise GraphError("bad-attribute", f"{name} has no attribute {min(unknown)!r}.")
        attrs = {"axis": axis_of(name, axis, x.ndim), **{f: _flag(name, f, options.get(f, False)) for f in flags}}
        return x.builder.make(name, (x,), attrs, x.shape, INT64)

    register(Row(name, "nonlinear", 1, ("axis", *flags), build, numpy, _no_tangent, _batch_same, doc=doc))


def argsort_numpy(x: Array, *, axis: int, descending: bool) -> Array:
    if not descending:
        return np.argsort(x, axis=axis, kind="stable").astype(np.int64)
    backwards = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    return np.asarray(x.shape[axis] - 1 - backwards, np.int64)


_along("argsort", ("descending",), argsort_numpy,
       "Positions that sort x along an axis, equal elements in their order, NaN as the largest: attrs axis, "
       "descending.")


def _running(x: Array, *, axis: int, smallest: bool) -> Array:
    extreme = (np.minimum if smallest else np.maximum).accumulate(x, axis=axis)
    places = np.arange(x.shape[axis]).reshape([-1 if k == axis else 1 for k in range(x.ndim)])
    attains = (x == extreme) | (x != x)
    return np.maximum.accumulate(np.where(attains, places, 0), axis=axis).astype(np.int64)


_along("cumulative_argmax", ("smallest",), _running,
       "Position of the largest of the first 1, 2, ... elements along an axis, the last of equal ones: attrs axis, "
       "smallest (the smallest elements instead).")


def _mode_numpy(x: Array, *, axis: int) -> Array:
    rows = np.moveaxis(x, axis, -1)
    out = np.zeros(rows.shape[:-1], np.int64)
    for at in np.ndindex(out.shape):
        values, counts = np.unique(rows[at], return_counts=True)
        best = values[np.argmax(counts)]
        out[at] = np.flatnonzero((rows[at] == best) | ((best != best) & (rows[at] != rows[at])))[-1]
    return out


def _build_mode(*args: Node, axis: Any = -1) -> Node:
    check_operands("argmode", args, 1)
    (x,), k = args, axis_of("argmode", axis, args[0].ndim)
    if not x.shape[k]:
        raise GraphError("shape-mismatch", "argmode: an axis of length 0 has no position to give.")
    return x.builder.make("argmode", (x,), {"axis": k}, x.shape[:k] + x.shape[k + 1:], INT64)


register(
    Row("argmode", "nonlinear", 1, ("axis",), _build_mode, _mode_numpy, _no_tangent, _batch_same,
        doc="Position of the last of the most frequent elements along an axis, the smallest such element: attrs axis.")
)


# ---- searching -------------------------------------------------------------------------------------------------------
def _build_search(*args: Any, right: Any = False) -> Node:
    check_arity("searchsorted", args, 2)
    (a, v), _ = lift(args, "searchsorted")
    if not a.ndim or not v.ndim or a.shape[:-1] != v.shape[:-1]:
        raise GraphError("shape-mismatch", f"searchsorted: the values {list(v.shape)} must have the leading axes of "
                                           f"the sorted sequences {list(a.shape)}.")
    return a.builder.make("searchsorted", (a, v), {"right": _flag("searchsorted", "right", right)}, v.shape, INT64)


def _search_numpy(a: Array, v: Array, *, right: bool) -> Array:
    side: Any = "right" if right else "left"
    out = np.zeros(v.shape, np.int64)
    for at in np.ndindex(v.shape[:-1]):
        out[at] = np.searchsorted(a[at], v[at], side)
    return out


def _batch_search(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    """The batch becomes a leading axis."""
    stacked = [permute_dims(x, axes=[x.ndim - 1, *range(x.ndim - 1)])
               for x in (a if b else align(a, size) for a, b in zip(args, batched, strict=True))]
    found = apply("searchsorted", *stacked, **node.attrs)
    return permute_dims(found, axes=[*range(1, found.ndim), 0])


register(
    Row("searchsorted", "nonlinear", 2, ("right",), _build_search, _search_numpy, _no_tangent, _batch_search,
        doc="For each value of the second operand, how many elements of the sorted sequence on the last axis of the "
            "first are smaller, or not larger with attrs right.")
)


# ---- writing ---------------------------------------------------------------------------------------------------------
def _build_writer(*args: Any, size: Any) -> Node:
    check_arity("last_writer", args, 1)
    index = index_of("last_writer", args[0], args[0])
    length = integer("last_writer", "size", size)
    if not index.ndim or length < 0:
        raise GraphError("bad-attribute", "last_writer: the indices need an axis, and a size that is not negative.")
    check_indices("last_writer", index, length)
    return index.builder.make("last_writer", (index,), {"size": length}, (length, *index.shape[1:]), INT64)


def _writer_numpy(index: Array, *, size: int) -> Array:
    check_range("last_writer", index, size)
    out = np.full((size, *index.shape[1:]), -1, np.int64)
    grid: list[Array] = list(np.indices(index.shape, sparse=True))
    out[(index, *grid[1:])] = np.broadcast_to(grid[0], index.shape)
    return out


register(
    Row("last_writer", "nonlinear", 1, ("size",), _build_writer, _writer_numpy, _no_tangent, _batch_same,
        doc="For each position below the size, the last k with index[k] equal to it, along the first axis, or -1 where "
            "there is none: attrs size.")
)

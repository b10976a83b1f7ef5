"""NumPy's functions that rearrange, join, split and repeat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.operands import (
    accumulator,
    array_of,
    builder_of,
    check_room,
    dtype_like,
    full_like,
    ladder,
    no_rule,
    tensor,
    tensors,
)
from hesse_engine.frontends.operands import where as where_
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.shapes import axis_of, broadcast, convert, integer


# ---- shapes ----------------------------------------------------------------------------------------------------------
@numpy_function()
def reshape(a: Any, shape: Any = None, *, newshape: Any = None) -> Node:
    return apply("reshape", tensor(a), shape=newshape if shape is None else shape)


@numpy_function("ravel", "flatten")
def ravel(a: Any) -> Node:
    return apply("reshape", tensor(a), shape=(tensor(a).size,))


@numpy_function("transpose", "permute_dims")
def transpose(a: Any, axes: Any = None) -> Node:
    return apply("permute_dims", tensor(a), axes=axes)


@numpy_function("matrix_transpose", "linalg.matrix_transpose")
def matrix_transpose(x: Any) -> Node:
    return swapaxes(x, -1, -2)


@numpy_function()
def swapaxes(a: Any, axis1: int, axis2: int) -> Node:
    x = tensor(a)
    order = list(range(x.ndim))
    p, q = axis_of("swapaxes", axis1, x.ndim), axis_of("swapaxes", axis2, x.ndim)
    order[p], order[q] = q, p
    return apply("permute_dims", x, axes=order)


@numpy_function()
def moveaxis(a: Any, source: Any, destination: Any) -> Node:
    x = tensor(a)
    many = (list, tuple)
    start = [axis_of("moveaxis", k, x.ndim) for k in (source if isinstance(source, many) else [source])]
    end = [axis_of("moveaxis", k, x.ndim) for k in (destination if isinstance(destination, many) else [destination])]
    if len(start) != len(end) or len(set(start)) != len(start) or len(set(end)) != len(end):
        raise GraphError("bad-attribute", "moveaxis: source and destination must name as many axes, each once.")
    order = [k for k in range(x.ndim) if k not in start]
    for place, axis in sorted(zip(end, start, strict=True)):
        order.insert(place, axis)
    return apply("permute_dims", x, axes=order)


@numpy_function()
def expand_dims(a: Any, axis: Any) -> Node:
    return apply("expand_dims", tensor(a), axis=axis)


@numpy_function()
def squeeze(a: Any, axis: Any = None) -> Node:
    return apply("squeeze", tensor(a), axis=axis)


@numpy_function()
def broadcast_to(array: Any, shape: Any) -> Node:
    return apply("broadcast_to", tensor(array), shape=shape)


@numpy_function()
def broadcast_arrays(*args: Any) -> tuple[Node, ...]:
    builder = builder_of(*args)
    nodes = [tensor(a, builder) for a in args]
    shape = broadcast("broadcast_arrays", [n.shape for n in nodes])
    return tuple([apply("broadcast_to", n, shape=shape) for n in nodes])


def _at_least(rank: int) -> Any:
    def raise_rank(*arys: Any) -> Any:
        builder = builder_of(*arys)
        raised = []
        for a in arys:
            x = tensor(a, builder)
            before = (1,) if rank == 3 and x.ndim == 1 else (1,) * (rank - x.ndim) if x.ndim < min(rank, 2) else ()
            after = (1,) * (rank - x.ndim - len(before))
            raised.append(apply("reshape", x, shape=(*before, *x.shape, *after)))
        return raised[0] if len(raised) == 1 else tuple(raised)

    return raise_rank


for _rank in (1, 2, 3):
    numpy_function(f"atleast_{_rank}d")(_at_least(_rank))
atleast_1d, atleast_2d, atleast_3d = _at_least(1), _at_least(2), _at_least(3)


@numpy_function()
def shape(a: Any) -> tuple[int, ...]:
    return tensor(a).shape


@numpy_function()
def ndim(a: Any) -> int:
    return tensor(a).ndim


@numpy_function()
def size(a: Any, axis: int | None = None) -> int:
    x = tensor(a)
    return x.size if axis is None else x.shape[axis_of("size", axis, x.ndim)]


@numpy_function()
def astype(x: Any, dtype: Any) -> Node:
    return convert(tensor(x), dtype_like(dtype))


# ---- joining and splitting -------------------------------------------------------------------------------------------
@numpy_function("concatenate", "concat")
def concatenate(arrays: Any, axis: int | None = 0, *, dtype: Any = None) -> Node:
    nodes = tensors(*_sequence("concatenate", arrays))
    if axis is None:
        nodes, axis = [ravel(n) for n in nodes], 0
    joined = apply("concat", *nodes, axis=axis)
    return joined if dtype is None else astype(joined, dtype)


def _sequence(name: str, arrays: Any) -> Sequence[Any]:
    """A list of operands; an array stands for the list of its rows."""
    if isinstance(arrays, (list, tuple)):
        return arrays
    return unstack(tensor(arrays)) if isinstance(arrays, Node) else list(array_of(arrays))


@numpy_function()
def stack(arrays: Any, axis: int = 0) -> Node:
    return apply("stack", *tensors(*_sequence("stack", arrays)), axis=axis)


@numpy_function("vstack", "row_stack")
def vstack(tup: Any) -> Node:
    return apply("concat", *[atleast_2d(n) for n in tensors(*_sequence("vstack", tup))], axis=0)


@numpy_function()
def hstack(tup: Any) -> Node:
    nodes = [atleast_1d(n) for n in tensors(*_sequence("hstack", tup))]
    return apply("concat", *nodes, axis=0 if nodes[0].ndim == 1 else 1)


@numpy_function()
def dstack(tup: Any) -> Node:
    return apply("concat", *[atleast_3d(n) for n in tensors(*_sequence("dstack", tup))], axis=2)


@numpy_function()
def column_stack(tup: Any) -> Node:
    nodes = tensors(*_sequence("column_stack", tup))
    return apply("concat", *[apply("reshape", n, shape=(n.size, 1)) if n.ndim < 2 else n for n in nodes], axis=1)


@numpy_function()
def append(arr: Any, values: Any, axis: int | None = None) -> Node:
    builder = builder_of(arr, values)
    return concatenate([tensor(arr, builder), tensor(values, builder)], axis)


@numpy_function()
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Node, ...]:
    node = tensor(x)
    k = axis_of("unstack", axis, node.ndim)
    return tuple([index(node, (*[slice(None)] * k, i)) for i in range(node.shape[k])])


@numpy_function()
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Node]:
    x = tensor(ary)
    k = axis_of("split", axis, x.ndim)
    length = x.shape[k]
    if isinstance(indices_or_sections, (int, np.integer)):
        sections = int(indices_or_sections)
        if not 0 < sections <= x.builder.limits.nodes:
            raise GraphError("bad-attribute", f"split: {sections} sections; allowed are 1 to {x.builder.limits.nodes}.")
        each, extra = divmod(length, sections)
        bounds = np.cumsum([0] + extra * [each + 1] + (sections - extra) * [each]).tolist()
    else:
        bounds = [0, *[int(i) for i in indices_or_sections], length]
    return [index(x, (*[slice(None)] * k, slice(a, b))) for a, b in pairwise(bounds)]


@numpy_function()
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Node]:
    x = tensor(ary)
    length = x.shape[axis_of("split", axis, x.ndim)]
    if isinstance(indices_or_sections, (int, np.integer)) and indices_or_sections > 0 and length % indices_or_sections:
        parts = indices_or_sections
        raise GraphError("shape-mismatch", f"split: {length} elements do not divide into {parts} equal parts.")
    return array_split(x, indices_or_sections, axis)


@numpy_function()
def vsplit(ary: Any, indices_or_sections: Any) -> list[Node]:
    return split(ary, indices_or_sections, 0)


@numpy_function()
def hsplit(ary: Any, indices_or_sections: Any) -> list[Node]:
    return split(ary, indices_or_sections, 0 if tensor(ary).ndim == 1 else 1)


# ---- order -----------------------------------------------------------------------------------------------------------
@numpy_function()
def flip(m: Any, axis: Any = None) -> Node:
    return apply("flip", tensor(m), axis=axis)


@numpy_function()
def fliplr(m: Any) -> Node:
    return apply("flip", tensor(m), axis=1)


@numpy_function()
def flipud(m: Any) -> Node:
    return apply("flip", tensor(m), axis=0)


@numpy_function()
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Node:
    x = tensor(m)
    p, q = (axis_of("rot90", a, x.ndim) for a in axes)
    turns = k % 4
    if turns == 0:
        return x
    if turns == 2:
        return apply("flip", x, axis=(p, q))
    return swapaxes(apply("flip", x, axis=q), p, q) if turns == 1 else apply("flip", swapaxes(x, p, q), axis=q)


@numpy_function()
def roll(a: Any, shift: Any, axis: Any = None) -> Node:
    x = tensor(a)
    if axis is None:
        total = sum(shift) if isinstance(shift, (tuple, list)) else shift
        return apply("reshape", roll(ravel(x), total, 0), shape=x.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    for by, at in zip(shifts, axes * (len(shifts) if len(axes) == 1 else 1), strict=True):
        k = axis_of("roll", at, x.ndim)
        if x.size:
            x = _rolled(x, integer("roll", "shift", by) % x.shape[k], k)
    return x


def _rolled(x: Node, by: int, axis: int) -> Node:
    if by == 0:
        return x
    lead = (slice(None),) * axis
    return apply("concat", index(x, (*lead, slice(-by, None))), index(x, (*lead, slice(None, -by))), axis=axis)


# ---- repetition ------------------------------------------------------------------------------------------------------
@numpy_function()
def tile(a: Any, reps: Any) -> Node:
    x = tensor(a)
    counts = tuple(reps) if isinstance(reps, (tuple, list)) else (reps,)
    rank = max(len(counts), x.ndim)
    counts, lengths = (1,) * (rank - len(counts)) + counts, (1,) * (rank - x.ndim) + x.shape
    wide = apply("reshape", x, shape=[s for length in lengths for s in (1, length)])
    wide = apply("broadcast_to", wide, shape=[s for pair in zip(counts, lengths, strict=True) for s in pair])
    return apply("reshape", wide, shape=[c * length for c, length in zip(counts, lengths, strict=True)])


@numpy_function()
def repeat(a: Any, repeats: Any, axis: int | None = None) -> Node:
    x = tensor(a)
    if axis is None:
        x, axis = ravel(x), 0
    k = axis_of("repeat", axis, x.ndim)
    if isinstance(repeats, (int, np.integer)):
        wide = apply("broadcast_to", apply("expand_dims", x, axis=k + 1),
                     shape=(*x.shape[:k + 1], int(repeats), *x.shape[k + 1:]))
        return apply("reshape", wide, shape=(*x.shape[:k], x.shape[k] * int(repeats), *x.shape[k + 1:]))
    if isinstance(repeats, Node):
        raise no_rule("numpy.repeat with traced counts, whose result has a shape that depends on values,")
    counts = array_of(repeats)
    check_room(x.builder, max(x.shape[k], int(counts.sum()) if counts.size > 1 else x.shape[k] * int(counts.sum())))
    return apply("take", x, x.builder.constant(np.repeat(np.arange(x.shape[k]), counts)), axis=k)


# ---- diagonals and triangles -----------------------------------------------------------------------------------------
@numpy_function()
def diag(v: Any, k: int = 0) -> Node:
    return apply("diag", tensor(v), offset=k)


@numpy_function("diagonal")
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    x = tensor(a)
    p, q = axis_of("diagonal", axis1, x.ndim), axis_of("diagonal", axis2, x.ndim)
    x = moveaxis(x, [p, q], [-2, -1])
    rows, columns = x.shape[-2:]
    count = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    start = offset if offset >= 0 else -offset * columns
    flat = apply("reshape", x, shape=(*x.shape[:-2], rows * columns))
    zeros = (0,) * (flat.ndim - 1)
    return apply("slice", flat, start=(*zeros, start if count else 0), step=(*[1] * len(zeros), columns + 1),
                 count=(*flat.shape[:-1], count))


@numpy_function("linalg.diagonal")
def linalg_diagonal(x: Any, /, *, offset: int = 0) -> Node:
    return diagonal(x, offset, -2, -1)


@numpy_function()
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Node:
    return apply("sum", diagonal(accumulator(tensor(a), dtype), offset, axis1, axis2), axis=-1)


@numpy_function("linalg.trace")
def linalg_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Node:
    return trace(x, offset, -2, -1, dtype)


@numpy_function()
def tril(m: Any, k: int = 0) -> Node:
    x = tensor(m)
    return where_(_below(x, k), x, full_like(x, 0))


@numpy_function()
def triu(m: Any, k: int = 0) -> Node:
    x = tensor(m)
    return where_(_below(x, k - 1), full_like(x, 0), x)


def _below(x: Node, k: int) -> Node:
    """j <= i + k, as a row against a column."""
    if not x.ndim:
        raise GraphError("shape-mismatch", "A triangle is taken of matrices, not of a 0-dimensional value.")
    rows, columns = x.shape[-2:] if x.ndim > 1 else (x.shape[0], x.shape[0])
    column = apply("reshape", ladder(x.builder, rows), shape=(rows, 1))
    return apply("less_equal", ladder(x.builder, columns), column + integer("tril", "k", k))

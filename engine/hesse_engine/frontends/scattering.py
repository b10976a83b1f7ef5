"""Arrays with some elements replaced or combined: put, scatter, segment sums, in NumPy's and torch's spellings.

Everything is said by positions in row-major order. Known positions are one gather from the old and the new elements;
computed ones are found by `last_writer` (replace), `scatter_add` (sum) or by segments (products, extrema).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.memory import Memory
from hesse_engine.frontends.operands import array_of, builder_of, check_room, ladder, no_rule, tensor, where
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import BOOL, INT64, Array, Node, apply, size_of
from hesse_engine.ir.shapes import axis_of, convert, integer

REDUCTIONS = ("sum", "mean", "prod", "amax", "amin")


def flat(x: Node) -> Node:
    return apply("reshape", x, shape=(x.size,))


def grid(shape: Sequence[int]) -> Array:
    return np.arange(size_of(tuple(shape))).reshape(tuple(shape))


def positions(x: Node, key: Any) -> Node:
    """The position in row-major order of each element of x[key]."""
    check_room(x.builder, x.size)
    items = [k.value if isinstance(k, Node) and k.value is not None else k for k in key]
    if any([isinstance(k, Node) for k in items]):
        return index(apply("reshape", ladder(x.builder, x.size), shape=x.shape), tuple(key))
    index(x, tuple(key))  # refuses what is out of range, in our words
    return x.builder.constant(np.asarray(grid(x.shape)[tuple(items)], np.int64))


def put_at(x: Node, at: Node, value: Node) -> Node:
    """x with `value` at the positions `at`, of one shape; of several for one position the last one stays."""
    if not at.size:
        return x
    value = convert(value, x.dtype)
    if at.value is not None:
        memory = Memory(x)
        memory.write(np.where(at.value < 0, at.value + x.size, at.value), value)
        return apply("reshape", memory.whole(), shape=x.shape)
    last = apply("last_writer", flat(at), size=x.size)
    found = apply("take", flat(value), apply("maximum", last, 0), axis=0)
    return apply("reshape", apply("where", apply("greater_equal", last, 0), found, flat(x)), shape=x.shape)


def combined_at(x: Node, at: Node, value: Node, reduction: str, include_self: bool = True) -> Node:
    """x with every one of `value` combined into the position that `at` names for it."""
    if reduction not in REDUCTIONS:
        raise GraphError("bad-attribute", f"A reduction is one of {', '.join(REDUCTIONS)}, not {reduction!r}.")
    if reduction == "mean" and not x.is_floating:
        raise no_rule("A scattered mean of integers")
    if not at.size:
        return x
    old, new, at = flat(x), flat(convert(value, x.dtype)), flat(at)
    if reduction in ("sum", "mean"):
        total = apply("scatter_add", new, at, axis=0, size=x.size)
        if include_self:
            total = old + total
    elif include_self:
        places = apply("concat", ladder(x.builder, x.size), convert(at, INT64), axis=0) if at.value is None else \
            x.builder.constant(np.concatenate([np.arange(x.size), at.value]))
        total = segments(apply("concat", old, new, axis=0), places, x.size, reduction)
    else:
        total = segments(new, at, x.size, reduction)
    if reduction == "mean" or not include_self:
        counts = apply("scatter_add", x.builder.full(at.shape, 1, INT64), at, axis=0, size=x.size)
        if reduction == "mean":
            count = apply("maximum", counts + int(include_self), 1)
            total = total / convert(count, x.dtype)
        if not include_self:
            total = apply("where", apply("greater", counts, 0), total, old)
    return apply("reshape", total, shape=x.shape)


# ---- segments --------------------------------------------------------------------------------------------------------
def _neutral(reduction: str, x: Node) -> Any:
    if reduction == "prod":
        return 1
    if x.is_floating:
        return -np.inf if reduction == "amax" else np.inf
    limits = np.iinfo(x.dtype) if x.dtype != BOOL else np.iinfo(np.int8)
    return int(limits.min if reduction == "amax" else limits.max)


def segments(x: Node, ids: Node, size: int, reduction: str) -> Node:
    """y[s, ...] = the reduction of all x[k, ...] with ids[k] = s, for s < size."""
    ids = apply("where", apply("less", ids, 0), size, ids) if ids.value is None else ids
    if ids.value is not None and (ids.value < 0).any():
        raise GraphError("bad-attribute", "A segment number must not be negative.")
    if reduction in ("sum", "mean"):
        total = apply("scatter_add", x, ids, axis=0, size=size)
        if reduction == "sum":
            return total
        counts = apply("scatter_add", x.builder.full(ids.shape, 1.0, x.dtype), ids, axis=0, size=size)
        return total / apply("reshape", counts, shape=(size, *[1] * (x.ndim - 1)))
    row = {"prod": "prod", "amax": "max", "amin": "min"}[reduction]
    neutral = x.builder.full((1, *x.shape[1:]), _neutral(reduction, x), x.dtype)
    if ids.value is not None:
        table = _table(x, ids.value, size)
        return apply(row, apply("take", apply("concat", x, neutral, axis=0), x.builder.constant(table), axis=0), axis=1)
    # computed segments: every element is looked at for every segment
    checked = apply("take", ladder(x.builder, size), ids, axis=0)
    hits = apply("equal", apply("reshape", checked, shape=(ids.size, 1)),
                 apply("reshape", ladder(x.builder, size), shape=(1, size)))
    wide = (ids.size, size, *x.shape[1:])
    hits = apply("broadcast_to", apply("reshape", hits, shape=(ids.size, size, *[1] * (x.ndim - 1))), shape=wide)
    values = apply("broadcast_to", apply("reshape", x, shape=(ids.size, 1, *x.shape[1:])), shape=wide)
    other = apply("broadcast_to", apply("reshape", neutral, shape=(1, 1, *x.shape[1:])), shape=wide)
    whole = apply("where", hits, values, other)
    if not ids.size:
        return apply("reshape", apply("broadcast_to", neutral, shape=(size, *x.shape[1:])), shape=(size, *x.shape[1:]))
    return apply(row, whole, axis=0)


def _table(x: Node, ids: Array, size: int) -> Array:
    """Row s: the k with ids[k] = s, filled up with len(ids)."""
    if ids.size and int(ids.max()) >= size:
        raise GraphError("bad-attribute", f"Segment {int(ids.max())} does not exist: there are {size}.")
    order = np.argsort(ids, kind="stable")
    counts = np.bincount(ids, minlength=size) if ids.size else np.zeros(size, np.int64)
    width = max(int(counts.max(initial=0)), 1)
    check_room(x.builder, size * width)
    table = np.full((size, width), ids.size, np.int64)
    sorted_ids = ids[order]
    table[sorted_ids, np.arange(ids.size) - (np.cumsum(counts) - counts)[sorted_ids]] = order
    return table


def _segment(reduction: str) -> Any:
    def reduce(data: Any, segment_ids: Any, num_segments: Any = None, indices_are_sorted: bool = False) -> Node:
        builder = builder_of(data, segment_ids)
        x, ids = tensor(data, builder), tensor(segment_ids, builder)
        if ids.ndim != 1 or not x.ndim or x.shape[0] != ids.size:
            raise GraphError("shape-mismatch", f"The segment numbers {list(ids.shape)} must be one for each row of "
                                               f"{list(x.shape)}.")
        if num_segments is None:
            if ids.value is None:
                raise GraphError("bad-attribute", "num_segments must be given where the segment numbers are computed.")
            num_segments = int(ids.value.max(initial=-1)) + 1
        return segments(x, ids, integer("segment", "num_segments", num_segments), reduction)

    return reduce


for _name, _reduction in (("sum", "sum"), ("mean", "mean"), ("prod", "prod"), ("max", "amax"), ("min", "amin")):
    numpy_function(f"segment_{_name}")(_segment(_reduction))


# ---- numpy: functions that change their first argument; here they give its new value ---------------------------------
def cycled(values: Node, count: int) -> Node:
    """The elements of `values`, from the start again where they are too few."""
    if not values.size:
        raise GraphError("shape-mismatch", "Values that are put must not be empty.")
    line = flat(values)
    return line if line.size == count else apply("take", line, line.builder.constant(np.arange(count) % line.size),
                                                 axis=0)


def in_mode(places: Node, length: int, mode: str) -> Node:
    """Indices made valid as `mode` says: raise, wrap or clip."""
    if mode == "raise":
        return places
    if mode not in ("wrap", "clip"):
        raise GraphError("bad-attribute", f"mode must be raise, wrap or clip, not {mode!r}.")
    if places.value is not None:
        known = places.value.astype(np.int64)
        return places.builder.constant(known % length if mode == "wrap" else np.clip(known, 0, length - 1))
    if mode == "clip":
        return apply("minimum", apply("maximum", places, 0), length - 1)
    places = convert(places, INT64)
    whole = convert(convert(places, np.dtype(np.float64)) / float(length), INT64)
    rest = places - whole * length
    return apply("where", apply("less", rest, 0), rest + length, rest)


@numpy_function("put", "ndarray.put")
def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> Node:
    builder = builder_of(a, ind, v)
    x, at = tensor(a, builder), flat(convert_index(tensor(ind, builder)))
    at = in_mode(at, x.size, mode)
    return put_at(x, positions(flat(x), (at,)), cycled(tensor(v, builder), at.size)) if at.size else x


def convert_index(at: Node) -> Node:
    """Indices of an empty list are floats to NumPy."""
    return convert(at, INT64) if not at.size else at


def along(x: Node, indices: Node, axis: int) -> Node:
    """The positions that indices name along an axis, in the other axes where they stand themselves."""
    shape = indices.shape
    key = [indices if k == axis else np.arange(shape[k]).reshape([-1 if j == k else 1 for j in range(x.ndim)])
           for k in range(x.ndim)]
    return positions(x, key)


@numpy_function()
def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> Node:
    builder = builder_of(arr, indices, values)
    x, at = tensor(arr, builder), tensor(indices, builder)
    line = flat(x) if axis is None else x
    k = 0 if axis is None else axis_of("put_along_axis", axis, x.ndim)
    shape = tuple([n if j == k else m for j, (n, m) in enumerate(zip(at.shape, line.shape, strict=True))])
    at = apply("broadcast_to", at, shape=shape)
    at = along(line, at if at.value is None else at.builder.constant(at.value), k)
    value = apply("broadcast_to", tensor(values, builder), shape=shape)
    return apply("reshape", put_at(line, at, value), shape=x.shape)


@numpy_function()
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> Node:
    builder = builder_of(a, val)
    x = tensor(a, builder)
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) > 1):
        raise GraphError("shape-mismatch", f"fill_diagonal: an array of shape {list(x.shape)} has no diagonal to fill.")
    step = x.shape[1] + 1 if x.ndim == 2 else 1 + sum([size_of(x.shape[k:]) for k in range(1, x.ndim)])
    end = x.size if wrap or x.ndim > 2 else x.shape[1] * x.shape[1]
    places = np.arange(x.size)[:end:step]
    return put_at(x, builder.constant(places), cycled(tensor(val, builder), len(places)))


@numpy_function()
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> Node:
    builder = builder_of(dst, src, where)
    x = tensor(dst, builder)
    source = apply("broadcast_to", convert(tensor(src, builder), x.dtype), shape=x.shape)
    return source if where is True else _chosen(where, source, x)


def _chosen(mask: Any, a: Node, b: Node) -> Node:
    return where(apply("broadcast_to", tensor(mask, b.builder), shape=b.shape), a, b)


@numpy_function()
def putmask(a: Any, mask: Any, values: Any) -> Node:
    """a[k] = values[k % len(values)] where mask[k]."""
    builder = builder_of(a, mask, values)
    x = tensor(a, builder)
    source = apply("reshape", cycled(tensor(values, builder), x.size), shape=x.shape) if x.size else x
    return _chosen(mask, convert(source, x.dtype), x)


@numpy_function()
def place(arr: Any, mask: Any, vals: Any) -> Node:
    """The first vals go to the first places where mask holds, and so on."""
    builder = builder_of(arr, mask, vals)
    x, flags = tensor(arr, builder), apply("not_equal", tensor(mask, builder), 0)
    values = flat(tensor(vals, builder))
    order = apply("cumulative_sum", convert(flat(flags), INT64), axis=0) - 1
    chosen = apply("take", values, in_mode(apply("maximum", order, 0), values.size, "wrap"), axis=0)
    return _chosen(flags, convert(apply("reshape", chosen, shape=x.shape), x.dtype), x)


@numpy_function("ndarray.fill")
def fill(a: Any, value: Any) -> Node:
    builder = builder_of(a, value)
    x = tensor(a, builder)
    return apply("broadcast_to", convert(tensor(value, builder), x.dtype), shape=x.shape)


# ---- numpy: new arrays -----------------------------------------------------------------------------------------------
@numpy_function()
def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Node:
    builder = builder_of(arr, obj, values)
    x, value = tensor(arr, builder), tensor(values, builder)
    if isinstance(obj, Node) and obj.value is None:
        raise no_rule("numpy.insert at a computed place")
    at: Any = obj.value if isinstance(obj, Node) else obj
    line, k = (flat(x), 0) if axis is None else (x, axis_of("insert", axis, x.ndim))
    length = line.shape[k]
    # NumPy itself says where the elements go: old ones are numbered from 0, new ones from -1 down
    count = len(np.insert(np.zeros(length), at, 0)) - length
    order = np.insert(np.arange(length), at, -1 - np.arange(count) if np.ndim(at) or isinstance(at, slice) else -1)
    if np.ndim(at) == 0 and not isinstance(at, slice):
        value = _moved(value, line, k)
        count = value.shape[k] if value.ndim else 1
        spot = int(array_of(at)) % (length + 1) if int(array_of(at)) >= 0 else int(array_of(at)) + length
        order = np.concatenate([np.arange(spot), -1 - np.arange(count), np.arange(spot, length)])
    shape = [count if j == k else s for j, s in enumerate(line.shape)]
    new = apply("broadcast_to", convert(value, line.dtype), shape=shape)
    table = np.where(order < 0, length - 1 - order, order)
    return apply("take", apply("concat", line, new, axis=k), builder.constant(table), axis=k)


def _moved(value: Node, line: Node, axis: int) -> Node:
    """The values inserted at one place: their first axis is the one that is inserted along, as in NumPy."""
    value = apply("reshape", value, shape=(*[1] * max(line.ndim - value.ndim, 0), *value.shape))
    order = list(range(value.ndim))
    order.insert(axis, order.pop(0))
    return apply("permute_dims", value, axes=order)


@numpy_function()
def choose(a: Any, choices: Any, mode: str = "raise") -> Node:
    builder = builder_of(a, choices)
    options = [tensor(c, builder) for c in (choices if isinstance(choices, (list, tuple)) else [
        index(tensor(choices, builder), k) for k in range(tensor(choices, builder).shape[0])])]
    at = tensor(a, builder)
    shape = np.broadcast_shapes(at.shape, *[o.shape for o in options])
    stacked = apply("stack", *[apply("broadcast_to", o, shape=shape) for o in options], axis=0)
    at = in_mode(apply("broadcast_to", at, shape=shape), len(options), mode)
    rest = [np.arange(s).reshape([-1 if j == k else 1 for j in range(len(shape))]) for k, s in enumerate(shape)]
    return index(stacked, (at, *rest))

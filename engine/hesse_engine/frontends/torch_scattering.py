"""torch's functions that scatter: new arrays with some elements replaced or combined, with torch's signatures."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.operands import array_of, builder_of, tensor
from hesse_engine.frontends.scattering import along, combined_at, flat, grid, positions, put_at, segments
from hesse_engine.frontends.table import torch_function
from hesse_engine.ir.graph import INT64, Node, apply
from hesse_engine.ir.shapes import axis_of, convert

_NAMES = {"add": "sum", "multiply": "prod"}


def _source(src: Any, at: Node, builder: Any) -> Node:
    """The part of the source that the indices have; a number for all."""
    x = tensor(src, builder)
    if not x.ndim:
        return apply("broadcast_to", x, shape=at.shape)
    return apply("slice", x, start=(0,) * x.ndim, count=at.shape)


# ---- along a dimension, at indices of the shape of the source --------------------------------------------------------
def _scattered(input: Any, dim: int, index: Any, src: Any, reduction: str | None, include_self: bool = True) -> Node:
    builder = builder_of(input, index, src)
    x, at = tensor(input, builder), tensor(index, builder)
    if not at.size:
        return x
    places = along(x, at, axis_of("scatter", dim, x.ndim))
    value = convert(_source(src, at, builder), x.dtype)
    return put_at(x, places, value) if reduction is None else combined_at(x, places, value, reduction, include_self)


@torch_function()
def scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Node:
    return _scattered(input, dim, index, value if src is None else src, _NAMES.get(reduce, reduce) if reduce else None)


@torch_function()
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Node:
    return _scattered(input, dim, index, src, "sum")


# the keyword `reduce` is dropped by the table where it is None, which says nothing
@torch_function()
def scatter_reduce(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Node:
    return _scattered(input, dim, index, src, reduce, include_self)


# ---- slices along a dimension ----------------------------------------------------------------------------------------
def _slices(input: Any, dim: int, index: Any, source: Any) -> tuple[Node, Node, Node]:
    """(x, positions of its slices `index`, the source as an array of their shape)."""
    builder = builder_of(input, index, source)
    x, at = tensor(input, builder), tensor(index, builder)
    at = apply("reshape", at, shape=(at.size,))
    places = positions(x, (*[slice(None)] * axis_of("index_add", dim, x.ndim), at))
    value = tensor(source, builder)
    if value.ndim and value.shape != places.shape:
        raise GraphError("shape-mismatch", f"The source {list(value.shape)} must have the shape of the indexed slices "
                                           f"{list(places.shape)}.")
    return x, places, apply("broadcast_to", convert(value, x.dtype), shape=places.shape)


@torch_function()
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Node:
    x, places, value = _slices(input, dim, index, source)
    return combined_at(x, places, value if alpha == 1 else convert(value * alpha, x.dtype), "sum")


@torch_function()
def index_copy(input: Any, dim: int, index: Any, source: Any) -> Node:
    return put_at(*_slices(input, dim, index, source))


@torch_function()
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Node:
    return put_at(*_slices(input, dim, index, value))


@torch_function()
def index_reduce(input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Node:
    x, places, value = _slices(input, dim, index, source)
    return combined_at(x, places, value, reduce, include_self)


@torch_function()
def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Node:
    builder = builder_of(input, indices, values)
    x = tensor(input, builder)
    key = [slice(None) if i is None else i if isinstance(i, (Node, slice)) else array_of(i) for i in indices]
    places = positions(x, key)
    value = apply("broadcast_to", convert(tensor(values, builder), x.dtype), shape=places.shape)
    return combined_at(x, places, value, "sum") if accumulate else put_at(x, places, value)


@torch_function()
def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Node:
    builder = builder_of(input, index, source)
    x, at = tensor(input, builder), tensor(index, builder)
    places = positions(flat(x), (flat(at),))
    value = convert(flat(tensor(source, builder)), x.dtype)
    return combined_at(x, places, value, "sum") if accumulate else put_at(x, places, value)


# ---- views written to ------------------------------------------------------------------------------------------------
def _written(input: Any, src: Any, places: Any) -> Node:
    builder = builder_of(input, src)
    x, value = tensor(input, builder), tensor(src, builder)
    found = np.asarray(places(grid(x.shape), x.ndim))
    if value.shape != found.shape:
        raise GraphError("shape-mismatch", f"expected src to have a size equal to the slice of self. src size = "
                                           f"{list(value.shape)}, slice size = {list(found.shape)}")
    return put_at(x, builder.constant(found), convert(value, x.dtype))


@torch_function()
def select_scatter(input: Any, src: Any, dim: int, index: int) -> Node:
    return _written(input, src, lambda g, n: g[(*[slice(None)] * axis_of("select_scatter", dim, n), index)])


@torch_function()
def slice_scatter(input: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Node:
    return _written(input, src, lambda g, n: g[(*[slice(None)] * axis_of("slice_scatter", dim, n),
                                                slice(start, end, step))])


@torch_function()
def diagonal_scatter(input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Node:
    return _written(input, src, lambda g, n: np.diagonal(g, offset, dim1, dim2))


# ---- segments --------------------------------------------------------------------------------------------------------
@torch_function()
def segment_reduce(data: Any, reduce: str, *, lengths: Any = None, indices: Any = None, offsets: Any = None,
                   axis: int = 0, unsafe: bool = False, initial: Any = None) -> Node:
    """Reductions of consecutive rows, `lengths` of them each, or from one offset to the next."""
    x = tensor(data)
    names = {"sum": "sum", "mean": "mean", "max": "amax", "min": "amin", "prod": "prod"}
    if reduce not in names or axis != 0 or (lengths is None) == (offsets is None):
        raise GraphError("bad-attribute", "segment_reduce takes sum, mean, max, min or prod over axis 0, and either "
                                          "lengths or offsets.")
    given = lengths if offsets is None else offsets
    known = given.value if isinstance(given, Node) else array_of(given)
    if known is None or known.ndim != 1:
        raise GraphError("bad-attribute", "segment_reduce: lengths and offsets must be constant vectors.")
    counts = known if offsets is None else np.diff(known)
    if int(counts.sum()) != x.shape[0]:
        raise GraphError("bad-attribute", "segment_reduce: the lengths must add up to the length of the data.")
    ids = x.builder.constant(np.repeat(np.arange(len(counts)), counts).astype(np.int64))
    found = segments(x, ids, len(counts), names[reduce])
    if initial is None:
        return found
    pair = {"sum": "add", "max": "maximum", "min": "minimum", "prod": "multiply"}
    if reduce not in pair:
        raise GraphError("bad-attribute", "segment_reduce: mean takes no initial value.")
    return apply(pair[reduce], found, initial)


# ---- in place only ---------------------------------------------------------------------------------------------------
@torch_function("in_place.zero")
def zero(input: Any) -> Node:
    x = tensor(input)
    return x.builder.full(x.shape, 0, x.dtype)


@torch_function("in_place.fill", "in_place.copy", "fill")
def copied(input: Any, src: Any, non_blocking: bool = False) -> Node:
    x = tensor(input, builder_of(input, src))
    return apply("broadcast_to", convert(tensor(src, x.builder), x.dtype), shape=x.shape)


@torch_function("in_place.fill_diagonal")
def fill_diagonal(input: Any, fill_value: Any, wrap: bool = False) -> Node:
    x = tensor(input)
    columns = x.shape[1]
    places = np.arange(x.size)[:x.size if wrap else columns * columns:columns + 1]
    value = x.builder.full((len(places),), fill_value, x.dtype)
    return put_at(x, x.builder.constant(places.astype(INT64)), value)

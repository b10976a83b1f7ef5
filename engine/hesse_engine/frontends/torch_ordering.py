"""torch's functions of order, with torch's signatures: values and indices together, medians the lower of two."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from hesse_engine.errors import FunctionError, GraphError
from hesse_engine.frontends import ordering
from hesse_engine.frontends.indexing import gather
from hesse_engine.frontends.operands import builder_of, no_rule, tensor
from hesse_engine.frontends.table import torch_function
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.shapes import axis_of, convert, integer

Pair = namedtuple("Pair", ["values", "indices"])


def _lined(input: Any, dim: int, op: str) -> tuple[Node, int, bool]:
    """(x, dim, whether x had no dimensions and got one)."""
    x = tensor(input)
    if not x.ndim:
        axis_of(op, dim, 1)
        return apply("reshape", x, shape=(1,)), 0, True
    return x, axis_of(op, dim, x.ndim), False


def _pair(x: Node, places: Node, k: int, is_scalar: bool = False, keepdim: bool = True) -> Pair:
    """Elements of x at `places`, which stand along axis k."""
    found = [gather(x, places, k), places]
    if is_scalar:
        return Pair(*[apply("reshape", y, shape=()) for y in found])
    return Pair(*(found if keepdim else [apply("squeeze", y, axis=k) for y in found]))


# ---- sorting ---------------------------------------------------------------------------------------------------------
@torch_function()
def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Pair:
    x, k, is_scalar = _lined(input, dim, "sort")
    return _pair(x, ordering.order_of(x, k, bool(descending)), k, is_scalar)


@torch_function()
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Node:
    places: Node = sort(input, dim, descending).indices
    return places


@torch_function()
def msort(input: Any) -> Node:
    values: Node = sort(input, 0).values
    return values


@torch_function()
def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Pair:
    x, axis, is_scalar = _lined(input, dim, "topk")
    count = integer("topk", "k", k)
    if not 0 <= count <= x.shape[axis]:
        raise FunctionError("not-single", "selected index k out of range")
    places = ordering.part(ordering.order_of(x, axis, bool(largest)), axis, 0, count)
    return _pair(x, places, axis, is_scalar and count == 1)


@torch_function()
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> Pair:
    x, axis, is_scalar = _lined(input, dim, "kthvalue")
    count = integer("kthvalue", "k", k)
    if not 1 <= count <= x.shape[axis]:
        raise FunctionError("not-single", f"kthvalue(): selected number k out of range for dimension {axis}")
    return _pair(x, ordering.part(ordering.order_of(x, axis), axis, count - 1, 1), axis, is_scalar, keepdim)


@torch_function()
def mode(input: Any, dim: int = -1, keepdim: bool = False) -> Pair:
    x, axis, is_scalar = _lined(input, dim, "mode")
    places = apply("expand_dims", apply("argmode", x, axis=axis), axis=axis)
    return _pair(x, places, axis, is_scalar, keepdim)


def _middle(x: Node, axis: int, skip_nan: bool) -> Node:
    """The position of the lower median along an axis, kept; of the first NaN where there is one and it counts."""
    order = ordering.order_of(x, axis)
    length = x.shape[axis]
    if not length:
        raise FunctionError("empty-result", "median() operation does not have an identity for empty input.")
    if not x.is_floating:
        return ordering.part(order, axis, (length - 1) // 2, 1)
    absent = apply("sum", apply("not_equal", x, x), axis=axis, keepdims=True)
    last = apply("subtract", length - 1, absent)
    half = convert(convert(apply("maximum", last, 0), np.dtype(np.float64)) / 2.0, np.dtype(np.int64))
    if not skip_nan:
        half = apply("where", apply("greater", absent, 0), apply("minimum", last + 1, length - 1),
                     x.builder.full(half.shape, (length - 1) // 2, half.dtype))
    return gather(order, half, axis)


def _median(skip_nan: bool) -> Any:
    def reduce(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            line = apply("reshape", tensor(input), shape=(tensor(input).size,))
            return apply("reshape", gather(line, _middle(line, 0, skip_nan), 0), shape=())
        x, axis, is_scalar = _lined(input, dim, "median")
        return _pair(x, _middle(x, axis, skip_nan), axis, is_scalar, keepdim)

    return reduce


torch_function("median")(_median(False))
torch_function("nanmedian")(_median(True))


def _quantile(numpy: Any) -> Any:
    def reduce(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *,
               interpolation: str = "linear") -> Node:
        x = tensor(input, builder_of(input, q))
        found: Node = numpy(x, q, dim, method=interpolation, keepdims=keepdim)
        return convert(found, x.dtype)

    return reduce


torch_function("quantile")(_quantile(ordering.quantile))
torch_function("nanquantile")(_quantile(ordering.nanquantile))


# ---- running extrema -------------------------------------------------------------------------------------------------
def _running(smallest: bool) -> Any:
    def accumulate(input: Any, dim: int) -> Pair:
        x, k, is_scalar = _lined(input, dim, "cummax")
        return _pair(x, apply("cumulative_argmax", x, axis=k, smallest=smallest), k, is_scalar)

    return accumulate


torch_function("cummax")(_running(False))
torch_function("cummin")(_running(True))


# ---- searching, counting ---------------------------------------------------------------------------------------------
@torch_function()
def searchsorted(sorted_sequence: Any, input: Any, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Any = None) -> Node:
    builder = builder_of(sorted_sequence, input, sorter)
    a, v = tensor(sorted_sequence, builder), tensor(input, builder)
    if side is not None and side not in ("left", "right"):
        raise GraphError("bad-attribute", f"searchsorted: side must be left or right, not {side!r}.")
    if sorter is not None:
        a = gather(a, tensor(sorter, builder), a.ndim - 1)
    is_right = bool(right) or side == "right"
    found = ordering.search(a, v, is_right) if a.ndim == 1 else apply("searchsorted", a, v, right=is_right)
    return convert(found, np.dtype(np.int32)) if out_int32 else found


@torch_function()
def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Node:
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


@torch_function()
def histc(input: Any, bins: int = 100, min: Any = 0, max: Any = 0) -> Node:
    x = tensor(input)
    span = None if min == max == 0 else (float(min), float(max))
    counts, _ = ordering.histogram(apply("stop_gradient", x), bins, span)
    return convert(counts, x.dtype)


@torch_function()
def histogram(input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False) -> Any:
    raise no_rule("torch.histogram (torch.histc has one)")


@torch_function()
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Node:
    builder = builder_of(elements, test_elements)
    a, b = tensor(elements, builder), tensor(test_elements, builder)
    pairs = apply("equal", apply("reshape", a, shape=(*a.shape, 1)), apply("reshape", b, shape=(b.size,)))
    found = apply("greater", apply("sum", pairs, axis=-1), 0)
    return apply("logical_not", found) if invert else found


@torch_function()
def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Node:
    return ordering.nanmean(input, tuple(dim) if isinstance(dim, list) else dim, dtype, keepdims=keepdim)

"""NumPy's functions of order: sorting, searching, medians and quantiles, and reductions that leave NaN out.

A sorted array is x read at `argsort(x)`, so order statistics have the derivatives of the elements that they select.
NaN counts as the largest number; a statistic of NaN is NaN, unless the function's name begins with nan.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends import reductions
from hesse_engine.frontends.indexing import gather, index
from hesse_engine.frontends.operands import array_of, builder_of, elementwise, floating, no_rule, root, tensor, where
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import INT64, Node, apply, size_of
from hesse_engine.ir.shapes import axes_of, axis_of, convert, integer

Axis = Any


def _line(a: Any, axis: Axis, op: str) -> tuple[Node, int]:
    """(x, axis), flattened for no axis."""
    x = tensor(a)
    if axis is None or not x.ndim:
        return apply("reshape", x, shape=(x.size,)), 0
    return x, axis_of(op, axis, x.ndim)


def order_of(x: Node, axis: int, descending: bool = False) -> Node:
    return apply("argsort", x, axis=axis, descending=descending)


def part(x: Node, axis: int, start: int, count: int) -> Node:
    return apply("slice", x, start=[start * (k == axis) for k in range(x.ndim)],
                 count=[count if k == axis else s for k, s in enumerate(x.shape)])


# ---- sorting ---------------------------------------------------------------------------------------------------------
@numpy_function()
def sort(a: Any, axis: Axis = -1, kind: Any = None, order: Any = None, *, stable: Any = None,
         descending: bool = False) -> Node:
    x, k = _line(a, axis, "sort")
    return gather(x, order_of(x, k, descending), k)


@numpy_function("ndarray.sort")
def sort_in_place(a: Any, axis: Axis = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Node:
    return apply("reshape", sort(a, axis), shape=tensor(a).shape)


@numpy_function()
def argsort(a: Any, axis: Axis = -1, kind: Any = None, order: Any = None, *, stable: Any = None,
            descending: bool = False) -> Node:
    return order_of(*_line(a, axis, "argsort"), descending)


@numpy_function()
def lexsort(keys: Any, axis: int = -1) -> Node:
    """The order by the last key, equal elements by the one before it, and so on."""
    builder = builder_of(keys)
    rows = [tensor(k, builder) for k in keys] if isinstance(keys, (list, tuple)) else \
        [index(keys, k) for k in range(tensor(keys).shape[0])]
    k = axis_of("lexsort", axis, rows[0].ndim)
    order = order_of(rows[0], k)
    for row in rows[1:]:
        order = gather(order, order_of(gather(row, order, k), k), k)
    return order


def _check_kth(kth: Any, length: int) -> None:
    for value in np.atleast_1d(array_of(kth)).tolist():
        if not -length <= value < length:
            raise GraphError("bad-attribute", f"partition: kth {value} is out of bounds for {length} elements.")


@numpy_function()
def partition(a: Any, kth: Any, axis: Axis = -1, kind: Any = "introselect", order: Any = None) -> Node:
    """A partition by every kth at once: the sorted array."""
    x, k = _line(a, axis, "partition")
    _check_kth(kth, x.shape[k])
    return sort(x, k)


@numpy_function("ndarray.partition")
def partition_in_place(a: Any, kth: Any, axis: Axis = -1, kind: Any = "introselect", order: Any = None) -> Node:
    return partition(a, kth, axis)


@numpy_function()
def argpartition(a: Any, kth: Any, axis: Axis = -1, kind: Any = "introselect", order: Any = None) -> Node:
    x, k = _line(a, axis, "argpartition")
    _check_kth(kth, x.shape[k])
    return order_of(x, k)


# ---- searching -------------------------------------------------------------------------------------------------------
def search(a: Node, v: Node, right: bool) -> Node:
    """Positions of v, of any shape, in a sorted vector."""
    found = apply("searchsorted", a, apply("reshape", v, shape=(v.size,)), right=right)
    return apply("reshape", found, shape=v.shape)


@numpy_function()
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Node:
    builder = builder_of(a, v, sorter)
    x = tensor(a, builder)
    if side not in ("left", "right"):
        raise GraphError("bad-attribute", f"searchsorted: side must be left or right, not {side!r}.")
    if x.ndim != 1:
        raise GraphError("shape-mismatch", f"searchsorted: a has {x.ndim} dimensions; it must be a vector.")
    if sorter is not None:
        x = apply("take", x, tensor(sorter, builder), axis=0)
    return search(x, tensor(v, builder), side == "right")


@numpy_function()
def digitize(x: Any, bins: Any, right: bool = False) -> Node:
    """The bin of each element: edges that decrease are known by their first and last element, where those are."""
    builder = builder_of(x, bins)
    edges, values = tensor(bins, builder), tensor(x, builder)
    known = edges.value
    if known is not None and known.size > 1 and known[0] > known[-1]:
        return apply("subtract", edges.size, search(apply("flip", edges), values, not right))
    return search(edges, values, not right)


@numpy_function()
def histogram(a: Any, bins: Any = 10, range: Any = None, density: bool | None = None, weights: Any = None) -> Any:
    """(counts, edges): the last bin is closed, what lies outside is left out."""
    builder = builder_of(a, bins, range, weights)
    x = apply("reshape", tensor(a, builder), shape=(tensor(a, builder).size,))
    edges = _edges(x, bins, range)
    count = edges.size - 1
    place = apply("minimum", search(edges, x, True) - 1, count - 1)
    first, last = (apply("reshape", part(edges, 0, k, 1), shape=()) for k in (0, count))
    inside = apply("logical_and", apply("greater_equal", x, _spread(first, x)),
                   apply("less_equal", x, _spread(last, x)))
    mass = builder.full(x.shape, 1, INT64) if weights is None else \
        apply("reshape", tensor(weights, builder), shape=(x.size,))
    mass = apply("where", inside, mass, 0)
    counts = apply("scatter_add", mass, apply("where", inside, place, 0), axis=0, size=count)
    if density:
        widths = part(edges, 0, 1, count) - part(edges, 0, 0, count)
        counts = counts / widths / apply("sum", counts)
    return counts, edges


def _spread(x: Node, like: Node) -> Node:
    return apply("broadcast_to", x, shape=like.shape)


def _edges(x: Node, bins: Any, span: Any) -> Node:
    if isinstance(bins, str):
        raise no_rule(f"numpy.histogram with bins={bins!r}")
    if not isinstance(bins, (int, np.integer)):
        return tensor(bins, x.builder)
    if span is not None:
        return x.builder.constant(np.histogram_bin_edges(np.zeros(0), int(bins), tuple(span)))
    low, high = floating(apply("min", x)), floating(apply("max", x))
    flat = elementwise("equal", low, high)
    low, high = where(flat, low - 0.5, low), where(flat, high + 0.5, high)
    weights = x.builder.constant(np.linspace(0.0, 1.0, int(bins) + 1))
    return elementwise("add", elementwise("multiply", low, 1.0 - array_of(weights.value)),
                       elementwise("multiply", high, weights))


# ---- order statistics ------------------------------------------------------------------------------------------------
def joined(x: Node, axis: Axis, op: str) -> tuple[Node, tuple[int, ...]]:
    """x with the reduced axes joined into the last one, and these axes."""
    axes = axes_of(op, axis, x.ndim)
    rest = [k for k in range(x.ndim) if k not in axes]
    shape = [x.shape[k] for k in rest]
    count = size_of(tuple([x.shape[k] for k in axes]))
    return apply("reshape", apply("permute_dims", x, axes=[*rest, *axes]), shape=(*shape, count)), axes


def kept_axes(y: Node, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool, lead: int = 0) -> Node:
    """y with the reduced axes back, of length 1, after `lead` axes of its own."""
    if not keepdims:
        return y
    return apply("reshape", y, shape=(*y.shape[:lead], *[1 if k in axes else s for k, s in enumerate(shape)]))


def ranked_at(x: Node, ranks: np.ndarray[Any, Any]) -> Node:
    """Elements on the last axis of x between the sorted ones: at rank 1.25, 0.75 of number 1 and 0.25 of number 2."""
    if not x.shape[-1]:
        raise GraphError("shape-mismatch", "An order statistic of no elements is not defined.")
    ordered = gather(x, order_of(x, x.ndim - 1), x.ndim - 1)
    low = np.floor(ranks).astype(np.int64)
    share = ranks - low
    high = np.minimum(low + (share > 0), x.shape[-1] - 1)
    make = x.builder.constant
    below = apply("take", ordered, make(low), axis=x.ndim - 1)
    if not share.any():
        return below
    above = apply("take", ordered, make(high), axis=x.ndim - 1)
    share = np.broadcast_to(share, below.shape)
    mixed = below + (above - below) * make(share, x.dtype)
    return apply("where", make(share == 0), below, mixed)


def has_nan(x: Node) -> Node:
    """Whether there is a NaN on the last axis, which is kept."""
    return apply("greater", apply("sum", apply("not_equal", x, x), axis=-1, keepdims=True), 0)


def _nan_where(bad: Node, y: Node) -> Node:
    return where(apply("broadcast_to", bad, shape=y.shape), math.nan, y)


@numpy_function()
def quantile(a: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False,
             weights: Any = None, interpolation: Any = None) -> Node:
    builder = builder_of(a, q)
    if weights is not None:
        raise no_rule("numpy.quantile with weights")
    if isinstance(q, Node) and q.value is None:
        raise no_rule("numpy.quantile at a computed q")
    x = floating(tensor(a, builder))
    points = np.asarray(array_of(q.value if isinstance(q, Node) else q), np.float64)
    if ((points < 0) | (points > 1)).any():
        raise GraphError("bad-attribute", "Quantiles must be in the range [0, 1].")
    rows, axes = joined(x, axis, "quantile")
    # NumPy itself says between which sorted elements a quantile lies: it is asked for that of 0, 1, 2, ...
    wanted: Any = interpolation or method
    ranks = np.asarray(np.quantile(np.arange(float(max(rows.shape[-1], 1))), points.reshape(-1), method=wanted))
    found = _nan_where(has_nan(rows), ranked_at(rows, ranks))
    front = apply("permute_dims", found, axes=[found.ndim - 1, *range(found.ndim - 1)])
    front = apply("reshape", front, shape=(*points.shape, *front.shape[1:]))
    return kept_axes(front, x.shape, axes, keepdims, points.ndim)


@numpy_function()
def percentile(a: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False,
               weights: Any = None) -> Node:
    return quantile(a, _hundredths(q), axis, method=method, keepdims=keepdims, weights=weights)


def _hundredths(q: Any) -> Any:
    if isinstance(q, Node) and q.value is None:
        raise no_rule("numpy.percentile at a computed q")
    return np.true_divide(array_of(q.value if isinstance(q, Node) else q), 100.0)


@numpy_function()
def median(a: Any, axis: Axis = None, *, keepdims: bool = False, overwrite_input: bool = False) -> Node:
    """The mean of the two middle elements, or the middle one."""
    return quantile(a, 0.5, axis, keepdims=keepdims)


def nan_ranked(rows: Node, q: np.ndarray[Any, Any], method: str) -> Node:
    """Quantiles of the elements on the last axis that are not NaN, stacked on the last axis."""
    count = apply("sum", apply("equal", rows, rows), axis=-1, keepdims=True)
    last = apply("maximum", count - 1, 0)
    places = apply("broadcast_to", convert(last, np.dtype(np.float64)), shape=(*last.shape[:-1], q.size)) \
        * np.broadcast_to(q, (*last.shape[:-1], q.size))
    low = convert(places, INT64)
    share = places - convert(low, places.dtype)
    if method == "lower":
        share = share * 0.0
    elif method != "linear":
        share = _share(share, low, method)
    high = apply("minimum", low + 1, apply("broadcast_to", last, shape=low.shape))
    ordered = gather(rows, order_of(rows, rows.ndim - 1), rows.ndim - 1)
    below, above = (gather(ordered, k, rows.ndim - 1) for k in (low, high))
    weight = convert(share, rows.dtype)
    mixed = apply("where", apply("equal", weight, 0.0), below, below + (above - below) * weight)
    return _nan_where(apply("equal", count, 0), mixed)


def _share(share: Node, low: Node, method: str) -> Node:
    if method == "higher":
        return where(elementwise("greater", share, 0.0), 1.0, share)
    if method == "midpoint":
        return where(elementwise("greater", share, 0.0), 0.5, share)
    if method == "nearest":  # ties go to the even element
        is_odd = elementwise("equal", low - apply("multiply", _half(low), 2), 1)
        up = elementwise("logical_or", elementwise("greater", share, 0.5),
                         elementwise("logical_and", elementwise("equal", share, 0.5), is_odd))
        return where(up, 1.0, share * 0.0)
    raise no_rule(f"a quantile without NaN by the method {method!r}")


def _half(k: Node) -> Node:
    return convert(convert(k, np.dtype(np.float64)) / 2.0, INT64)


@numpy_function()
def nanquantile(a: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False,
                weights: Any = None) -> Node:
    if weights is not None or (isinstance(q, Node) and q.value is None):
        raise no_rule("numpy.nanquantile with weights, or at a computed q,")
    x = floating(tensor(a, builder_of(a, q)))
    points = np.asarray(array_of(q.value if isinstance(q, Node) else q), np.float64)
    rows, axes = joined(x, axis, "nanquantile")
    found = nan_ranked(rows, points.reshape(-1), method)
    front = apply("permute_dims", found, axes=[found.ndim - 1, *range(found.ndim - 1)])
    front = apply("reshape", front, shape=(*points.shape, *front.shape[1:]))
    return kept_axes(front, x.shape, axes, keepdims, points.ndim)


@numpy_function()
def nanpercentile(a: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False,
                  weights: Any = None) -> Node:
    return nanquantile(a, _hundredths(q), axis, method=method, keepdims=keepdims, weights=weights)


@numpy_function()
def nanmedian(a: Any, axis: Axis = None, *, keepdims: bool = False, overwrite_input: bool = False) -> Node:
    return nanquantile(a, 0.5, axis, keepdims=keepdims)


# ---- reductions without NaN ------------------------------------------------------------------------------------------
def _filled(x: Node, value: Any) -> Node:
    return where(reductions.isnan(x), value, x) if x.is_floating else x


def present(x: Node, axis: Axis, keepdims: bool) -> Node:
    """How many elements are not NaN."""
    return apply("sum", apply("equal", x, x), axis=axis, keepdims=keepdims)


def _nan_extremum(row: str, bound: float) -> Any:
    def reduce(a: Any, axis: Axis = None, *, keepdims: bool = False, initial: Any = None) -> Node:
        x = tensor(a)
        y = apply(row, _filled(x, bound), axis=axis, keepdims=keepdims)
        if x.is_floating:
            y = where(elementwise("equal", present(x, axis, keepdims), 0), math.nan, y)
        return y if initial is None else elementwise(f"{row}imum", y, initial)

    return reduce


numpy_function("nanmax")(_nan_extremum("max", -math.inf))
numpy_function("nanmin")(_nan_extremum("min", math.inf))


@numpy_function()
def nanmean(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Node:
    x = floating(tensor(a))
    total = reductions.sum_(_filled(x, 0.0), axis, dtype, keepdims=keepdims)
    return total / convert(present(x, axis, keepdims), total.dtype)


@numpy_function()
def nanvar(a: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
           correction: float | None = None) -> Node:
    x = floating(tensor(a))
    count = convert(present(x, axis, keepdims), x.dtype)
    gaps = elementwise("subtract", x, nanmean(x, axis, keepdims=True))
    total = apply("sum", elementwise("square", _filled(gaps, 0.0)), axis=axis, keepdims=keepdims)
    free = count - float(ddof if correction is None else correction)
    return where(elementwise("greater", free, 0.0), total / free, math.nan)


@numpy_function()
def nanstd(a: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
           correction: float | None = None) -> Node:
    return root(nanvar(a, axis, dtype, ddof=ddof, keepdims=keepdims, correction=correction))


@numpy_function()
def nanprod(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Node:
    return reductions.prod(_filled(tensor(a), 1.0), axis, dtype, keepdims=keepdims)


@numpy_function()
def nancumsum(a: Any, axis: Axis = None, dtype: Any = None) -> Node:
    return reductions.cumsum(_filled(tensor(a), 0.0), axis, dtype)


@numpy_function()
def nancumprod(a: Any, axis: Axis = None, dtype: Any = None) -> Node:
    return reductions.cumprod(_filled(tensor(a), 1.0), axis, dtype)


@numpy_function()
def nanargmax(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Node:
    return apply("argmax", _filled(tensor(a), -math.inf), axis=axis, keepdims=keepdims)


@numpy_function()
def nanargmin(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Node:
    return apply("argmin", _filled(tensor(a), math.inf), axis=axis, keepdims=keepdims)


def whole(name: str, value: Any) -> int:
    return integer("an order statistic", name, value)

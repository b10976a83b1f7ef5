"""NumPy's functions of samples along an axis: interpolation, differences, phases, and spaces between two ends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.manipulation import broadcast_arrays, concatenate, moveaxis, ravel
from hesse_engine.frontends.operands import (
    array_of,
    builder_of,
    check_room,
    dtype_like,
    elementwise,
    floating,
    no_rule,
    tensor,
    tensors,
    where,
)
from hesse_engine.frontends.reductions import cumsum, diff
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import FLOAT64, Node, apply
from hesse_engine.ir.shapes import axes_of, axis_of, convert, integer


# ---- interpolation ---------------------------------------------------------------------------------------------------
@numpy_function()
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Node:
    """The polygon through (xp, fp) at x: fp_i + (x - xp_i) slope_i for xp_i <= x < xp_i+1; at a knot the slope is the
    right one's. In float64, as NumPy's."""
    builder = builder_of(x, xp, fp, left, right)
    if period is not None:
        return _periodic(x, xp, fp, period)
    at, knots, heights = (convert(tensor(v, builder), FLOAT64) for v in (x, xp, fp))
    if knots.ndim != 1 or heights.shape != knots.shape or not knots.size:
        raise GraphError("shape-mismatch", f"interp: xp and fp must be vectors of one length, not of the shapes "
                                           f"{list(knots.shape)} and {list(heights.shape)}.")
    inside = _polygon(at, knots, heights)
    first, last = (index(knots, k) for k in (0, -1))
    low = index(heights, 0) if left is None else left
    high = index(heights, -1) if right is None else right
    y = where(elementwise("less", at, first), low, where(elementwise("greater", at, last), high, inside))
    return where(elementwise("not_equal", at, at), at, y)


def _polygon(at: Node, knots: Node, heights: Node) -> Node:
    count = knots.shape[0]
    if count == 1:
        return apply("broadcast_to", heights, shape=at.shape) if at.ndim else index(heights, 0)
    check_room(at.builder, at.size * count)
    passed = apply("greater_equal", apply("expand_dims", at, axis=-1), knots)
    place = apply("clip", apply("sum", passed, axis=-1) - 1, 0, count - 2)
    slopes = elementwise("divide", diff(heights), diff(knots))
    start, height, slope = (index(n, place) for n in (knots, heights, slopes))
    return elementwise("add", height, elementwise("multiply", at - start, slope))


def _periodic(x: Any, xp: Any, fp: Any, period: Any) -> Node:
    """Knots folded into one period and sorted, with the neighbor of either end."""
    builder = builder_of(x, xp, fp)
    if (isinstance(xp, Node) and xp.value is None) or isinstance(period, Node):
        raise no_rule("numpy.interp with a period and traced knots, whose order depends on values,")
    length = abs(float(period))
    if not length:
        raise GraphError("bad-attribute", "interp: the period must not be zero.")
    folded = np.mod(array_of(xp.value if isinstance(xp, Node) else xp), length)
    order = np.argsort(folded)
    knots = folded[order]
    knots = np.concatenate([knots[-1:] - length, knots, knots[:1] + length])
    heights = index(tensor(fp, builder), np.concatenate([order[-1:], order, order[:1]]))
    at = elementwise("remainder", convert(tensor(x, builder), FLOAT64), length)
    return interp(at, builder.constant(knots), heights)


# ---- differences -----------------------------------------------------------------------------------------------------
@numpy_function()
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Node:
    """Differences of neighbors in the flattened array, between other elements."""
    builder = builder_of(ary, to_end, to_begin)
    inside = diff(ravel(tensor(ary, builder)))
    parts = [ravel(convert(tensor(v, builder), inside.dtype)) for v in (to_begin, inside, to_end) if v is not None]
    return concatenate(parts) if len(parts) > 1 else inside


@numpy_function()
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Second-order central differences inside, one-sided ones of `edge_order` 1 or 2 at the ends."""
    builder = builder_of(f, *varargs)
    values = floating(tensor(f, builder))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = axes_of("gradient", None, values.ndim) if axis is None else [axis_of("gradient", k, values.ndim)
                                                                         for k in given]
    if edge_order not in (1, 2):
        raise GraphError("bad-attribute", "gradient: edge_order must be 1 or 2.")
    spacings = list(varargs) * (len(axes) if len(varargs) == 1 and _is_scalar(varargs[0]) else 1) or [1.0] * len(axes)
    if len(spacings) != len(axes):
        raise GraphError("wrong-arity", f"gradient: {len(varargs)} spacings for {len(axes)} axes.")
    found = []
    for k, spacing in zip(axes, spacings, strict=True):
        if values.shape[k] < edge_order + 1:
            raise GraphError("shape-mismatch", f"gradient: axis {k} has {values.shape[k]} elements; at least "
                                               f"{edge_order + 1} are needed.")
        found.append(moveaxis(_slopes(moveaxis(values, k, 0), spacing, edge_order), 0, k))
    return found[0] if len(found) == 1 else tuple(found)


def _is_scalar(value: Any) -> bool:
    return value.ndim == 0 if isinstance(value, Node) else np.ndim(value) == 0


def _slopes(y: Node, spacing: Any, edge_order: int) -> Node:
    """dy/dx along the first axis, from the divided differences s_i = (y_i+1 - y_i) / h_i:
    (h_i s_i-1 + h_i-1 s_i) / (h_i-1 + h_i) inside."""
    count = y.shape[0]
    if _is_scalar(spacing):
        steps = apply("broadcast_to", convert(tensor(spacing, y.builder), y.dtype), shape=(count - 1,))
    else:
        steps = diff(tensor(spacing, y.builder))
        if steps.shape != (count - 1,):
            raise GraphError("shape-mismatch", f"gradient: the coordinates must be a vector of {count} numbers.")
    h = apply("reshape", steps, shape=(count - 1, *(1,) * (y.ndim - 1)))
    s = elementwise("divide", diff(y, axis=0), h)
    before, after = slice(None, -1), slice(1, None)
    inside = []
    if count > 2:
        mixed = index(h, after) * index(s, before) + index(h, before) * index(s, after)
        inside = [mixed / (index(h, before) + index(h, after))]
    ends = [index(s, slice(0, 1)), index(s, slice(-1, None))]
    if edge_order == 2:
        # the parabola through the three outermost points
        ends = [_outermost(s, h, 0, 1), _outermost(s, h, -1, -2)]
    return apply("concat", ends[0], *inside, ends[1], axis=0)


def _outermost(s: Node, h: Node, end: int, next_to_it: int) -> Node:
    def at(n: Node, k: int) -> Node:
        return index(n, slice(k, k + 1 or None))

    near, far = at(h, end), at(h, next_to_it)
    return at(s, end) + near * (at(s, end) - at(s, next_to_it)) / (near + far)


@numpy_function()
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2 * math.pi) -> Node:
    """p with multiples of the period added, so that no step is longer than half of it; the multiples are constant."""
    x = floating(tensor(p))
    step = diff(x, axis=axis)
    half = period / 2
    least = half if discont is None else max(discont, half)
    folded = elementwise("subtract", elementwise("remainder", step + half, period), half)
    is_up = apply("logical_and", elementwise("equal", folded, -half), step > 0.0)
    turns = where(is_up, half, folded) - step
    turns = where(apply("abs", step) < least, 0.0, turns)
    k = axis_of("unwrap", axis, x.ndim)
    first = index(x, (*[slice(None)] * k, slice(0, 1)))
    rest = index(x, (*[slice(None)] * k, slice(1, None)))
    return apply("concat", first, rest + cumsum(apply("stop_gradient", turns), k), axis=k)


# ---- spaces ----------------------------------------------------------------------------------------------------------
def _weights(name: str, like: Node, num: Any, endpoint: bool) -> Node:
    """k / (num - 1), or k / num without the end point, along a new first axis."""
    count = integer(name, "num", num)
    if count < 0:
        raise GraphError("bad-attribute", f"{name}: num must not be negative, not {count}.")
    check_room(like.builder, count * max(like.size, 1))
    return like.builder.constant(np.linspace(0.0, 1.0, count, endpoint).reshape(count, *(1,) * like.ndim), like.dtype)


def _ends(*values: Any) -> tuple[Node, ...]:
    """Values of one floating dtype, broadcast; Python numbers are weak."""
    return broadcast_arrays(*[floating(n) for n in tensors(*values)])


def _between(a: Node, b: Node, w: Node) -> Node:
    return elementwise("add", elementwise("multiply", a, 1.0 - w), elementwise("multiply", b, w))


def _finished(points: Node, dtype: Any, axis: int) -> Node:
    y: Node = moveaxis(points, 0, axis)
    return y if dtype is None else convert(y, dtype_like(dtype))


@numpy_function()
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
    axis: int = 0,
) -> Any:
    """start + (stop - start) k / (num - 1), the first and the last point exact; with `retstep` the distance too."""
    a, b = _ends(start, stop)
    points = _between(a, b, _weights("linspace", a, num, endpoint))
    if dtype is not None and dtype_like(dtype).kind in "iu":
        points = elementwise("floor", points)
    y = _finished(points, dtype, axis)
    intervals = num - 1 if endpoint else num
    return (y, elementwise("divide", b - a, float(intervals) if intervals > 0 else math.nan)) if retstep else y


@numpy_function()
def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Node:
    """base to the power of points evenly spaced from start to stop."""
    a, b, by = _ends(start, stop, base)
    points = elementwise("power", by, _between(a, b, _weights("logspace", a, num, endpoint)))
    return _finished(points, dtype, axis)


@numpy_function()
def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Node:
    """start (stop / start)^(k / (num - 1)): points in a constant ratio, the first and the last exact. In float64."""
    a, b = (convert(n, FLOAT64) for n in _ends(start, stop))
    w = _weights("geomspace", a, num, endpoint)
    points = elementwise("multiply", a, elementwise("power", elementwise("divide", b, a), w))
    return _finished(where(elementwise("equal", w, 1.0), b, points), dtype, axis)

"""NumPy's reductions, scans and elementwise functions that are written in rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.operands import (
    accumulator,
    builder_of,
    dtype_like,
    elementwise,
    floating,
    full_like,
    lower,
    no_rule,
    root,
    tensor,
    truth,
    where,
)
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import BOOL, Node, apply
from hesse_engine.ir.shapes import axes_of, axis_of, convert

Axis = Any


# ---- reductions ------------------------------------------------------------------------------------------------------
@numpy_function("sum")
def sum_(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, initial: Any = None) -> Node:
    total = apply("sum", accumulator(tensor(a), dtype), axis=axis, keepdims=keepdims)
    return total if initial is None else elementwise("add", total, initial)


@numpy_function()
def prod(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, initial: Any = None) -> Node:
    product = apply("prod", accumulator(tensor(a), dtype), axis=axis, keepdims=keepdims)
    return product if initial is None else elementwise("multiply", product, initial)


@numpy_function()
def mean(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Node:
    x = tensor(a)
    return apply("mean", floating(x) if dtype is None else convert(x, dtype_like(dtype)), axis=axis, keepdims=keepdims)


@numpy_function()
def var(a: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
        correction: float | None = None) -> Node:
    x = floating(tensor(a)) if dtype is None else convert(tensor(a), dtype_like(dtype))
    count = math.prod([x.shape[k] for k in axes_of("var", axis, x.ndim)])
    free = float(count - (ddof if correction is None else correction))
    spread = elementwise("square", elementwise("subtract", x, apply("mean", x, axis=axis, keepdims=True)))
    total = apply("sum", spread, axis=axis, keepdims=keepdims)
    return total / max(free, 0.0)


@numpy_function()
def std(a: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False,
        correction: float | None = None) -> Node:
    return root(var(a, axis, dtype, ddof=ddof, keepdims=keepdims, correction=correction))


def _extremum(row: str, pair: str) -> Callable[..., Node]:
    def reduce(a: Any, axis: Axis = None, *, keepdims: bool = False, initial: Any = None) -> Node:
        y = apply(row, tensor(a), axis=axis, keepdims=keepdims)
        return y if initial is None else elementwise(pair, y, initial)

    return reduce


numpy_function("max", "amax")(_extremum("max", "maximum"))
numpy_function("min", "amin")(_extremum("min", "minimum"))


@numpy_function()
def ptp(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Node:
    x = tensor(a)
    low = apply("min", x, axis=axis, keepdims=keepdims)
    return elementwise("subtract", apply("max", x, axis=axis, keepdims=keepdims), low)


@numpy_function()
def argmax(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Node:
    return apply("argmax", tensor(a), axis=axis, keepdims=keepdims)


@numpy_function()
def argmin(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Node:
    return apply("argmin", tensor(a), axis=axis, keepdims=keepdims)


@numpy_function()
def count_nonzero(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Node:
    return apply("sum", truth(tensor(a)), axis=axis, keepdims=keepdims)


@numpy_function("any")
def any_(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Node:
    return apply("greater", count_nonzero(a, axis, keepdims=keepdims), 0)


@numpy_function("all")
def all_(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Node:
    failing = apply("logical_not", truth(tensor(a)))
    return apply("equal", apply("sum", failing, axis=axis, keepdims=keepdims), 0)


@numpy_function()
def nansum(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Node:
    x = tensor(a)
    return sum_(where(isnan(x), 0.0, x) if x.is_floating else x, axis, dtype, keepdims=keepdims)


# ---- cumulative ops --------------------------------------------------------------------------------------------------
def _cumulative(row: str, a: Any, axis: Axis, dtype: Any) -> Node:
    x = accumulator(tensor(a), dtype)
    if axis is None:
        x, axis = apply("reshape", x, shape=(x.size,)), 0
    return apply(row, x, axis=axis)


@numpy_function()
def cumsum(a: Any, axis: Axis = None, dtype: Any = None) -> Node:
    return _cumulative("cumulative_sum", a, axis, dtype)


@numpy_function()
def cumprod(a: Any, axis: Axis = None, dtype: Any = None) -> Node:
    return _cumulative("cumulative_prod", a, axis, dtype)


def _from_initial(row: str, neutral: int) -> Callable[..., Node]:
    """The array API's spelling: an axis may be left out for vectors only, and the neutral element may come first."""

    def accumulate(x: Any, /, *, axis: Axis = None, dtype: Any = None, include_initial: bool = False) -> Node:
        node = tensor(x)
        if axis is None and node.ndim != 1:
            raise GraphError("bad-attribute", f"{row}: an axis must be named for {node.ndim} dimensions.")
        y = _cumulative(row, node, axis, dtype)
        if not include_initial:
            return y
        k = axis_of(row, 0 if axis is None else axis, y.ndim)
        first = full_like(y, neutral, shape=[1 if j == k else s for j, s in enumerate(y.shape)])
        return apply("concat", first, y, axis=k)

    return accumulate


numpy_function("cumulative_sum")(_from_initial("cumulative_sum", 0))
numpy_function("cumulative_prod")(_from_initial("cumulative_prod", 1))


@numpy_function("logaddexp.reduce")
def logsumexp(a: Any, axis: Axis = 0, *, keepdims: bool = False) -> Node:
    return apply("logsumexp", tensor(a), axis=axis, keepdims=keepdims)


@numpy_function("logaddexp.accumulate")
def logcumsumexp(a: Any, axis: int = 0) -> Node:
    return apply("logcumsumexp", tensor(a), axis=axis)


@numpy_function()
def diff(a: Any, n: int = 1, axis: Axis = -1, prepend: Any = None, append: Any = None) -> Node:
    if n < 0:
        raise GraphError("bad-attribute", f"diff: the order must be non-negative, not {n}.")
    builder = builder_of(a, prepend, append)
    x = tensor(a, builder)
    k = axis_of("diff", axis, x.ndim)
    if n and (prepend is not None or append is not None):
        x = _extended(x, prepend, append, k)
    for _ in range(min(n, x.shape[k])):
        count = tuple([max(s - 1, 0) if j == k else s for j, s in enumerate(x.shape)])
        start = tuple([1 if j == k and s > 1 else 0 for j, s in enumerate(x.shape)])
        low = apply("slice", x, start=(0,) * x.ndim, count=count)
        x = apply("not_equal" if x.dtype == BOOL else "subtract", apply("slice", x, start=start, count=count), low)
    return x


def _extended(x: Node, before: Any, after: Any, axis: int) -> Node:
    """x between two arrays along an axis; a scalar stands for one element."""
    def end(value: Any) -> Node:
        node = tensor(value, x.builder)
        one = [1 if k == axis else s for k, s in enumerate(x.shape)]
        return node if node.ndim else apply("broadcast_to", node, shape=one)

    parts = [end(before)] * (before is not None) + [x] + [end(after)] * (after is not None)
    return apply("concat", *parts, axis=axis)


@numpy_function("trapezoid", "trapz")
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: Axis = -1) -> Node:
    builder = builder_of(y, x, dx)
    values = tensor(y, builder)
    k = axis_of("trapezoid", axis, values.ndim)
    step: Any = dx
    if x is not None:
        points = tensor(x, builder)
        step = diff(points, axis=-1 if points.ndim == 1 else k)
        if points.ndim == 1:
            step = apply("reshape", step, shape=[-1 if j == k else 1 for j in range(values.ndim)])
    count = tuple([s - 1 if j == k else s for j, s in enumerate(values.shape)])
    start = tuple([int(j == k and s > 1) for j, s in enumerate(values.shape)])
    low = apply("slice", values, start=(0,) * values.ndim, count=count)
    pairs = apply("add", apply("slice", values, start=start, count=count), low)
    return sum_(elementwise("divide", elementwise("multiply", step, pairs), 2.0), k)


# ---- elementwise -----------------------------------------------------------------------------------------------------
@numpy_function()
def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Node:
    low, high = a_min if min is None else min, a_max if max is None else max
    x = tensor(a, builder_of(a, low, high))
    if low is None and high is None:
        return x
    infinity: Any = math.inf if x.is_floating else None
    if infinity is None and (low is None or high is None):
        return elementwise("maximum", x, low) if high is None else elementwise("minimum", x, high)
    return elementwise("clip", x, -infinity if low is None else low, infinity if high is None else high)


@numpy_function("where")
def where_(condition: Any, x: Any = None, y: Any = None, /) -> Node:
    if x is None or y is None:
        raise no_rule("numpy.where with one argument, whose result has a shape that depends on values,")
    return where(condition, x, y)


@numpy_function()
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Node:
    result: Any = lower(default, builder_of(condlist, choicelist, default))
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = where(condition, choice, result)
    return tensor(result, builder_of(condlist, choicelist, default))


@numpy_function("deg2rad", "radians")
def deg2rad(x: Any) -> Node:
    return elementwise("multiply", x, math.pi / 180.0)


@numpy_function("rad2deg", "degrees")
def rad2deg(x: Any) -> Node:
    return elementwise("multiply", x, 180.0 / math.pi)


@numpy_function("positive", "conjugate", "conj", "real", "real_if_close", "copy", "ascontiguousarray")
def positive(x: Any) -> Node:
    return tensor(x)


@numpy_function("asarray", "array")
def asarray(a: Any, dtype: Any = None) -> Node:
    return tensor(a) if dtype is None else convert(tensor(a), dtype_like(dtype))


@numpy_function()
def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    return np.result_type(*[a.dtype if isinstance(a, Node) else a for a in arrays_and_dtypes])


@numpy_function()
def float_power(x1: Any, x2: Any) -> Node:
    base = tensor(x1, builder_of(x1, x2))
    return elementwise("power", convert(base, np.dtype(np.float64)), x2)


@numpy_function()
def heaviside(x1: Any, x2: Any) -> Node:
    builder = builder_of(x1, x2)
    x = floating(tensor(x1, builder))
    low, high = full_like(x, 0.0), full_like(x, 1.0)
    step = where(elementwise("greater", x, 0.0), high, where(elementwise("less", x, 0.0), low, x2))
    return where(isnan(x), x, step)


def isnan(x: Any) -> Node:
    return elementwise("isnan", x)


def isfinite(x: Any) -> Node:
    return elementwise("isfinite", x)


@numpy_function()
def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Node:
    """|a - b| <= atol + rtol |b| for finite b, else a == b."""
    builder = builder_of(a, b)
    x, y = tensor(a, builder), tensor(b, builder)
    bound = elementwise("add", elementwise("multiply", elementwise("abs", y), rtol), atol)
    near = elementwise("less_equal", elementwise("abs", elementwise("subtract", x, y)), bound)
    same = where(isfinite(y), near, elementwise("equal", x, y))
    return elementwise("logical_or", same, elementwise("logical_and", isnan(x), isnan(y))) if equal_nan else same


@numpy_function()
def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Node:
    return all_(isclose(a, b, rtol, atol, equal_nan))


@numpy_function()
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Node:
    builder = builder_of(a1, a2)
    x, y = tensor(a1, builder), tensor(a2, builder)
    if x.shape != y.shape:
        return builder.constant(False)
    same = elementwise("equal", x, y)
    return all_(elementwise("logical_or", same, elementwise("logical_and", isnan(x), isnan(y))) if equal_nan else same)

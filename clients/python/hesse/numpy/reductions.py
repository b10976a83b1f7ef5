"""Statistics and truth over axes, running sums and products, differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse.eager import Array, Axis, call
from hesse_engine.errors import ArgumentTypeError


def all(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether every element over axes is true; of none, True."""
    return call("all", x, axis=_axes(axis), keepdims=keepdims)


def any(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether any element over axes is true; of none, False."""
    return call("any", x, axis=_axes(axis), keepdims=keepdims)


def cumulative_prod(x: Array, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Array:
    """Products of the first 1, 2, ... elements along an axis, after a 1 if `include_initial`."""
    _check_axis("cumulative_prod", x, axis)
    return call("cumulative_prod", x, axis=axis, dtype=dtype, include_initial=include_initial)


def cumulative_sum(x: Array, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Array:
    """Sums of the first 1, 2, ... elements along an axis, after a 0 if `include_initial`."""
    _check_axis("cumulative_sum", x, axis)
    return call("cumulative_sum", x, axis=axis, dtype=dtype, include_initial=include_initial)


def diff(
    x: Array, /, *, axis: int = -1, n: int = 1, prepend: Array | None = None, append: Array | None = None
) -> Array:
    """Differences of neighbors along an axis, n times, of x with other arrays before and after it."""
    ends = {name: value for name, value in (("prepend", prepend), ("append", append)) if value is not None}
    return call("diff", x, n=n, axis=axis, **ends)


def max(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Largest element over axes; ties share the derivative evenly."""
    return call("max", x, axis=_axes(axis), keepdims=keepdims)


def mean(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Arithmetic mean over axes."""
    return call("mean", x, axis=_axes(axis), keepdims=keepdims)


def min(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Smallest element over axes; ties share the derivative evenly."""
    return call("min", x, axis=_axes(axis), keepdims=keepdims)


def prod(x: Array, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """Product over axes; small integers are multiplied in 64 bits."""
    return call("prod", x, axis=_axes(axis), dtype=dtype, keepdims=keepdims)


def std(x: Array, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """Square root of `var`; its derivative is 0 where the elements are equal."""
    return call("std", x, axis=_axes(axis), ddof=correction, keepdims=keepdims)


def sum(x: Array, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """Sum over axes; small integers are added in 64 bits."""
    return call("sum", x, axis=_axes(axis), dtype=dtype, keepdims=keepdims)


def var(x: Array, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """Mean squared deviation over axes, the count reduced by `correction`."""
    return call("var", x, axis=_axes(axis), ddof=correction, keepdims=keepdims)


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _check_axis(name: str, x: Array, axis: int | None) -> None:
    if axis is None and np.ndim(x) != 1:
        raise ArgumentTypeError("bad-type", f"{name} needs an axis for an array with {np.ndim(x)} dimensions.")

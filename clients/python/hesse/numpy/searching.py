"""Where elements are: positions, counts, orders, and what stands at given positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse.eager import Array, Axis, call, is_traced


def argmax(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Position of the first largest element along an axis."""
    return call("argmax", x, axis=axis, keepdims=keepdims)


def argmin(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Position of the first smallest element along an axis."""
    return call("argmin", x, axis=axis, keepdims=keepdims)


def argsort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """Positions that sort x along an axis; equal elements keep their order, in descending order too."""
    if not descending:
        return call("argsort", x, axis=axis, stable=stable)
    # positions from the other end, so that equal elements keep their order
    positions = call("flip", call("argsort", call("flip", x, axis=axis), axis=axis, stable=stable), axis=axis)
    return call("subtract", np.shape(x)[axis] - 1, positions)


def count_nonzero(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """How many elements over axes are not 0."""
    count = call("count_nonzero", x, axis=axis, keepdims=keepdims)
    return count if is_traced(count) else np.asarray(count, np.int64)


def nonzero(x: Array, /) -> tuple[Array, ...]:
    """Positions of the elements that are not 0, an array for each axis."""
    return tuple(call("nonzero", x))


def searchsorted(x1: Array, x2: Array, /, *, side: str = "left", sorter: Array | None = None) -> Array:
    """Where to put x2 into the sorted vector x1: in front of its equals, or with side='right' behind them."""
    options: dict[str, Any] = {} if sorter is None else {"sorter": sorter}
    return call("searchsorted", x1, x2, side=side, **options)


def sort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """x sorted along an axis."""
    y = call("sort", x, axis=axis, stable=stable)
    return call("flip", y, axis=axis) if descending else y


def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """The entries of x at integer indices along an axis, which may be left out for vectors only."""
    if axis is None and np.ndim(x) > 1:
        raise ValueError(f"take needs an axis for an array with {np.ndim(x)} dimensions.")
    return call("take", x, indices, axis=axis)


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """The entry of x at an index of its own, for every position."""
    return call("take_along_axis", x, indices, axis=axis)

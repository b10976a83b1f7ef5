"""Sliding windows: what convolutions and pooling read. Sums and products over them are other rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import Node
from hesse_engine.ir.ops.composite import composite
from hesse_engine.ir.ops.gathering import take
from hesse_engine.ir.ops.structural import reshape, slice_
from hesse_engine.ir.shapes import axis_of, integer


def window_count(length: int, size: int, step: int, dilation: int) -> int:
    """How many windows fit."""
    return max(0, (length - dilation * (size - 1) - 1) // step + 1)


def _numpy(x: Any, *, axis: int, size: int, step: int = 1, dilation: int = 1) -> Any:
    count = window_count(x.shape[axis], size, step, dilation)
    return np.take(x, np.arange(count)[:, None] * step + np.arange(size) * dilation, axis=axis)


@composite(_numpy)
def windows(x: Node, *, axis: Any, size: Any, step: Any = 1, dilation: Any = 1) -> Node:
    """y[.., i, j, ..] = x[.., i step + j dilation, ..], in place of an axis, as many windows i as fit, j < size."""
    k = axis_of("windows", axis, x.ndim)
    given = [integer("windows", name, v) for name, v in (("size", size), ("step", step), ("dilation", dilation))]
    if any([v < 1 for v in given]):
        raise GraphError("bad-attribute", f"windows: size, step and dilation must be positive, not {given}.")
    width, stride, spread = given
    count = window_count(x.shape[k], width, stride, spread)
    if stride == width and (spread == 1 or width == 1):  # they do not overlap: a view
        lengths = [count * width if j == k else s for j, s in enumerate(x.shape)]
        whole = slice_(x, start=(0,) * x.ndim, count=lengths)
        return reshape(whole, shape=(*x.shape[:k], count, width, *x.shape[k + 1:]))
    x.builder.check_constant(8 * count * width)
    index = np.arange(count)[:, None] * stride + np.arange(width) * spread
    return take(x, x.builder.constant(index), axis=k)

"""Cumulative ops along one axis: y_k takes in x_0 ... x_k.

`cumulative_sum` is linear. The others double their reach in each of log2(n) steps, y_k <- op(y_(k-s), y_k) for
s = 1, 2, 4, ...: products have exact derivatives of every order where elements are 0, and log-sum-exp stays stable
however far the elements lie apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import BOOL, INT64, Array, Node, apply, is_zero
from hesse_engine.ir.ops.composite import composite
from hesse_engine.ir.ops.elementwise import check_operands, quiet, result_dtype
from hesse_engine.ir.ops.structural import concat, linear, slice_, sum_
from hesse_engine.ir.shapes import axes_of, axis_of, convert


def _flag(op: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise GraphError("bad-attribute", f"{op}: reverse must be true or false, not {type(value).__name__}.")
    return bool(value)


def _floating(x: Node) -> Node:
    return convert(x, result_dtype("float", x.dtype, x.builder.library)[0])


# ---- sums ------------------------------------------------------------------------------------------------------------
def _build_cumulative_sum(*args: Node, axis: Any = 0, reverse: Any = False) -> Node:
    check_operands("cumulative_sum", args, 1)
    (x,) = args
    k, backwards = axis_of("cumulative_sum", axis, x.ndim), _flag("cumulative_sum", reverse)
    x = convert(x, INT64) if x.dtype == BOOL else x
    if is_zero(x) or x.shape[k] <= 1:
        return x
    return x.builder.make("cumulative_sum", (x,), {"axis": k, "reverse": backwards}, x.shape, x.dtype)


def cumulative_sum_numpy(x: Array, *, axis: int, reverse: bool) -> Array:
    if not reverse:
        return np.cumsum(x, axis=axis, dtype=x.dtype)
    return np.flip(np.cumsum(np.flip(x, axis), axis=axis, dtype=x.dtype), axis)


cumulative_sum: Callable[..., Node] = linear(
    "cumulative_sum", 1, ("axis", "reverse"), _build_cumulative_sum, cumulative_sum_numpy,
    lambda ct, y: (cumulative_sum(ct, axis=y.attrs["axis"], reverse=not y.attrs["reverse"]),),
    lambda node, args, batched, size: cumulative_sum(args[0], **node.attrs), is_movement=False,
    doc="Sums of the first 1, 2, ... elements along an axis, or of the last: attrs axis, reverse.",
)


# ---- by doubling -----------------------------------------------------------------------------------------------------
def _doubling(op: str, x: Node, axis: int) -> Node:
    length, shift = x.shape[axis], 1
    while shift < length:
        low = _part(x, axis, 0, length - shift)
        high = _part(x, axis, shift, length - shift)
        x, shift = concat(_part(x, axis, 0, shift), apply(op, low, high), axis=axis), 2 * shift
    return x


def _part(x: Node, axis: int, start: int, count: int) -> Node:
    return slice_(x, start=[start * (k == axis) for k in range(x.ndim)],
                  count=[count if k == axis else s for k, s in enumerate(x.shape)])


@composite(lambda x, *, axis=0: np.cumprod(x, axis))
def cumulative_prod(x: Node, *, axis: Any = 0) -> Node:
    """Products of the first 1, 2, ... elements along an axis, right in every derivative at 0: attrs axis."""
    k = axis_of("cumulative_prod", axis, x.ndim)
    return _doubling("multiply", convert(x, INT64) if x.dtype == BOOL else x, k)


@composite(quiet(lambda x, *, axis=0: np.logaddexp.accumulate(x, axis)))
def logcumsumexp(x: Node, *, axis: Any = 0) -> Node:
    """log of the sums of exp of the first 1, 2, ... elements along an axis, without overflow: attrs axis."""
    return _doubling("logaddexp", _floating(x), axis_of("logcumsumexp", axis, x.ndim))


# ---- log-sum-exp and its kin -----------------------------------------------------------------------------------------
def _logsumexp_numpy(x: Array, *, axis: Any = None, keepdims: bool = False) -> Any:
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis=axis)


def _shifted(x: Node, axes: tuple[int, ...]) -> tuple[Node, Node]:
    """(x - m, m) with m the largest element over axes, held fixed; 0 where that is infinite."""
    top = apply("stop_gradient", apply("max", x, axis=axes, keepdims=True))
    finite = apply("less", apply("abs", top), float("inf"))
    top = apply("where", finite, top, 0.0)
    return x - top, top


@composite(quiet(_logsumexp_numpy))
def logsumexp(x: Node, *, axis: Any = None, keepdims: bool = False) -> Node:
    """log sum exp(x) over axes, without overflow: attrs axis (one, several, none for all), keepdims."""
    axes, x = axes_of("logsumexp", axis, x.ndim), _floating(x)
    moved, top = _shifted(x, axes)
    y = apply("log", sum_(apply("exp", moved), axis=axes, keepdims=True)) + top
    return y if keepdims else apply("reshape", y, shape=[s for k, s in enumerate(x.shape) if k not in axes])


@composite(lambda x, *, axis=-1: np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True))
def softmax(x: Node, *, axis: Any = -1) -> Node:
    """exp(x) / sum exp(x) over axes, without overflow: attrs axis."""
    axes, x = axes_of("softmax", axis, x.ndim), _floating(x)
    weights = apply("exp", _shifted(x, axes)[0])
    return weights / sum_(weights, axis=axes, keepdims=True)


@composite(lambda x, *, axis=-1: x - np.log(np.sum(np.exp(x), axis=axis, keepdims=True)))
def log_softmax(x: Node, *, axis: Any = -1) -> Node:
    """log(softmax(x)) over axes, without overflow: attrs axis."""
    axes, x = axes_of("log_softmax", axis, x.ndim), _floating(x)
    moved, _ = _shifted(x, axes)
    return moved - apply("log", sum_(apply("exp", moved), axis=axes, keepdims=True))

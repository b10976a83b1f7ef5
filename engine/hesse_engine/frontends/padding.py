"""Padding, under NumPy's modes and torch's: zeros, constants, and elements read again at other places."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.operands import array_of, builder_of, check_room, elementwise, full_like, no_rule, tensor
from hesse_engine.frontends.table import numpy_function, torch_function
from hesse_engine.ir.graph import Node, apply

Widths = tuple[int, int]
# NumPy's modes in which an added element is one of the elements of the array
_READ = ("edge", "reflect", "symmetric", "wrap")
_STATISTICS = {"maximum": "max", "minimum": "min", "mean": "mean"}


@numpy_function()
def pad(array: Any, pad_width: Any, mode: Any = "constant", *, constant_values: Any = 0, end_values: Any = 0,
        stat_length: Any = None, reflect_type: str = "even") -> Node:
    """x with (before, after) elements added to each axis."""
    x = tensor(array, builder_of(array, constant_values, end_values))
    widths = _pairs(x, pad_width)
    if any([w < 0 for pair in widths for w in pair]):
        raise GraphError("bad-attribute", "pad: index can't contain negative values: the widths must not be negative.")
    if mode == "constant":
        return in_constants(x, widths, constant_values)
    if mode == "empty":
        return in_constants(x, widths, 0)
    if mode in _READ:
        return _reading(x, widths, mode, reflect_type)
    lengths: Any = _pairs(x, stat_length) if stat_length is not None else [(None, None)] * x.ndim
    if mode == "linear_ramp":
        ends = np.broadcast_to(array_of(end_values), (x.ndim, 2)).tolist()
    elif mode not in _STATISTICS:
        raise no_rule(f"numpy.pad in mode {mode!r}")
    for axis, pair in enumerate(widths):
        if mode == "linear_ramp":
            x = _along(x, axis, pair, lambda n, k, side, w: _ramp(n, k, side, w, ends[k][side]))
        else:
            x = _along(x, axis, pair, lambda n, k, side, w: _statistic(n, k, side, w, mode, lengths[k][side]))
    return x


def _pairs(x: Node, widths: Any) -> list[Widths]:
    """One (before, after) for each axis."""
    if isinstance(widths, dict):
        given = {k % x.ndim: v for k, v in widths.items()}
        widths = [np.broadcast_to(given.get(k, 0), 2) for k in range(x.ndim)]
    array = array_of(widths)
    if array.dtype.kind not in "iu":
        raise GraphError("bad-attribute", "pad: `pad_width` must be of integral type.")
    return [(int(a), int(b)) for a, b in np.broadcast_to(array, (x.ndim, 2)).tolist()]


def in_constants(x: Node, widths: list[Widths], constant_values: Any) -> Node:
    """x placed in zeros, or between constants."""
    if isinstance(constant_values, Node):
        values = np.empty((x.ndim, 2), object)
        values[:] = constant_values
        if constant_values.ndim:
            raise no_rule("numpy.pad with a traced array of constant_values")
    elif not np.any(array_of(constant_values)) and not np.any(np.signbit(array_of(constant_values))):
        lengths = tuple([a + s + b for (a, b), s in zip(widths, x.shape, strict=True)])
        start = tuple([a for a, _ in widths])
        return apply("unslice", x, shape=lengths, start=start) if x.size else full_like(x, 0, shape=lengths)
    else:
        values = np.broadcast_to(array_of(constant_values), (x.ndim, 2)).tolist()
    for k, ((before, after), (low, high)) in enumerate(zip(widths, values, strict=True)):
        ends = [full_like(x, v, shape=[n if j == k else s for j, s in enumerate(x.shape)])
                for v, n in ((low, before), (high, after))]
        x = apply("concat", ends[0], x, ends[1], axis=k) if before or after else x
    return x


# ---- elements read again ---------------------------------------------------------------------------------------------
def _reading(x: Node, widths: list[Widths], mode: str, reflect_type: str) -> Node:
    """Along each axis the elements at padded positions; odd reflections are 2 edge - element, one after another."""
    for axis, (before, after) in enumerate(widths):
        if not (before or after):
            continue
        length = x.shape[axis]
        if not length:
            raise GraphError("shape-mismatch", f"pad: can't extend empty axis {axis} using modes other than 'constant' "
                                               "or 'empty'.")
        if reflect_type == "odd" and mode in ("reflect", "symmetric") and (length > 1 or mode == "symmetric"):
            x = _odd(x, axis, before, after, mode)
        else:
            x = read(x, axis, positions(length, before, after, mode))
    return x


def positions(length: int, before: int, after: int, mode: str) -> Any:
    """For each position of a padded axis, the element that stands there."""
    return np.pad(np.arange(length), (before, after), mode=mode)  # type: ignore[call-overload]


def read(x: Node, axis: int, places: Any) -> Node:
    check_room(x.builder, len(places))
    return apply("take", x, x.builder.constant(places), axis=axis)


def _odd(x: Node, axis: int, before: int, after: int, mode: str) -> Node:
    """A padded element is linear in the elements, with whole coefficients: np.pad of the unit vectors has them."""
    rows = [np.pad(row, (before, after), mode=mode, reflect_type="odd")  # type: ignore[call-overload]
            for row in np.eye(x.shape[axis])]
    weights = x.builder.constant(np.stack(rows), x.dtype)
    moved = apply("permute_dims", x, axes=[k for k in range(x.ndim) if k != axis] + [axis])
    y = apply("matmul", moved, weights)
    order = list(range(x.ndim - 1))
    order.insert(axis, x.ndim - 1)
    return apply("permute_dims", y, axes=order)


# ---- values computed from the axis -----------------------------------------------------------------------------------
def _along(x: Node, axis: int, widths: Widths, made: Any) -> Node:
    parts = [made(x, axis, 0, widths[0])] if widths[0] else []
    parts += [x, *([made(x, axis, 1, widths[1])] if widths[1] else [])]
    return apply("concat", *parts, axis=axis)


def _slab(x: Node, axis: int, start: int, stop: int) -> Node:
    return index(x, (*[slice(None)] * axis, slice(start, stop)))


def _ramp(x: Node, axis: int, side: int, width: int, end: Any) -> Node:
    """From the end value towards the edge, which is not repeated."""
    edge = _slab(x, axis, 0, 1) if side == 0 else _slab(x, axis, x.shape[axis] - 1, x.shape[axis])
    if not x.is_floating:
        raise no_rule("numpy.pad of integers in mode 'linear_ramp'")
    share = np.arange(width) / width
    share = (share if side == 0 else share[::-1]).reshape([width if k == axis else 1 for k in range(x.ndim)])
    return elementwise("add", elementwise("multiply", edge, share.astype(x.dtype)),
                       ((1.0 - share) * end).astype(x.dtype))


def _statistic(x: Node, axis: int, side: int, width: int, mode: str, count: int | None) -> Node:
    """The mean, largest or smallest of the `count` elements nearest to that side."""
    length = x.shape[axis]
    taken = length if count is None else min(count, length)
    if not taken:
        raise GraphError("bad-attribute", "pad: stat_length of 0 yields no value for padding.")
    near = _slab(x, axis, 0, taken) if side == 0 else _slab(x, axis, length - taken, length)
    if mode == "mean" and not x.is_floating:
        raise no_rule("numpy.pad of integers in mode 'mean'")
    value = apply(_STATISTICS[mode], near, axis=axis, keepdims=True)
    return apply("broadcast_to", value, shape=[width if k == axis else s for k, s in enumerate(x.shape)])


# ---- torch -----------------------------------------------------------------------------------------------------------
_TORCH_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@torch_function("pad")
def torch_pad(input: Any, pad: Any, mode: str = "constant", value: Any = None) -> Node:
    """Widths from the last axis backwards, (before, after) each; negative ones crop."""
    x, widths = tensor(input), tuple([int(w) for w in pad])
    if len(widths) % 2:
        raise GraphError("bad-attribute", "pad: Padding length must be divisible by 2.")
    if len(widths) > 2 * x.ndim:
        raise GraphError("bad-attribute", f"pad: Padding length should be less than or equal to two times the input "
                                          f"dimension but got padding length {len(widths)} and input of dimension "
                                          f"{x.ndim}.")
    pairs = [(0, 0)] * (x.ndim - len(widths) // 2) + list(zip(widths[-2::-2], widths[-1::-2], strict=True))
    if mode == "constant":
        x = _cropped(x, pairs)
        return in_constants(x, [(max(a, 0), max(b, 0)) for a, b in pairs], 0 if value is None else value)
    if mode not in _TORCH_MODES:
        raise GraphError("bad-attribute", f"pad: Unrecognised padding mode {mode}.")
    if value is not None:
        raise GraphError("bad-attribute", f'pad: Padding mode "{mode}" doesn\'t take in value argument.')
    if x.ndim not in (len(widths) // 2 + 1, len(widths) // 2 + 2):
        raise no_rule(f"torch.nn.functional.pad in mode {mode!r} of {x.ndim} dimensions by {len(widths)} widths")
    return _torch_reading(x, pairs, mode)


def _cropped(x: Node, pairs: list[Widths]) -> Node:
    for (a, b), s in zip(pairs, x.shape, strict=True):
        if max(-a, 0) + max(-b, 0) > s:
            raise GraphError("bad-attribute", f"pad: the widths {(a, b)} leave less than nothing of an axis of length "
                                              f"{s}.")
    return index(x, tuple([slice(max(-a, 0), s - max(-b, 0)) for (a, b), s in zip(pairs, x.shape, strict=True)]))


def _torch_reading(x: Node, pairs: list[Widths], mode: str) -> Node:
    for axis, (before, after) in enumerate(pairs):
        length = x.shape[axis]
        allowed = {"reflect": length - 1, "circular": length}.get(mode)
        if allowed is not None and max(before, after) > allowed:
            sign = "less than" if mode == "reflect" else "at most"
            raise GraphError("bad-attribute", f"pad: Padding size should be {sign} the corresponding input dimension, "
                                              f"but got: padding ({before}, {after}) at dimension {axis} of input "
                                              f"{list(x.shape)}.")
        if before or after:
            places = positions(length, max(before, 0), max(after, 0), _TORCH_MODES[mode])
            x = read(x, axis, places[max(-before, 0):len(places) - max(-after, 0)])
    return x


__all__ = ["in_constants", "pad", "positions", "read", "torch_pad"]

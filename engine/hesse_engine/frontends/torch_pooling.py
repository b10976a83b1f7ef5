"""torch.nn.functional's pooling and interpolation: reductions over windows, and maps of one axis at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.manipulation import moveaxis
from hesse_engine.frontends.operands import array_of, elementwise, no_rule, tensor, where
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_functions import Extremum
from hesse_engine.frontends.torch_windows import Sizes, batched, padded, sizes_of, unbatched, windows
from hesse_engine.ir.graph import Array, Node, apply, size_of


# ---- the windows of a pool -------------------------------------------------------------------------------------------
def pooled_length(length: int, size: int, step: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows there are; with ceil_mode a last one that hangs over, if it starts inside or in the padding."""
    over = length + 2 * pad - dilation * (size - 1) - 1
    count = (-(-over // step) if ceil_mode else over // step) + 1
    return count - 1 if ceil_mode and (count - 1) * step >= length + pad else count


class Pool:
    """The windows of one pooling call: sizes, and how far x is padded before they are read."""

    def __init__(self, name: str, x: Node, options: Sequence[Any], ceil_mode: bool) -> None:
        rank = x.ndim - 2
        kernel, stride, padding, dilation = options
        self.size = sizes_of("kernel_size", kernel, rank)
        unset = stride is None or (isinstance(stride, (list, tuple)) and not stride)
        self.step = self.size if unset else sizes_of("stride", stride, rank)
        self.pad, self.dilation = sizes_of("padding", padding, rank), sizes_of("dilation", dilation, rank)
        if any([p > s // 2 or p < 0 for p, s in zip(self.pad, self.size, strict=True)]):
            raise GraphError("bad-attribute", f"{name}: pad should be at most half of effective kernel size, but got "
                                              f"pad={list(self.pad)}, kernel_size={list(self.size)}.")
        self.lengths = x.shape[2:]
        self.counts = tuple([pooled_length(n, s, t, p, d, ceil_mode) for n, s, t, p, d in zip(
            self.lengths, self.size, self.step, self.pad, self.dilation, strict=True)])
        if any([c < 1 for c in self.counts]):
            raise GraphError("shape-mismatch", f"{name}: Given input size: {list(x.shape[1:])}. Calculated output "
                                               f"size: {list(self.counts)}. Output size is too small.")

    def read(self, x: Node, value: float) -> Node:
        """(N, C, positions..., offsets of a window flattened), `value` outside of x."""
        widths, crops = [], []
        for n, c, s, t, p, d in zip(self.lengths, self.counts, self.size, self.step, self.pad, self.dilation,
                                    strict=True):
            needed = (c - 1) * t + d * (s - 1) + 1
            widths.append((p, max(needed - n - p, 0)))
            crops.append(min(needed, n + p + widths[-1][1]))
        x = padded(x, widths, value)
        x = apply("slice", x, start=(0,) * x.ndim, count=(*x.shape[:2], *crops))
        y = windows(x, self.size, self.step, self.dilation)
        return apply("reshape", y, shape=(*y.shape[:2], *self.counts, size_of(self.size)))

    def places(self) -> Array:
        """(positions..., offsets flattened): the element of x, counted through its spatial axes; outside of it any."""
        rank, flat = len(self.size), np.zeros((), np.int64)
        for k in range(rank):
            at = np.arange(self.counts[k])[:, None] * self.step[k] - self.pad[k]
            at = (at + np.arange(self.size[k]) * self.dilation[k]).clip(0, self.lengths[k] - 1)
            shape = [1] * (2 * rank)
            shape[k], shape[rank + k] = at.shape
            flat = flat * self.lengths[k] + at.reshape(shape)
        return flat.reshape(*self.counts, size_of(self.size))


def first_largest(read: Node, places: Array) -> Extremum:
    """The largest element along the last axis and where it stands; of several the first, which alone has a derivative.

    Read with a mask and not by its index, so that what it depends on is known to be its window.
    """
    position = apply("argmax", read, axis=-1, keepdims=True)
    chosen = elementwise("equal", position, np.arange(read.shape[-1]))
    values = apply("sum", where(chosen, read, 0.0), axis=-1)
    table = read.builder.constant(np.broadcast_to(places, read.shape))
    return Extremum(values, apply("sum", apply("where", chosen, table, 0), axis=-1))


# ---- pooling ---------------------------------------------------------------------------------------------------------
def _max_pool(rank: int, indices: bool) -> Any:
    name = f"max_pool{rank}d"

    def pool(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False, return_indices: bool = indices) -> Any:
        x, was_batched = batched(name, tensor(input), rank)
        windows_of = Pool(name, x, (kernel_size, stride, padding, dilation), ceil_mode)
        found = first_largest(windows_of.read(x, -math.inf), windows_of.places())
        values = unbatched(found.values, was_batched)
        return Extremum(values, unbatched(found.indices, was_batched)) if return_indices else values

    return pool


def _avg_pool(rank: int) -> Any:
    name = f"avg_pool{rank}d"

    def pool(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None) -> Node:
        x, was_batched = batched(name, tensor(input), rank)
        if divisor_override == 0:
            raise GraphError("bad-attribute", f"{name}: divisor must be not zero.")
        windows_of = Pool(name, x, (kernel_size, stride, padding, 1), ceil_mode)
        total = apply("sum", windows_of.read(x, 0.0), axis=-1)
        count = _elements(windows_of, count_include_pad) if divisor_override is None else np.array(divisor_override)
        return unbatched(elementwise("divide", total, count.astype(x.dtype)), was_batched)

    return pool


def _elements(pool: Pool, include_padding: bool) -> Array:
    """(positions...): how many elements a window has, those of the padding included or not."""
    count = np.ones(())
    for k, (n, c, s, t, p) in enumerate(zip(pool.lengths, pool.counts, pool.size, pool.step, pool.pad, strict=True)):
        start = np.arange(c) * t - p
        stop = np.minimum(start + s, n + p)
        inside = stop - start if include_padding else np.minimum(stop, n) - np.maximum(start, 0)
        count = count * inside.reshape([c if j == k else 1 for j in range(len(pool.size))])
    return count


def _lp_pool(rank: int) -> Any:
    def pool(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Node:
        """(sum x^p)^(1/p) over the window, with slope 0 where it vanishes."""
        size = size_of(sizes_of("kernel_size", kernel_size, rank))
        x = tensor(input)
        mean = _avg_pool(rank)(apply("power", x, float(norm_type)), kernel_size, stride, 0, ceil_mode)
        total = mean * float(size)
        at_zero = apply("equal", total, 0.0)
        return where(at_zero, 0.0, apply("power", where(at_zero, 1.0, total), 1.0 / float(norm_type)))

    return pool


# ---- pools of a given number of windows ------------------------------------------------------------------------------
def _bounds(length: int, count: int) -> tuple[Array, Array]:
    """Window i is floor(i n / count) to ceil((i + 1) n / count)."""
    i = np.arange(count)
    return i * length // count, -(-(i + 1) * length // count)


def _adaptive_sizes(name: str, x: Node, output_size: Any, rank: int) -> Sizes:
    items = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * rank
    if len(items) != rank:
        raise GraphError("bad-attribute", f"{name}: output_size must be {rank} numbers, not {len(items)}.")
    return tuple([n if s is None else int(s) for s, n in zip(items, x.shape[2:], strict=True)])


def along(x: Node, axis: int, weights: Array) -> Node:
    """sum_j weights[i, j] x[.., j, ..] in place of an axis."""
    if weights.shape[0] == weights.shape[1] and np.array_equal(weights, np.eye(len(weights))):
        return x
    matrix = x.builder.constant(weights.T, x.dtype)
    return moveaxis(apply("matmul", moveaxis(x, axis, -1), matrix), -1, axis)


def _adaptive_avg_pool(rank: int) -> Any:
    name = f"adaptive_avg_pool{rank}d"

    def pool(input: Any, output_size: Any) -> Node:
        x, was_batched = batched(name, tensor(input), rank)
        for k, count in enumerate(_adaptive_sizes(name, x, output_size, rank)):
            start, stop = _bounds(x.shape[2 + k], count)
            at = np.arange(x.shape[2 + k])
            inside = (at >= start[:, None]) & (at < stop[:, None])
            x = along(x, 2 + k, inside / np.maximum(stop - start, 1)[:, None])
        return unbatched(x, was_batched)

    return pool


def _adaptive_max_pool(rank: int, indices: bool) -> Any:
    name = f"adaptive_max_pool{rank}d"

    def pool(input: Any, output_size: Any, return_indices: bool = indices) -> Any:
        x, was_batched = batched(name, tensor(input), rank)
        counts, lengths = _adaptive_sizes(name, x, output_size, rank), x.shape[2:]
        flat, is_inside = np.zeros((), np.int64), np.ones((), bool)
        sizes = []
        for k, (count, length) in enumerate(zip(counts, lengths, strict=True)):
            start, stop = _bounds(length, count)
            sizes.append(int((stop - start).max(initial=1)))
            at = start[:, None] + np.arange(sizes[-1])
            shape = [1] * (2 * rank)
            shape[k], shape[rank + k] = at.shape
            flat = flat * length + at.clip(0, length - 1).reshape(shape)
            is_inside = is_inside & (at < stop[:, None]).reshape(shape)
        places = flat.reshape(*counts, size_of(tuple(sizes)))
        lines = apply("reshape", x, shape=(*x.shape[:2], size_of(lengths)))
        read = apply("take", lines, x.builder.constant(places), axis=2)
        found = first_largest(where(is_inside.reshape(places.shape), read, -math.inf), places)
        values = unbatched(found.values, was_batched)
        return Extremum(values, unbatched(found.indices, was_batched)) if return_indices else values

    return pool


for _rank in (1, 2, 3):
    torch_function(f"max_pool{_rank}d")(_max_pool(_rank, False))
    torch_function(f"max_pool{_rank}d_with_indices")(_max_pool(_rank, True))
    torch_function(f"avg_pool{_rank}d")(_avg_pool(_rank))
    torch_function(f"lp_pool{_rank}d")(_lp_pool(_rank))
    torch_function(f"adaptive_avg_pool{_rank}d")(_adaptive_avg_pool(_rank))
    torch_function(f"adaptive_max_pool{_rank}d")(_adaptive_max_pool(_rank, False))
    torch_function(f"adaptive_max_pool{_rank}d_with_indices")(_adaptive_max_pool(_rank, True))


# ---- interpolation ---------------------------------------------------------------------------------------------------
_SMOOTH = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}


@torch_function("interpolate", "upsample")
def interpolate(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Node:
    """x on a grid of another size, a weighted sum of its neighbors along each axis in turn."""
    x = tensor(input)
    rank = x.ndim - 2
    if antialias or (mode in _SMOOTH and _SMOOTH[mode] != rank) or (size is None) == (scale_factor is None):
        raise no_rule(f"torch.nn.functional.interpolate in mode {mode!r} of {x.ndim} dimensions with size={size}, "
                      f"scale_factor={scale_factor}, antialias={antialias}")
    factors = [None] * rank if scale_factor is None else [float(f) for f in np.broadcast_to(
        array_of(scale_factor), rank)]
    wanted = sizes_of("size", size, rank) if size is not None else tuple(
        [math.floor(n * f) for n, f in zip(x.shape[2:], factors, strict=True) if f is not None])
    if mode == "area":
        return _adaptive_avg_pool(rank)(x, wanted)  # type: ignore[no-any-return]
    for k, (count, factor) in enumerate(zip(wanted, factors, strict=True)):
        length = x.shape[2 + k]
        step = length / count if factor is None or recompute_scale_factor else 1.0 / factor
        x = _resampled(x, 2 + k, count, step, mode, bool(align_corners))
    return x


def _resampled(x: Node, axis: int, count: int, step: float, mode: str, align_corners: bool) -> Node:
    length, i = x.shape[axis], np.arange(count)
    if mode in ("nearest", "nearest-exact"):
        at = (i if mode == "nearest" else i + 0.5) * step
        return apply("take", x, x.builder.constant(np.minimum(at.astype(np.int64), length - 1)), axis=axis)
    if mode not in _SMOOTH:
        raise no_rule(f"torch.nn.functional.interpolate in mode {mode!r}")
    source = i * ((length - 1) / (count - 1) if count > 1 else 0.0) if align_corners else (i + 0.5) * step - 0.5
    weights = np.zeros((count, length))
    if mode == "bicubic":
        base = np.floor(source).astype(np.int64)
        for offset in (-1, 0, 1, 2):
            share = _cubic(np.abs(source - base - offset))
            np.add.at(weights, (i, np.clip(base + offset, 0, length - 1)), share)
        return along(x, axis, weights)
    source = np.maximum(source, 0.0)
    base = np.minimum(source.astype(np.int64), length - 1)
    np.add.at(weights, (i, base), 1.0 - (source - base))
    np.add.at(weights, (i, np.minimum(base + 1, length - 1)), source - base)
    return along(x, axis, weights)


def _cubic(distance: Array) -> Array:
    """Keys' convolution kernel with a = -3/4."""
    a, d = -0.75, distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)

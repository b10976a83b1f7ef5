"""torch.nn.functional's convolutions and what rearranges pixels: windows gathered, then contracted with the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.operands import elementwise, tensor, tensors
from hesse_engine.frontends.padding import in_constants
from hesse_engine.frontends.table import torch_function
from hesse_engine.ir.graph import Node, apply, size_of
from hesse_engine.ir.ops.contraction import LETTERS
from hesse_engine.ir.shapes import axis_of

Sizes = tuple[int, ...]


# ---- windows ---------------------------------------------------------------------------------------------------------
def sizes_of(name: str, value: Any, rank: int) -> Sizes:
    """One number for each spatial axis; one for all."""
    items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(items) not in (1, rank):
        raise GraphError("bad-attribute", f"{name} must be one number or {rank}, not {len(items)}.")
    return tuple([int(v) for v in (items if len(items) == rank else items * rank)])


def batched(name: str, x: Node, rank: int) -> tuple[Node, bool]:
    """x as (N, C, spatial...), and whether it was."""
    if x.ndim not in (rank + 1, rank + 2):
        raise GraphError("shape-mismatch", f"{name}: Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input, "
                                           f"but got input of size: {list(x.shape)}.")
    return (x, True) if x.ndim == rank + 2 else (apply("expand_dims", x, axis=0), False)


def unbatched(y: Node, was_batched: bool) -> Node:
    return y if was_batched else apply("squeeze", y, axis=0)


def padded(x: Node, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Node:
    """x with widths on its last axes."""
    lead = [(0, 0)] * (x.ndim - len(widths))
    return in_constants(x, [*lead, *widths], value) if any([w for pair in widths for w in pair]) else x


def windows(x: Node, size: Sizes, step: Sizes, dilation: Sizes) -> Node:
    """(lead..., spatial...) -> (lead..., positions..., offsets...): y[p, k] = x[p step + k dilation]."""
    rank = len(size)
    lead = x.ndim - rank
    for k in reversed(range(rank)):
        x = apply("windows", x, axis=lead + k, size=size[k], step=step[k], dilation=dilation[k])
    places = [lead + 2 * k for k in range(rank)]
    return apply("permute_dims", x, axes=[*range(lead), *places, *[p + 1 for p in places]])


# ---- convolution -----------------------------------------------------------------------------------------------------
def _same(size: Sizes, dilation: Sizes, step: Sizes) -> list[tuple[int, int]]:
    if any([s != 1 for s in step]):
        raise GraphError("bad-attribute", "conv: padding='same' is not supported for strided convolutions.")
    return [(d * (s - 1) // 2, d * (s - 1) - d * (s - 1) // 2) for s, d in zip(size, dilation, strict=True)]


def _widths(name: str, padding: Any, size: Sizes, dilation: Sizes, step: Sizes) -> list[tuple[int, int]]:
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise GraphError("bad-attribute", f"{name}: padding must be a number of each axis, 'same' or 'valid'.")
        return _same(size, dilation, step) if padding == "same" else [(0, 0)] * len(size)
    return [(p, p) for p in sizes_of("padding", padding, len(size))]


def correlate(x: Node, w: Node, step: Sizes, dilation: Sizes, groups: int) -> Node:
    """y[n, g o, p] = sum_(c, k) x[n, g c, p step + k dilation] w[g o, c, k] for every group g of channels."""
    rank, (outs, per_group) = len(step), w.shape[:2]
    read = windows(x, w.shape[2:], step, dilation)
    places, offsets = LETTERS[4:4 + rank], LETTERS[4 + rank:4 + 2 * rank]
    read = apply("reshape", read, shape=(x.shape[0], groups, per_group, *read.shape[2:]))
    kernel = apply("reshape", w, shape=(groups, outs // groups, per_group, *w.shape[2:]))
    if groups == 1:
        read, kernel = apply("squeeze", read, axis=1), apply("squeeze", kernel, axis=0)
        return apply("einsum", read, kernel, subscripts=f"ac{places}{offsets},dc{offsets}->ad{places}")
    y = apply("einsum", read, kernel, subscripts=f"abc{places}{offsets},bdc{offsets}->abd{places}")
    return apply("reshape", y, shape=(x.shape[0], outs, *y.shape[3:]))


def _convolution(rank: int) -> Any:
    name = f"conv{rank}d"

    def convolve(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
                 groups: int = 1) -> Node:
        x, w = tensors(input, weight)
        x, was_batched = batched(name, x, rank)
        step, spread = sizes_of("stride", stride, rank), sizes_of("dilation", dilation, rank)
        _check_kernel(name, x, w, rank, groups)
        x = padded(x, _widths(name, padding, w.shape[2:], spread, step))
        _check_room(name, x.shape[2:], w.shape[2:], spread)
        return unbatched(_biased(correlate(x, w, step, spread, groups), bias), was_batched)

    return convolve


def _check_kernel(name: str, x: Node, w: Node, rank: int, groups: int) -> None:
    if w.ndim != rank + 2:
        raise GraphError("shape-mismatch", f"{name}: expected a weight with {rank + 2} dimensions, but got "
                                           f"{list(w.shape)}.")
    if x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise GraphError("shape-mismatch", f"{name}: Given groups={groups}, weight of size {list(w.shape)}, expected "
                                           f"input{list(x.shape)} to have {w.shape[1] * groups} channels, but got "
                                           f"{x.shape[1]} channels instead.")


def _check_room(name: str, lengths: Sizes, size: Sizes, dilation: Sizes) -> None:
    reach = [d * (s - 1) + 1 for s, d in zip(size, dilation, strict=True)]
    if any([r > n for r, n in zip(reach, lengths, strict=True)]):
        raise GraphError("shape-mismatch", f"{name}: Calculated padded input size per channel: {list(lengths)}. Kernel "
                                           f"size: {reach}. Kernel size can't be greater than actual input size.")


def _biased(y: Node, bias: Any) -> Node:
    if bias is None:
        return y
    b = tensor(bias, y.builder)
    return elementwise("add", y, apply("reshape", b, shape=[b.size if k == 1 else 1 for k in range(y.ndim)]))


def _transposed(rank: int) -> Any:
    name = f"conv_transpose{rank}d"

    def convolve(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
                 groups: int = 1, dilation: Any = 1) -> Node:
        """The transpose of a convolution: x spread by the stride, then correlated with the reversed kernel."""
        x, w = tensors(input, weight)
        x, was_batched = batched(name, x, rank)
        step, spread, cut, more = (sizes_of(n, v, rank) for n, v in (
            ("stride", stride), ("dilation", dilation), ("padding", padding), ("output_padding", output_padding)))
        if x.shape[1] != w.shape[0] or w.shape[0] % groups:
            raise GraphError("shape-mismatch", f"{name}: Given transposed=1, weight of size {list(w.shape)}, expected "
                                               f"input{list(x.shape)} to have {w.shape[0]} channels, but got "
                                               f"{x.shape[1]} channels instead.")
        if any([m >= s and m >= d for m, s, d in zip(more, step, spread, strict=True)]):
            raise GraphError("bad-attribute", f"{name}: output padding must be smaller than either stride or dilation.")
        spaced = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], step, strict=True)]
        x = apply("unslice", x, shape=(*x.shape[:2], *spaced), start=(0,) * x.ndim, step=(1, 1, *step))
        reach = [d * (s - 1) for s, d in zip(w.shape[2:], spread, strict=True)]
        x = _framed(x, [(r - p, r - p + m) for r, p, m in zip(reach, cut, more, strict=True)])
        return unbatched(_biased(correlate(x, _reversed_kernel(w, groups), (1,) * rank, spread, groups), bias),
                         was_batched)

    return convolve


def _framed(x: Node, widths: list[tuple[int, int]]) -> Node:
    """Zeros around x, or less of x where a width is negative."""
    wide = padded(x, [(max(a, 0), max(b, 0)) for a, b in widths])
    start = [0] * (x.ndim - len(widths)) + [max(-a, 0) for a, _ in widths]
    stop = [0] * (x.ndim - len(widths)) + [max(-b, 0) for _, b in widths]
    return apply("slice", wide, start=start, count=[n - a - b for n, a, b in zip(wide.shape, start, stop, strict=True)])


def _reversed_kernel(w: Node, groups: int) -> Node:
    """(g c, o, k) -> (g o, c, reversed k)."""
    ins, outs = w.shape[:2]
    w = apply("flip", w, axis=tuple(range(2, w.ndim)))
    w = apply("reshape", w, shape=(groups, ins // groups, outs, *w.shape[2:]))
    w = apply("permute_dims", w, axes=(0, 2, 1, *range(3, w.ndim)))
    return apply("reshape", w, shape=(groups * outs, ins // groups, *w.shape[3:]))


for _rank in (1, 2, 3):
    torch_function(f"conv{_rank}d")(_convolution(_rank))
    torch_function(f"conv_transpose{_rank}d")(_transposed(_rank))


# ---- unfold and fold -------------------------------------------------------------------------------------------------
@torch_function("unfold", "im2col")
def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Node:
    """(N, C, H, W) -> (N, C k_h k_w, windows)."""
    x, was_batched = batched("unfold", tensor(input), 2)
    size, spread, pad, step = (sizes_of(n, v, 2) for n, v in (
        ("kernel_size", kernel_size), ("dilation", dilation), ("padding", padding), ("stride", stride)))
    y = windows(padded(x, [(p, p) for p in pad]), size, step, spread)
    y = apply("permute_dims", y, axes=(0, 1, 4, 5, 2, 3))
    count = y.shape[4] * y.shape[5]
    return unbatched(apply("reshape", y, shape=(x.shape[0], x.shape[1] * size_of(size), count)), was_batched)


@torch_function("Tensor.unfold")
def unfold_axis(input: Any, dimension: int, size: int, step: int) -> Node:
    """The windows along an axis, their offsets on a new last axis."""
    x = tensor(input)
    k = axis_of("unfold", dimension, x.ndim) if x.ndim else 0
    if not x.ndim:
        x = apply("reshape", x, shape=(1,))
    if size > x.shape[k]:
        raise GraphError("shape-mismatch", f"unfold: maximum size for tensor at dimension {k} is {x.shape[k]} but size "
                                           f"is {size}.")
    y = apply("windows", x, axis=k, size=size, step=step)
    return apply("permute_dims", y, axes=[*range(k + 1), *range(k + 2, y.ndim), k + 1])


@torch_function("fold", "col2im")
def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Node:
    """(N, C k_h k_w, windows) -> (N, C, H, W): the transpose of unfold, overlapping windows added."""
    x = tensor(input)
    was_batched = x.ndim == 3
    x = x if was_batched else apply("expand_dims", x, axis=0)
    out, size, spread, pad, step = (sizes_of(n, v, 2) for n, v in (
        ("output_size", output_size), ("kernel_size", kernel_size), ("dilation", dilation), ("padding", padding),
        ("stride", stride)))
    whole = [n + 2 * p for n, p in zip(out, pad, strict=True)]
    counts = [(n - d * (k - 1) - 1) // s + 1 for n, k, d, s in zip(whole, size, spread, step, strict=True)]
    if x.shape[1] % size_of(size) or x.shape[2] != counts[0] * counts[1]:
        raise GraphError("shape-mismatch", f"fold: Given output_size={list(out)} and kernel_size={list(size)}, "
                                           f"expected {counts[0] * counts[1]} blocks of a multiple of {size_of(size)}, "
                                           f"but got an input of size {list(x.shape)}.")
    channels = x.shape[1] // size_of(size)
    x = apply("reshape", x, shape=(x.shape[0], channels, *size, *counts))
    x = apply("permute_dims", x, axes=(0, 1, 4, 2, 5, 3))
    for k in (0, 1):  # (count, size) on axes 2 + k and 3 + k become one of length `whole`
        places = np.arange(counts[k])[:, None] * step[k] + np.arange(size[k]) * spread[k]
        x = apply("scatter_add", x, x.builder.constant(places), axis=2 + k, size=whole[k])
    x = apply("slice", x, start=(0, 0, *pad), count=(*x.shape[:2], *out))
    return unbatched(x, was_batched)


# ---- pixels ----------------------------------------------------------------------------------------------------------
@torch_function()
def pixel_shuffle(input: Any, upscale_factor: int) -> Node:
    """(.., C r², H, W) -> (.., C, H r, W r)."""
    x, r = tensor(input), int(upscale_factor)
    *lead, channels, height, width = x.shape
    if channels % (r * r):
        raise GraphError("shape-mismatch", f"pixel_shuffle: expects its input's 'channel' dimension to be divisible by "
                                           f"the square of upscale_factor, but input.size(-3)={channels} is not "
                                           f"divisible by {r * r}.")
    x = apply("reshape", x, shape=(*lead, channels // (r * r), r, r, height, width))
    n = len(lead)
    x = apply("permute_dims", x, axes=(*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return apply("reshape", x, shape=(*lead, channels // (r * r), height * r, width * r))


@torch_function()
def pixel_unshuffle(input: Any, downscale_factor: int) -> Node:
    """(.., C, H r, W r) -> (.., C r², H, W)."""
    x, r = tensor(input), int(downscale_factor)
    *lead, channels, height, width = x.shape
    x = apply("reshape", x, shape=(*lead, channels, height // r, r, width // r, r))
    n = len(lead)
    x = apply("permute_dims", x, axes=(*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return apply("reshape", x, shape=(*lead, channels * r * r, height // r, width // r))


@torch_function()
def channel_shuffle(input: Any, groups: int) -> Node:
    """(N, g c, ...) -> the channels of the groups in turn."""
    x = tensor(input)
    y = apply("reshape", x, shape=(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    y = apply("permute_dims", y, axes=(0, 2, 1, *range(3, y.ndim)))
    return apply("reshape", y, shape=x.shape)

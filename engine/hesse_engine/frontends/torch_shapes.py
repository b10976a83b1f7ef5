"""torch's functions and methods that rearrange, join and split, with torch's signatures."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends import gathering, manipulation
from hesse_engine.frontends.operands import check_room, no_rule, tensor, tensors
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_functions import items_of
from hesse_engine.ir.graph import Node, apply, size_of
from hesse_engine.ir.shapes import axis_of, normalized_shape


# ---- shapes ----------------------------------------------------------------------------------------------------------
@torch_function("reshape", "view")
def reshape(input: Any, *shape: Any) -> Node:
    items = items_of(shape)
    if len(items) == 1 and str(items[0]).startswith("torch."):
        raise no_rule("torch.Tensor.view(dtype), which reads the bits as another type,")
    return apply("reshape", tensor(input), shape=items)


@torch_function("view_as", "reshape_as")
def view_as(input: Any, other: Any) -> Node:
    return apply("reshape", tensor(input), shape=tuple(other.shape))


@torch_function()
def expand(input: Any, *size: Any) -> Node:
    x, wanted = tensor(input), items_of(size)
    own = (1,) * (len(wanted) - x.ndim) + x.shape
    return apply("broadcast_to", x, shape=[s if w == -1 else w for s, w in zip(own, wanted, strict=True)]) \
        if len(own) == len(wanted) else apply("broadcast_to", x, shape=wanted)


@torch_function()
def expand_as(input: Any, other: Any) -> Node:
    return apply("broadcast_to", tensor(input), shape=tuple(other.shape))


@torch_function()
def broadcast_to(input: Any, size: Any) -> Node:
    return expand(input, size)


@torch_function()
def broadcast_tensors(*tensors: Any) -> tuple[Node, ...]:
    return manipulation.broadcast_arrays(*items_of(tensors))


@torch_function()
def permute(input: Any, *dims: Any) -> Node:
    return apply("permute_dims", tensor(input), axes=items_of(dims))


@torch_function("transpose", "swapaxes", "swapdims")
def transpose(input: Any, dim0: int, dim1: int) -> Node:
    return manipulation.swapaxes(input, dim0, dim1)


@torch_function()
def t(input: Any) -> Node:
    x = tensor(input)
    if x.ndim > 2:
        raise GraphError("shape-mismatch", f"t() expects a tensor with <= 2 dimensions, but it has {x.ndim}.")
    return apply("permute_dims", x)


@torch_function("movedim", "moveaxis")
def movedim(input: Any, source: Any, destination: Any) -> Node:
    return manipulation.moveaxis(input, source, destination)


@torch_function()
def unsqueeze(input: Any, dim: int) -> Node:
    return apply("expand_dims", tensor(input), axis=dim)


@torch_function()
def squeeze(input: Any, dim: Any = None) -> Node:
    x = tensor(input)
    if dim is None:
        return apply("squeeze", x)
    dims = [axis_of("squeeze", d, x.ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    # an axis that is longer than 1 stays
    return apply("reshape", x, shape=[s for k, s in enumerate(x.shape) if k not in dims or s != 1])


@torch_function()
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Node:
    x = tensor(input)
    if not x.ndim:
        return apply("reshape", x, shape=(1,))
    a, b = axis_of("flatten", start_dim, x.ndim), axis_of("flatten", end_dim, x.ndim)
    joined = 1
    for length in x.shape[a:b + 1]:
        joined *= length
    return apply("reshape", x, shape=(*x.shape[:a], joined, *x.shape[b + 1:]))


@torch_function()
def unflatten(input: Any, dim: int, sizes: Any) -> Node:
    x = tensor(input)
    k = axis_of("unflatten", dim, x.ndim)
    parts = normalized_shape("unflatten", x.shape[k], tuple(sizes))
    return apply("reshape", x, shape=(*x.shape[:k], *parts, *x.shape[k + 1:]))


@torch_function()
def sum_to_size(input: Any, *size: Any) -> Node:
    """Sums over the axes that broadcasting from `size` would have repeated."""
    x, wanted = tensor(input), items_of(size)
    lead = x.ndim - len(wanted)
    if lead < 0 or any([w not in (1, s) for w, s in zip(wanted, x.shape[lead:], strict=True)]):
        raise GraphError("shape-mismatch", f"size {{{list(wanted)}}} is not expandable to size {{{list(x.shape)}}}.")
    repeated = [lead + k for k, w in enumerate(wanted) if w == 1 and x.shape[lead + k] != 1]
    return apply("reshape", apply("sum", x, axis=(*range(lead), *repeated)), shape=tuple(wanted))


@torch_function()
def stride(input: Any, dim: int | None = None) -> Any:
    """The steps of a row-major array: every traced array counts as one."""
    x = tensor(input)
    steps = tuple([size_of(x.shape[k + 1:]) for k in range(x.ndim)])
    return steps if dim is None else steps[axis_of("stride", dim, x.ndim)]


@torch_function()
def is_contiguous(input: Any) -> bool:
    return True


@torch_function()
def element_size(input: Any) -> int:
    return tensor(input).dtype.itemsize


@torch_function()
def ravel(input: Any) -> Node:
    return manipulation.ravel(input)


for _name in ("atleast_1d", "atleast_2d", "atleast_3d"):
    torch_function(_name)(getattr(manipulation, _name))


# ---- order -----------------------------------------------------------------------------------------------------------
@torch_function()
def flip(input: Any, *dims: Any) -> Node:
    return apply("flip", tensor(input), axis=items_of(dims))


torch_function("fliplr")(manipulation.fliplr)
torch_function("flipud")(manipulation.flipud)


@torch_function()
def roll(input: Any, shifts: Any, dims: Any = None) -> Node:
    return manipulation.roll(input, shifts, dims)


@torch_function()
def rot90(input: Any, k: int = 1, dims: Any = (0, 1)) -> Node:
    return manipulation.rot90(input, k, dims)


@torch_function("repeat", "tile")
def repeat(input: Any, *sizes: Any) -> Node:
    return manipulation.tile(input, items_of(sizes))


@torch_function()
def repeat_interleave(input: Any, repeats: Any, dim: int | None = None) -> Node:
    return manipulation.repeat(input, repeats, dim)


# ---- joining and splitting -------------------------------------------------------------------------------------------
@torch_function("cat", "concat", "concatenate")
def cat(tensors: Any, dim: int = 0) -> Node:
    return manipulation.concatenate(tensors, dim)


@torch_function()
def stack(tensors: Any, dim: int = 0) -> Node:
    return manipulation.stack(tensors, dim)


for _name in ("hstack", "vstack", "dstack", "column_stack"):
    torch_function(_name)(getattr(manipulation, _name))
torch_function("row_stack")(manipulation.vstack)


@torch_function()
def split(tensor_: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Node, ...]:
    """Pieces of the given size, or of the given sizes."""
    x = tensor(tensor_)
    k = axis_of("split", dim, x.ndim)
    length = x.shape[k]
    if isinstance(split_size_or_sections, (int, np.integer)):
        size = int(split_size_or_sections)
        if size <= 0:
            raise GraphError("bad-attribute", f"split: the size of a piece must be positive, not {size}.")
        sizes = [min(size, length - at) for at in range(0, length, size)] or [0]
    else:
        sizes = [int(s) for s in split_size_or_sections]
        if sum(sizes) != length:
            raise GraphError("shape-mismatch", f"split: sizes {sizes} do not add up to {length}.")
    return tuple(manipulation.array_split(x, np.cumsum(sizes)[:-1].tolist(), k))


torch_function("split_with_sizes")(split)


@torch_function()
def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Node, ...]:
    x = tensor(input)
    length = x.shape[axis_of("chunk", dim, x.ndim)]
    return split(x, max(-(-length // chunks), 1), dim)


@torch_function()
def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> tuple[Node, ...]:
    return tuple(manipulation.array_split(input, indices_or_sections, dim))


@torch_function()
def unbind(input: Any, dim: int = 0) -> tuple[Node, ...]:
    return manipulation.unstack(input, axis=dim)


@torch_function()
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Node, ...]:
    return gathering.meshgrid(*items_of(tensors), indexing=indexing)


def _divided(name: str, axis: Any, rank: int) -> Any:
    def split_along(input: Any, indices_or_sections: Any) -> tuple[Node, ...]:
        x = tensor(input)
        if x.ndim < rank:
            raise GraphError("shape-mismatch", f"torch.{name} requires a tensor with at least {rank} dimension, but "
                                               f"got a tensor with {x.ndim} dimensions!")
        return tuple(manipulation.split(x, indices_or_sections, axis(x)))

    return split_along


torch_function("hsplit")(_divided("hsplit", lambda x: 0 if x.ndim == 1 else 1, 1))
torch_function("vsplit")(_divided("vsplit", lambda x: 0, 2))
torch_function("dsplit")(_divided("dsplit", lambda x: 2, 3))


@torch_function()
def block_diag(*tensors_: Any) -> Node:
    """Matrices along the diagonal of one; vectors are rows, numbers of size 1 x 1."""
    blocks = [manipulation.atleast_2d(x) for x in tensors(*items_of(tensors_))]
    width, at, rows = sum([b.shape[1] for b in blocks]), 0, []
    for b in blocks:
        rows.append(apply("unslice", b, shape=(b.shape[0], width), start=(0, at if b.size else 0)))
        at += b.shape[1]
    return apply("concat", *rows, axis=0)


@torch_function()
def cartesian_prod(*tensors_: Any) -> Node:
    vectors = items_of(tensors_)
    if len(vectors) == 1:
        return tensor(vectors[0])
    grids = gathering.meshgrid(*tensors(*vectors), indexing="ij")
    return apply("stack", *[manipulation.ravel(g) for g in grids], axis=1)


@torch_function()
def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Node:
    """The rows x_i, x_j, ... for i < j < ..., or i <= j <= ... with replacement."""
    x = tensor(input)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    check_room(x.builder, r * math.comb(x.shape[0] + (r - 1) * with_replacement, r))
    places = np.array(list(choose(range(x.shape[0]), r)), np.int64).reshape(-1, r)
    return apply("take", x, x.builder.constant(places), axis=0)


@torch_function()
def diagflat(input: Any, offset: int = 0) -> Node:
    return apply("diag", manipulation.ravel(input), offset=offset)


@torch_function("vander")
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Node:  # noqa: N803  (torch's name)
    """x^(N-1), ..., x, 1 in columns."""
    node = tensor(x)
    count = node.shape[-1] if N is None else N
    powers = range(count) if increasing else range(count - 1, -1, -1)
    return apply("stack", *[apply("power", node, k) for k in powers], axis=-1)

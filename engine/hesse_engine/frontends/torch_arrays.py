"""torch's products, gathering functions and conversions, with torch's signatures."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError, InputError
from hesse_engine.frontends import gathering, manipulation, products
from hesse_engine.frontends.indexing import gather as gather_along
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.operands import (
    array_of,
    builder_of,
    dtype_like,
    full_like,
    tensor,
    tensors,
)
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_functions import items_of
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.shapes import axis_of, convert

# ---- products --------------------------------------------------------------------------------------------------------
torch_function("matmul", "linalg_matmul")(products.matmul)
torch_function("outer", "ger")(products.outer)
torch_function("inner")(products.inner)
torch_function("kron")(products.kron)


def _product(op: str, left: int, right: int) -> Any:
    def multiply(input: Any, other: Any) -> Node:
        a, b = tensors(input, other)
        if (a.ndim, b.ndim) != (left, right):
            raise GraphError(
                "shape-mismatch",
                f"{op} takes operands with {left} and {right} dimensions, not {a.ndim} and {b.ndim}.",
            )
        return apply("matmul", a, b)

    return multiply


for _name, _left, _right in (("mm", 2, 2), ("mv", 2, 1), ("bmm", 3, 3)):
    torch_function(_name)(_product(_name, _left, _right))
torch_function("dot", "vdot")(_product("dot", 1, 1))


@torch_function("vecdot", "linalg_vecdot")
def vecdot(x: Any, y: Any, *, dim: int = -1) -> Node:
    return products.vecdot(x, y, axis=dim)


@torch_function("cross", "linalg_cross")
def cross(input: Any, other: Any, dim: int = -1) -> Node:
    return products.cross(input, other, axis=dim)


@torch_function()
def trace(input: Any) -> Node:
    return manipulation.trace(input)


@torch_function()
def tril(input: Any, diagonal: int = 0) -> Node:
    return manipulation.tril(input, diagonal)


@torch_function()
def triu(input: Any, diagonal: int = 0) -> Node:
    return manipulation.triu(input, diagonal)


@torch_function()
def diag(input: Any, diagonal: int = 0) -> Node:
    return manipulation.diag(input, diagonal)


@torch_function()
def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Node:
    return manipulation.diagonal(input, offset, dim1, dim2)


@torch_function()
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Node:
    x = tensor(input)
    n = x.shape[-1] + abs(offset)
    start = offset if offset >= 0 else -offset * n
    lead = (0,) * (x.ndim - 1)
    line = apply("unslice", x, shape=(*x.shape[:-1], n * n), start=(*lead, start if x.shape[-1] else 0),
                 step=(*[1] * len(lead), n + 1))
    return manipulation.moveaxis(apply("reshape", line, shape=(*x.shape[:-1], n, n)), [-2, -1], [dim1, dim2])


# ---- gathering -------------------------------------------------------------------------------------------------------
@torch_function()
def index_select(input: Any, dim: int, index: Any) -> Node:
    return gathering.take(input, index, dim)


@torch_function()
def select(input: Any, dim: int, index: int) -> Node:
    return narrow_at(tensor(input), dim, index)


def narrow_at(x: Node, dim: int, place: Any) -> Node:
    return index(x, (*[slice(None)] * axis_of("select", dim, x.ndim), place))


@torch_function()
def narrow(input: Any, dim: int, start: int, length: int) -> Node:
    return narrow_at(tensor(input), dim, slice(start, start + length))


@torch_function()
def take(input: Any, index: Any) -> Node:
    return gathering.take(input, index)


@torch_function()
def gather(input: Any, dim: int, index: Any) -> Node:
    builder = builder_of(input, index)
    x, places = tensor(input, builder), tensor(index, builder)
    return gather_along(x, places, axis_of("gather", dim, x.ndim))


@torch_function()
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Node:
    return gathering.take_along_axis(input, indices, dim)


@torch_function()
def one_hot(input: Any, num_classes: int) -> Node:
    builder = builder_of(input)
    return apply("take", builder.constant(np.eye(num_classes, dtype=np.int64)), tensor(input, builder), axis=0)


# ---- arrays like another, dtypes -------------------------------------------------------------------------------------
@torch_function("zeros_like", "empty_like")
def zeros_like(input: Any, *, dtype: Any = None) -> Node:
    return full_like(tensor(input), 0, dtype)


@torch_function()
def ones_like(input: Any, *, dtype: Any = None) -> Node:
    return full_like(tensor(input), 1, dtype)


@torch_function("full_like")
def full_like_(input: Any, fill_value: Any, *, dtype: Any = None) -> Node:
    return full_like(tensor(input), fill_value, dtype)


@torch_function("new_zeros", "new_empty")
def new_zeros(input: Any, *size: Any, dtype: Any = None) -> Node:
    return full_like(tensor(input), 0, dtype, items_of(size))


@torch_function()
def new_ones(input: Any, *size: Any, dtype: Any = None) -> Node:
    return full_like(tensor(input), 1, dtype, items_of(size))


@torch_function()
def new_full(input: Any, size: Any, fill_value: Any, *, dtype: Any = None) -> Node:
    return full_like(tensor(input), fill_value, dtype, size)


@torch_function()
def new_tensor(input: Any, data: Any, *, dtype: Any = None) -> Node:
    x = tensor(input)
    return x.builder.constant(array_of(data), x.dtype if dtype is None else dtype_like(dtype))


@torch_function("to", "type")
def to(input: Any, *args: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False) -> Node:
    x = tensor(input)
    for value in (*args, device, dtype):
        if isinstance(value, Node):
            return convert(x, value.dtype)
        if value is None or isinstance(value, bool) or str(value).startswith("cpu"):
            continue
        if str(value).split(":")[0] in ("cuda", "mps", "xpu", "meta"):
            raise device_absent(value)
        return convert(x, dtype_like(value))
    return x


def device_absent(device: Any) -> Exception:
    return InputError("device-absent", f"Device {device} is not offered; only cpu is.")


@torch_function()
def type_as(input: Any, other: Any) -> Node:
    return convert(tensor(input), other.dtype if isinstance(other, Node) else array_of(other).dtype)


def _to(dtype: Any) -> Any:
    def convert_to(input: Any) -> Node:
        return convert(tensor(input), np.dtype(dtype))

    return convert_to


for _name, _dtype in (("double", np.float64), ("float", np.float32), ("long", np.int64), ("int", np.int32),
                      ("bool", np.bool_)):
    torch_function(_name)(_to(_dtype))


@torch_function()
def is_floating_point(input: Any) -> bool:
    return tensor(input).is_floating


@torch_function()
def is_complex(input: Any) -> bool:
    return False


@torch_function("numel", "nelement")
def numel(input: Any) -> int:
    return tensor(input).size


@torch_function("dim", "ndimension")
def dim(input: Any) -> int:
    return tensor(input).ndim

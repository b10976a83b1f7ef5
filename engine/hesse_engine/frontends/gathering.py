"""NumPy's functions that gather, and those that make arrays like another."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.frontends.indexing import gather, index
from hesse_engine.frontends.manipulation import broadcast_arrays, ravel
from hesse_engine.frontends.operands import (
    builder_of,
    check_room,
    full_like,
    tensor,
)
from hesse_engine.frontends.scattering import in_mode
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.shapes import axis_of, broadcast


# ---- gathering -------------------------------------------------------------------------------------------------------
@numpy_function()
def take(a: Any, indices: Any, axis: int | None = None, *, mode: str = "raise") -> Node:
    builder = builder_of(a, indices)
    x = tensor(a, builder)
    if axis is None:
        x, axis = ravel(x), 0
    k = axis_of("take", axis, x.ndim)
    if mode != "raise":
        indices = in_mode(tensor(indices, builder), x.shape[k], mode)
    return index(x, (*[slice(None)] * k, list(indices) if isinstance(indices, tuple) else indices))


@numpy_function()
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Node:
    builder = builder_of(arr, indices)
    x, places = tensor(arr, builder), tensor(indices, builder)
    if axis is None:
        x, axis = ravel(x), 0
    k = axis_of("take_along_axis", axis, x.ndim)
    rest = [tuple([1 if j == k else s for j, s in enumerate(n.shape)]) for n in (x, places)]
    others = broadcast("take_along_axis", rest)
    x = apply("broadcast_to", x, shape=[x.shape[k] if j == k else s for j, s in enumerate(others)])
    places = apply("broadcast_to", places, shape=[places.shape[k] if j == k else s for j, s in enumerate(others)])
    return gather(x, places, k)


@numpy_function()
def delete(arr: Any, obj: Any, axis: int | None = None) -> Node:
    x = tensor(arr)
    if axis is None:
        x, axis = ravel(x), 0
    k = axis_of("delete", axis, x.ndim)
    check_room(x.builder, x.shape[k])
    return apply("take", x, x.builder.constant(np.delete(np.arange(x.shape[k]), obj)), axis=k)


@numpy_function()
def meshgrid(*xi: Any, indexing: str = "xy", sparse: bool = False) -> tuple[Node, ...]:
    builder = builder_of(*xi)
    lines = [ravel(tensor(x, builder)) for x in xi]
    order = list(range(len(lines)))
    if indexing == "xy" and len(lines) > 1:
        order[0], order[1] = 1, 0
    grids = [apply("reshape", x, shape=[x.size if order[j] == k else 1 for j in range(len(lines))])
             for k, x in enumerate(lines)]
    return tuple(grids) if sparse else broadcast_arrays(*grids)


# ---- arrays like another ---------------------------------------------------------------------------------------------
@numpy_function()
def zeros_like(a: Any, dtype: Any = None, *, shape: Any = None) -> Node:
    return full_like(tensor(a), 0, dtype, shape)


@numpy_function("ones_like")
def ones_like(a: Any, dtype: Any = None, *, shape: Any = None) -> Node:
    return full_like(tensor(a), 1, dtype, shape)


@numpy_function("empty_like")
def empty_like(prototype: Any, dtype: Any = None, *, shape: Any = None) -> Node:
    return full_like(tensor(prototype), 0, dtype, shape)


@numpy_function("full_like")
def full_like_(a: Any, fill_value: Any, dtype: Any = None, *, shape: Any = None) -> Node:
    x = tensor(a, builder_of(a, fill_value))
    value = fill_value if isinstance(fill_value, (bool, int, float)) else tensor(fill_value, x.builder)
    if isinstance(value, Node) and shape is None:
        shape = x.shape
    return full_like(x, value, dtype, shape)

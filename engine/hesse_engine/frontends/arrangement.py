"""NumPy's less used ways to arrange arrays, what it says of them, and what it offers that has no real derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from hesse_engine.errors import FunctionError, GraphError
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.manipulation import broadcast_arrays, ravel, split
from hesse_engine.frontends.operands import builder_of, check_room, elementwise, full_like, tensor, tensors
from hesse_engine.frontends.reductions import all_
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import BOOL, Array, Node, apply
from hesse_engine.ir.shapes import axis_of, integers


# ---- arrangement -----------------------------------------------------------------------------------------------------
@numpy_function()
def block(arrays: Any) -> Node:
    """Nested lists of blocks as one array: the innermost lists are joined along the last axis, the next along the
    one before it."""
    depth = _depth(arrays)
    rank = max([n.ndim for n in _leaves(arrays, builder_of(arrays))] + [depth])
    return _joined(arrays, builder_of(arrays), rank, depth)


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        if not value:
            raise GraphError("bad-attribute", "block: a list must not be empty.")
        value, depth = value[0], depth + 1
    return depth


def _leaves(value: Any, builder: Any) -> list[Node]:
    if not isinstance(value, list):
        return [tensor(value, builder)]
    return [n for v in value for n in _leaves(v, builder)]


def _joined(value: Any, builder: Any, rank: int, depth: int) -> Node:
    if isinstance(value, list) != (depth > 0):
        raise GraphError("bad-attribute", "block: the lists must be nested to one depth.")
    if not depth:
        x = tensor(value, builder)
        return apply("reshape", x, shape=(1,) * (rank - x.ndim) + x.shape)
    return apply("concat", *tensors(*[_joined(v, builder, rank, depth - 1) for v in value]), axis=-depth)


@numpy_function()
def diagflat(v: Any, k: int = 0) -> Node:
    """The flattened elements on a diagonal."""
    return apply("diag", ravel(tensor(v)), offset=k)


@numpy_function()
def resize(a: Any, new_shape: Any) -> Node:
    """The flattened elements over again, as often as the shape needs them."""
    x = ravel(tensor(a))
    shape = integers("resize", "new_shape", new_shape if isinstance(new_shape, (tuple, list)) else (new_shape,))
    size = int(np.prod(shape, dtype=np.int64))
    check_room(x.builder, size)
    if not x.size or not size:
        return full_like(x, 0, shape=shape)
    return apply("reshape", index(x, np.arange(size) % x.size), shape=shape)


@numpy_function()
def rollaxis(a: Any, axis: int, start: int = 0) -> Node:
    """An axis moved back until it stands before another."""
    x = tensor(a)
    k = axis_of("rollaxis", axis, x.ndim)
    to = start if start == x.ndim else axis_of("rollaxis", start, x.ndim)
    order = [j for j in range(x.ndim) if j != k]
    order.insert(to - (k < to), k)
    return apply("permute_dims", x, axes=order)


@numpy_function()
def dsplit(ary: Any, indices_or_sections: Any) -> list[Node]:
    """The array taken apart along its third axis."""
    return split(ary, indices_or_sections, 2)


# ---- positions: constants of the shape -------------------------------------------------------------------------------
def _positions(make: Callable[..., Any]) -> Callable[..., Any]:
    def of(arr: Any, k: int = 0) -> tuple[Array, ...]:
        x = tensor(arr)
        if x.ndim != 2:
            raise GraphError("shape-mismatch", f"{make.__name__}_from takes a matrix, not {x.ndim} dimensions.")
        check_room(x.builder, x.size)
        found: tuple[Array, ...] = make(x.shape[0], k, x.shape[1])
        return found

    return of


numpy_function("triu_indices_from")(_positions(np.triu_indices))
numpy_function("tril_indices_from")(_positions(np.tril_indices))


@numpy_function()
def diag_indices_from(arr: Any) -> tuple[Array, ...]:
    """The positions of the main diagonal of a hypercube."""
    x = tensor(arr)
    if x.ndim < 2 or len(set(x.shape)) != 1:
        raise GraphError("shape-mismatch", f"diag_indices_from: {list(x.shape)} has not one length on all of its axes.")
    return np.diag_indices(x.shape[0], x.ndim)


# ---- what an array is ------------------------------------------------------------------------------------------------
@numpy_function()
def array_equiv(a1: Any, a2: Any) -> Node:
    """Whether two arrays are equal once broadcast; not where they do not broadcast."""
    builder = builder_of(a1, a2)
    try:
        x, y = broadcast_arrays(tensor(a1, builder), tensor(a2, builder))
    except GraphError:
        return builder.constant(False)
    return all_(elementwise("equal", x, y))


@numpy_function()
def isreal(x: Any) -> Node:
    """True: what is traced is real."""
    return full_like(tensor(x), True, BOOL)


@numpy_function()
def iscomplex(x: Any) -> Node:
    """False: what is traced is real."""
    return full_like(tensor(x), False, BOOL)


@numpy_function()
def isrealobj(x: Any) -> bool:
    return True


@numpy_function()
def iscomplexobj(x: Any) -> bool:
    return False


# ---- complex results -------------------------------------------------------------------------------------------------
def _complex(name: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise FunctionError(
            "unsupported-complex", f"numpy.{name} gives complex numbers, which are not supported.",
            hint="Write the transform as a product with its real and imaginary parts: np.cos(w) @ x and np.sin(w) @ x.",
        )

    return refuse


for _name in ("fft", "ifft", "rfft", "irfft", "fft2", "ifft2", "fftn", "ifftn", "rfft2", "irfft2", "rfftn", "irfftn",
              "hfft", "ihfft"):
    numpy_function(f"fft.{_name}")(_complex(f"fft.{_name}"))

"""`x[key]` with NumPy's meaning, in the rows slice, reshape, permute_dims and take.

    1. ints and slices become one `slice`; where there is an index array, an int is one too, of 0 dimensions
    2. None inserts an axis of length 1, an int without arrays drops its axis: one `reshape`
    3. index arrays: their axes are brought together, flattened, and read by one `take` at raveled positions;
       the result's axes stand where the arrays stood, or first when the arrays were apart
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError, GraphError, IndexRangeError
from hesse_engine.frontends.operands import array_of, check_room, has_node, ladder, nested
from hesse_engine.ir.graph import BOOL, Array, Node, apply, size_of
from hesse_engine.ir.ops.gathering import check_indices
from hesse_engine.ir.shapes import broadcast

Index = Array | Node


@dataclass(frozen=True, slots=True)
class Fancy:
    """An index array for one axis."""

    index: Index


def index(x: Node, key: Any) -> Node:
    """x[key]."""
    items = _expanded(x, [_item(k, x) for k in (key if type(key) is tuple else (key,))])
    has_arrays = any([isinstance(i, Fancy) for i in items])
    starts, steps, counts = [], [], []
    shape: list[int] = []
    fancy: list[tuple[int, Index]] = []
    places: list[int] = []          # positions in `items`, to see whether the arrays stand together
    axis = 0
    for place, item in enumerate(items):
        if item is Ellipsis:
            continue
        if item is None or isinstance(item, bool):
            if isinstance(item, bool):
                fancy.append((len(shape), np.zeros(int(item), np.int64)))
                places.append(place)
            shape.append(1)
            continue
        length = x.shape[axis]
        if isinstance(item, slice):
            start, step, count = _affine(item, length)
            shape.append(count)
        elif isinstance(item, Fancy) or has_arrays:
            start, step, count = 0, 1, length
            values = item.index if isinstance(item, Fancy) else np.asarray(item)
            _check(values, axis, length)
            fancy.append((len(shape), values))
            places.append(place)
            shape.append(length)
        else:
            start, step, count = _position(item, axis, length), 1, 1
        starts.append(start)
        steps.append(step)
        counts.append(count)
        axis += 1
    y = apply("slice", x, start=starts, step=steps, count=counts)
    y = apply("reshape", y, shape=shape)
    if not fancy:
        return y
    together = places == list(range(places[0], places[0] + len(places)))
    return _gather(y, fancy, together)


# ---- reading the key -------------------------------------------------------------------------------------------------
def _item(key: Any, x: Node) -> Any:
    """One entry of the key: int, slice, None, Ellipsis, bool (a 0-dimensional mask), an array or a node."""
    if key is None or key is Ellipsis or type(key) in (int, bool, slice):
        return key
    if isinstance(key, (list, tuple)) and has_node(key):
        key = nested(key, x.builder)
    if isinstance(key, Node):
        if key.dtype == BOOL:
            raise ArgumentTypeError("cut-graph", "A computed mask as an index decides the shape of the result.",
                                    hint="Keep the shape: where(mask, x, 0).")
        return _integral(key)
    if isinstance(key, np.bool_):
        return bool(key)
    if hasattr(key, "__index__") and np.ndim(key) == 0:
        return operator.index(key)
    return _array(key)


def _integral(key: Index) -> Index:
    if key.dtype.kind not in "iub":
        raise ArgumentTypeError("bad-type", f"An index must be of integers or booleans, not of {key.dtype}.")
    return key


def _array(key: Any) -> Any:
    array = array_of(key)
    if array.size == 0 and isinstance(key, (list, tuple)):
        array = array.astype(np.int64)
    _integral(array)
    if array.ndim == 0:
        return bool(array) if array.dtype == BOOL else int(array)
    return array


def _expanded(x: Node, items: list[Any]) -> list[Any]:
    """The items with masks as index arrays and the ellipsis as full slices: one entry an axis of x, and the Nones."""
    if sum([i is Ellipsis for i in items]) > 1:
        raise IndexRangeError("index-out-of-range", "An index can have only one ellipsis ('...').")
    taken = sum([_consumed(i) for i in items])
    if taken > x.ndim:
        raise IndexRangeError(
            "index-out-of-range", f"Too many indices: the array has {x.ndim} dimensions, but {taken} were indexed."
        )
    result: list[Any] = []
    axis = 0
    for item in items if any([i is Ellipsis for i in items]) else [*items, Ellipsis]:
        if item is Ellipsis:
            # one that stands for no axis still keeps index arrays apart
            result.extend([slice(None)] * (x.ndim - taken) or [Ellipsis])
            axis += x.ndim - taken
        elif isinstance(item, np.ndarray) and item.dtype == BOOL:
            _check_mask(item, x, axis)
            result.extend([Fancy(i) for i in item.nonzero()])
        elif isinstance(item, (np.ndarray, Node)):
            result.append(Fancy(item))
        else:
            result.append(item)
        axis += _consumed(item)
    return result


def _consumed(item: Any) -> int:
    """How many axes an item stands for."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype == BOOL else 1


def _check_mask(mask: Array, x: Node, axis: int) -> None:
    for k, length in enumerate(mask.shape):
        if length != x.shape[axis + k]:
            raise IndexRangeError(
                "index-out-of-range",
                f"A boolean index has length {length} along its axis {k}, but axis {axis + k} is "
                f"{x.shape[axis + k]} long.",
            )


def _affine(item: slice, length: int) -> tuple[int, int, int]:
    try:
        start, stop, step = item.indices(length)
    except (TypeError, ValueError) as error:
        raise GraphError("bad-attribute", f"A slice is not valid: {error}.") from None
    return start, step, len(range(start, stop, step))


def _position(item: int, axis: int, length: int) -> int:
    if not -length <= item < length:
        raise IndexRangeError("index-out-of-range", f"Index {item} is out of range for axis {axis} of length {length}.")
    return item % length


def _check(values: Index, axis: int, length: int) -> None:
    if isinstance(values, Node) and values.value is None:
        return
    array = values.value if isinstance(values, Node) else values
    if array is not None and array.size:
        low, high = int(array.min()), int(array.max())
        if low < -length or high >= length:
            _position(low if low < -length else high, axis, length)


# ---- gathering -------------------------------------------------------------------------------------------------------
def _gather(x: Node, fancy: Sequence[tuple[int, Index]], together: bool) -> Node:
    """x at index arrays for several of its axes."""
    first = fancy[0][0] if together else 0
    if len(fancy) == 1:
        axis, values = fancy[0]
        y, rank, at = apply("take", x, _node(values, x), axis=axis), values.ndim, axis
    else:
        axes = [k for k, _ in fancy]
        rest = [k for k in range(x.ndim) if k not in axes]
        lengths = [x.shape[k] for k in axes]
        at = first
        moved = apply("permute_dims", x, axes=[*rest[:at], *axes, *rest[at:]])
        joined = size_of(tuple(lengths))
        flat = apply("reshape", moved, shape=(*moved.shape[:at], joined, *moved.shape[at + len(axes):]))
        places = _raveled([v for _, v in fancy], lengths, x)
        y, rank = apply("take", flat, _node(places, x), axis=at), places.ndim
    if at == first:
        return y
    order = [*range(at, at + rank), *range(at), *range(at + rank, y.ndim)]
    return apply("permute_dims", y, axes=order)


def _node(values: Index, x: Node) -> Node:
    return values if isinstance(values, Node) else x.builder.constant(values)


def _raveled(indices: Sequence[Index], lengths: Sequence[int], x: Node) -> Index:
    """sum_k index_k stride_k of the broadcast indices."""
    known = [i.value if isinstance(i, Node) else i for i in indices]
    shape = broadcast("index", [i.shape for i in indices])
    check_room(x.builder, size_of(shape))
    if all([k is not None for k in known]):
        signed = [np.asarray(k, np.int64) for k in known]
        wrapped = [np.where(k < 0, k + n, k) for k, n in zip(signed, lengths, strict=True)]
        return np.asarray(np.ravel_multi_index(np.broadcast_arrays(*wrapped), tuple(lengths)), np.int64) \
            if size_of(shape) else np.zeros(shape, np.int64)
    total: Node | None = None
    for values, length, stride in zip(indices, lengths, _strides(lengths), strict=True):
        # read from 0, 1, 2, ...: that checks the range of each index before they are combined, and wraps negative ones
        place = apply("take", ladder(x.builder, length), _node(values, x), axis=0) * stride
        total = place if total is None else total + place
    assert total is not None
    return total


def _strides(lengths: Sequence[int]) -> list[int]:
    strides = [1]
    for length in reversed(lengths[1:]):
        strides.insert(0, strides[0] * length)
    return strides


def gather(x: Node, indices: Node, axis: int) -> Node:
    """y[i, j, ...] = x[i, .., indices[i, j, ...], ..], the index in place of `axis`: take_along_axis."""
    check_indices("gather", indices, x.shape[axis])
    if indices.value is None and indices.ndim == x.ndim:
        count = [s if k == axis else indices.shape[k] for k, s in enumerate(x.shape)]
        return apply("take_along", apply("slice", x, start=(0,) * x.ndim, count=count), indices, axis=axis)
    key: list[Any] = []
    for k in range(x.ndim):
        length = indices.shape[k]
        if k == axis:
            key.append(indices)
            continue
        check_room(x.builder, length)
        key.append(np.arange(length).reshape([length if j == k else 1 for j in range(x.ndim)]))
    return index(x, tuple(key))

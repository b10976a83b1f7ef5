"""Functions that rearrange, join, repeat and take apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hesse.eager import Array, Axis, call, is_traced

Arrays = tuple[Array, ...] | list[Array]


def broadcast_arrays(*arrays: Array) -> list[Array]:
    """The arrays broadcast against each other."""
    return list(call("broadcast_arrays", *arrays))


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that arrays of these shapes broadcast to."""
    return np.broadcast_shapes(*shapes)


def broadcast_to(x: Array, /, shape: tuple[int, ...] | list[int]) -> Array:
    """x repeated to a shape that it broadcasts to."""
    return call("broadcast_to", x, tuple(shape) if isinstance(shape, list) else shape)


def concat(arrays: Arrays, /, *, axis: int | None = 0) -> Array:
    """The arrays one after the other along an axis; None flattens them first."""
    return call("concatenate", arrays, axis=axis)


def expand_dims(x: Array, /, axis: int | tuple[int, ...]) -> Array:
    """A new axis of length 1."""
    return call("expand_dims", x, axis)


def flip(x: Array, /, *, axis: Axis = None) -> Array:
    """Axes reversed in direction; None reverses all."""
    return call("flip", x, axis=tuple(axis) if isinstance(axis, list) else axis)


def matrix_transpose(x: Array, /) -> Array:
    """The last two axes exchanged."""
    return call("matrix_transpose", x)


def moveaxis(x: Array, source: int | tuple[int, ...], destination: int | tuple[int, ...], /) -> Array:
    """Axes moved to other places, the others in their order."""
    return call("moveaxis", x, source, destination)


def permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    """Axes in another order."""
    return call("transpose", x, tuple(axes))


def repeat(x: Array, repeats: int | Array, /, *, axis: int | None = None) -> Array:
    """Each element repeated; None flattens x first."""
    counts = np.asarray(repeats, np.int64) if isinstance(repeats, (list, tuple, np.ndarray)) else repeats
    return call("repeat", x, counts, axis=axis)


def reshape(x: Array, /, shape: int | Sequence[int], *, copy: bool | None = None) -> Array:
    """The same elements in row-major order under another shape; one length may be -1."""
    if is_traced(x):
        return call("reshape", x, shape)
    return call("reshape", x, shape, copy=copy)


def roll(x: Array, /, shift: int | tuple[int, ...], *, axis: Axis = None) -> Array:
    """Elements moved along axes, around the end; None moves those of the flattened array."""
    return call("roll", x, shift, axis=tuple(axis) if isinstance(axis, list) else axis)


def squeeze(x: Array, /, axis: int | tuple[int, ...] | list[int]) -> Array:
    """Without axes of length 1."""
    return call("squeeze", x, axis=tuple(axis) if isinstance(axis, list) else axis)


def stack(arrays: Arrays, /, *, axis: int = 0) -> Array:
    """The arrays along a new axis."""
    return call("stack", arrays, axis=axis)


def tile(x: Array, repetitions: int | tuple[int, ...], /) -> Array:
    """x repeated along its axes."""
    return call("tile", x, repetitions)


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """The slices of x along an axis."""
    return tuple([np.asarray(a) if isinstance(a, np.generic) else a for a in call("unstack", x, axis=axis)])

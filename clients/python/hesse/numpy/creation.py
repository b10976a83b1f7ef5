"""Arrays from shapes, numbers and other arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse.eager import Array, call, check_device, is_traced
from hesse_engine.frontends.operands import no_rule
from hesse_engine.frontends.trace import created

Shape = int | tuple[int, ...]


def made(array: Array) -> Array:
    """Every array that this module makes goes out through here: in a traced function it takes traced values."""
    return array if is_traced(array) else created(array)


def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None
) -> Array:
    """start, start + step, ... below stop; of one number, 0, 1, ... below it."""
    check_device(device)
    if is_traced(start, stop, step):
        raise no_rule("hesse.numpy.arange of traced bounds, whose result has a length that depends on values,")
    bounds: tuple[Any, ...] = (0, start, step) if stop is None else (start, stop, step)
    return made(np.arange(*bounds, dtype=dtype))


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Array:
    """`obj` as an array; a list that holds traced values becomes a traced array."""
    check_device(device)
    if is_traced(obj):
        return made(call("asarray", obj, dtype=dtype))
    return made(np.asarray(obj, dtype=dtype, copy=copy))


def empty(shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
    """An array whose elements are yet to be set: zeros."""
    return zeros(shape, dtype=dtype, device=device)


def empty_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """As `empty`, in the shape of x."""
    return zeros_like(x, dtype=dtype, device=device)


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Array:
    """Ones on the k-th diagonal, zeros elsewhere."""
    check_device(device)
    return made(np.eye(n_rows, n_cols, k, _floating(dtype)))


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Array:
    """The array that another library lends by DLPack."""
    check_device(device)
    return made(np.from_dlpack(x, device=device, copy=copy))


def full(shape: Shape, fill_value: Array, *, dtype: Any = None, device: Any = None) -> Array:
    """One value everywhere."""
    check_device(device)
    if is_traced(fill_value):
        value = fill_value if dtype is None else call("astype", fill_value, dtype)
        return made(call("broadcast_to", value, shape))
    return made(np.full(shape, fill_value, dtype))


def full_like(x: Array, /, fill_value: Array, *, dtype: Any = None, device: Any = None) -> Array:
    """One value in the shape of x."""
    check_device(device)
    return made(call("full_like", x, fill_value, dtype=dtype))


def linspace(
    start: Array, stop: Array, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True
) -> Array:
    """`num` points from start to stop, which is the last one unless `endpoint` is False."""
    check_device(device)
    return made(call("linspace", start, stop, num, endpoint=endpoint, dtype=dtype))


def meshgrid(*arrays: Array, indexing: str = "xy") -> list[Array]:
    """Coordinates of a grid from those of its axes."""
    return [made(a) for a in call("meshgrid", *arrays, indexing=indexing)]


def ones(shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
    """Ones."""
    check_device(device)
    return made(np.ones(shape, _floating(dtype)))


def ones_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Ones in the shape of x."""
    check_device(device)
    return made(call("ones_like", x, dtype=dtype))


def tril(x: Array, /, *, k: int = 0) -> Array:
    """The lower triangle of matrices up to the k-th diagonal, zeros above."""
    return made(call("tril", x, k=k))


def triu(x: Array, /, *, k: int = 0) -> Array:
    """The upper triangle of matrices from the k-th diagonal on, zeros below."""
    return made(call("triu", x, k=k))


def zeros(shape: Shape, *, dtype: Any = None, device: Any = None) -> Array:
    """Zeros."""
    check_device(device)
    return made(np.zeros(shape, _floating(dtype)))


def zeros_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Zeros in the shape of x."""
    check_device(device)
    return made(call("zeros_like", x, dtype=dtype))


def array(object: Any, dtype: Any = None, *, copy: bool = True, order: str = "K", ndmin: int = 0) -> Array:
    """NumPy's `array`: as `asarray`, a copy where not told otherwise."""
    if not is_traced(object):
        return made(np.array(object, dtype, copy=copy, order=order, ndmin=ndmin))  # type: ignore[call-overload]
    x = call("asarray", object, dtype=dtype)
    return made(x if x.ndim >= ndmin else call("reshape", x, (1,) * (ndmin - x.ndim) + x.shape))


def _floating(dtype: Any) -> Any:
    return np.float64 if dtype is None else dtype


def identity(n: int, dtype: Any = None) -> Array:
    """NumPy's `identity`: ones on the main diagonal of a square."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = float) -> Array:  # noqa: N803  (NumPy's names)
    """NumPy's `tri`: ones on the k-th diagonal and below."""
    return made(np.tri(N, M, k, dtype))


def logspace(
    start: Array, stop: Array, num: int = 50, endpoint: bool = True, base: Array = 10.0, dtype: Any = None,
    axis: int = 0,
) -> Array:
    """NumPy's `logspace`: base to the power of evenly spaced exponents."""
    return made(call("logspace", start, stop, num, endpoint, base, dtype, axis))


def geomspace(
    start: Array, stop: Array, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Array:
    """NumPy's `geomspace`: points in a constant ratio."""
    return made(call("geomspace", start, stop, num, endpoint, dtype, axis))

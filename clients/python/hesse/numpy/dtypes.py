"""Data types: their names, what they hold, and how they convert into each other."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse.eager import Array, call, check_device, is_traced
from hesse_engine.frontends.trace import is_tracer

DType = Any  # what NumPy makes a dtype of

bool = np.bool_
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float32, float64 = np.float32, np.float64
complex64, complex128 = np.complex64, np.complex128

_FAMILIES = ("b", "iu", "fc")  # kinds among which the standard's promotion rules hold


@dataclass(frozen=True)
class FloatInfo:
    """Limits of a floating dtype, as Python numbers; NumPy's further attributes (`tiny`, `resolution`, ...) by name."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype[Any]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.finfo(self.dtype), name)


def finfo(type: DType | Array, /) -> FloatInfo:
    """Machine limits of a floating dtype, given by itself or by an array."""
    found: Any = np.finfo(_dtype_of(type))
    return FloatInfo(int(found.bits), float(found.eps), float(found.max), float(found.min),
                     float(found.smallest_normal), np.dtype(found.dtype))


def iinfo(type: DType | Array, /) -> np.iinfo[Any]:
    """Machine limits of an integer dtype, given by itself or by an array."""
    return np.iinfo(_dtype_of(type))


def _dtype_of(value: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(
        value.dtype if isinstance(value, (np.ndarray, np.generic)) or is_tracer(value) else value)
    return found


def isdtype(dtype: DType, kind: DType | str | tuple[DType | str, ...]) -> builtins.bool:
    """Whether a dtype is of a kind: 'bool', 'integral', 'real floating', 'numeric', ..., a dtype, or one of several."""
    return builtins.bool(np.isdtype(np.dtype(dtype), kind))


def can_cast(from_: DType | Array, to: DType, /) -> builtins.bool:
    """Whether promotion leads from one dtype to another; there is none from integers to floats."""
    start, end = _dtype_of(from_), np.dtype(to)
    related = any(start.kind in f and end.kind in f for f in _FAMILIES)
    return related and builtins.bool(np.can_cast(start, end))


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype that arrays, dtypes and Python numbers promote to; Python numbers are weak."""
    found: np.dtype[Any] = call("result_type", *arrays_and_dtypes)
    return found


def astype(x: Array, dtype: DType, /, *, copy: builtins.bool = True, device: Any = None) -> Array:
    """x in another dtype; a copy unless `copy` is False and the dtype is x's."""
    check_device(device)
    if is_traced(x):
        return call("astype", x, dtype)
    return np.asarray(x).astype(dtype, copy=copy)

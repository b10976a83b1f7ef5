"""Oracles that share no code with what they check.

A reference function takes object arrays of `mpf` (60 digits) and gives one. Its derivatives come from forward
differences with a step of 1e-20: the error, about 1e-20, lies far below float64, and no derivative rule is written down
a second time.

    first order     (f(x + h u) - f(x)) / h
    second order    (f(x + h u + h v) - f(x + h u) - f(x + h v) + f(x)) / h^2
    along a line    the third difference of t -> f(x + t v)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Reference = Callable[..., Any]  # object arrays of mpf -> object array

MP: Any = mpmath.MPContext()
MP.dps = 60
STEP = MP.mpf(10) ** -20
THIRD_STEP = MP.mpf(10) ** -12  # its cube must leave digits too: 60 - 36 > 16


def exact(array: Any) -> Array:
    """The floating-point numbers of `array` as `mpf`, exactly; integers and booleans as Python's."""
    array = np.asarray(array)
    convert = MP.mpf if array.dtype.kind == "f" else (lambda v: v)
    out = np.empty(array.shape, object)
    for index in np.ndindex(array.shape):
        out[index] = convert(array[index].item())
    return out


def rounded(array: Any) -> Array:
    """An object array as float64; booleans and integers as such."""
    array = np.asarray(array, object)
    kinds = {type(v) for v in array.flat}
    dtype = np.bool_ if kinds == {bool} else np.int64 if kinds == {int} else np.float64
    return np.array([dtype(v) for v in array.flat], dtype).reshape(array.shape)


def peer(name: str) -> ModuleType | None:
    """An optional peer (torch, jax), where it is installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# ---- derivatives by differences ------------------------------------------------------------------------------------
class Point:
    """Operands of a reference function, some of which move: their elements, one after the other, are the variables."""

    def __init__(self, f: Reference, operands: Sequence[Any], moving: Sequence[int]) -> None:
        self.f, self.base, self.moving = f, [exact(a) for a in operands], tuple(moving)
        self.sizes = [self.base[k].size for k in self.moving]
        self.count = sum(self.sizes)
        self.value = self.at([])

    def at(self, steps: Sequence[tuple[int, Any]]) -> Array:
        """f where variable k is moved by h, for each (k, h) of `steps`."""
        flat = np.concatenate([self.base[k].ravel() for k in self.moving] or [np.empty(0, object)])
        for variable, h in steps:
            flat[variable] = flat[variable] + h
        operands, start = list(self.base), 0
        for k, size in zip(self.moving, self.sizes, strict=True):
            operands[k] = flat[start:start + size].reshape(self.base[k].shape)
            start += size
        return np.asarray(self.f(*operands), object)

    def jacobian(self) -> Array:
        """d f / d variables, shape (f.size, count)."""
        start = self.value.ravel()  # one axis at least: arithmetic on an object array without axes gives its element
        columns = [(self.at([(k, STEP)]).ravel() - start) / STEP for k in range(self.count)]
        return rounded(np.stack(columns, 1)) if columns else np.zeros((self.value.size, 0))

    def hessian(self) -> Array:
        """Second derivatives of a scalar f, shape (count, count)."""
        n = self.count
        single = [self.at([(k, STEP)]) for k in range(n)]
        out = np.zeros((n, n))
        for i in range(n):
            for j in range(i, n):
                mixed = self.at([(i, STEP), (j, STEP)]) - single[i] - single[j] + self.value
                out[i, j] = out[j, i] = float(np.asarray(mixed / STEP**2, object).item())
        return out

    def third(self, direction: Array) -> float:
        """The third derivative of t -> f(x + t v) at 0 for a scalar f."""
        v, h = exact(direction), THIRD_STEP
        along = [self.at([(k, j * h * v[k]) for k in range(self.count)]) for j in (1, 2, 3)]
        return float(np.asarray((along[2] - 3 * along[1] + 3 * along[0] - self.value) / h**3, object).item())


def weighted_squares(f: Reference, weights: Array) -> Reference:
    """sum(w * f**2): a scalar whose Hessian shows the first and second derivatives of f."""
    w = exact(weights).ravel()

    def scalar(*operands: Array) -> Any:
        values = np.asarray(f(*operands), object).ravel()
        return np.asarray(sum([c * v * v for c, v in zip(w, values, strict=True)], MP.mpf(0)), object)

    return scalar


# ---- accuracy ------------------------------------------------------------------------------------------------------
def ulps(got: Array, wanted: Sequence[Any]) -> Array:
    """The distance of each of `got` from the exact `wanted`, in units in the last place of the wanted number."""
    limit = np.finfo(got.dtype)
    out = np.zeros(len(wanted))
    for k, (value, target) in enumerate(zip(got.ravel(), wanted, strict=True)):
        unit = max(float(np.spacing(np.abs(got.dtype.type(float(target))))), float(limit.smallest_subnormal))
        out[k] = float(abs(MP.mpf(float(value)) - target) / MP.mpf(unit)) if np.isfinite(value) else np.inf
    return out

"""What the precision of a pointwise row is stated as: where, against which exact function, to how many ulp.

Exact derivatives are central differences of that function in arithmetic of as many digits as it takes: the working
precision doubles until two results agree to 20 digits, so no derivative formula is written down a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracles import MP, Array

DIGITS, MOST_DIGITS = 80, 4_000
Exact = Callable[..., Any]


@dataclass(frozen=True)
class Precision:
    """`f` of mpf operands (one point at a time), points (one array for each operand), and the stated ulp.

    `f` calls functions of `oracles.MP` only: these follow its working precision. A point where f or a derivative of it
    is not a finite real number is left out there; so is, in float32, what rounding has moved out of the domain.
    `ulp` is of the value, the first and the second derivatives in float64, by the reference interpreter and by the VM;
    float32 has `single`, by default the same.
    """

    f: Exact
    points: tuple[Array, ...]
    ulp: tuple[float, float, float]
    single: tuple[float, float, float] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    fixed: tuple[int, ...] = ()  # operands in which the row has no derivative
    reason: str = ""  # why a bound is above 16

    def __post_init__(self) -> None:
        if max(*self.ulp, *(self.single or ())) > 16 and not self.reason:
            raise ValueError("say why a bound is above 16 ulp")

    def bounds(self, dtype: str) -> tuple[float, float, float]:
        return self.ulp if dtype == "float64" or self.single is None else self.single


# ---- exact derivatives -----------------------------------------------------------------------------------------------
def derivative(f: Exact, point: Sequence[float], slots: tuple[int, ...]) -> Any:
    """The derivative of f in the operands `slots` (none, one, two or the same one twice); None where there is none."""
    smallest = min([abs(v) for v in point if v], default=1.0)
    digits, last = DIGITS + 5 * int(max(0.0, -np.log10(smallest))), None
    while digits <= MOST_DIGITS:
        with MP.workdps(digits):
            try:
                found = _difference(f, [MP.mpf(v) for v in point], slots, digits)
            except (ZeroDivisionError, ValueError, OverflowError):
                return None
        if found is None:
            return None
        # a zero is believed when even numbers far below the smallest of float64 would have been seen
        close = max(abs(found) * MP.mpf(10) ** -20, MP.mpf(10) ** -400 if digits > 1000 else 0)
        if last is not None and abs(found - last) <= close and (found or digits > 1000):
            return found
        digits, last = 2 * digits, found
    return None  # a jump or a pole: the difference grows with the digits


def _difference(f: Exact, x: list[Any], slots: tuple[int, ...], digits: int) -> Any:
    # a step of 10^(-digits / 5): errors about step^2 of the difference, and step^-2 10^-digits of the rounding
    small = MP.mpf(10) ** (-(digits // 5))
    steps = [small * (abs(x[k]) if x[k] else 1) for k in slots]
    if not slots:
        return _real(f(*x))
    if len(slots) == 2 and slots[0] == slots[1]:
        values = [_moved(f, x, (slots[0],), (j * steps[0],)) for j in (-1, 0, 1)]
        return None if None in values else (values[0] - 2 * values[1] + values[2]) / steps[0] ** 2
    if len(slots) == 1:
        values = [_moved(f, x, slots, (j * steps[0],)) for j in (-1, 1)]
        return None if None in values else (values[1] - values[0]) / (2 * steps[0])
    signs = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    values = [_moved(f, x, slots, (i * steps[0], j * steps[1])) for i, j in signs]
    if None in values:
        return None
    return (values[3] - values[2] - values[1] + values[0]) / (4 * steps[0] * steps[1])


def _moved(f: Exact, x: list[Any], slots: tuple[int, ...], by: tuple[Any, ...]) -> Any:
    moved = list(x)
    for k, step in zip(slots, by, strict=True):
        moved[k] = moved[k] + step
    return _real(f(*moved))


def _real(value: Any) -> Any:
    if isinstance(value, MP.mpc):
        return value.real if value.imag == 0 else None
    value = MP.mpf(value)
    return value if MP.isfinite(value) else None


# ---- points ----------------------------------------------------------------------------------------------------------
def joined(*parts: Any) -> Array:
    return np.concatenate([np.atleast_1d(np.asarray(p, np.float64)) for p in parts])


def magnitudes(low: float = 1e-300, high: float = 1e300, count: int = 24, signed: bool = True) -> Array:
    """Random numbers, evenly by exponent from `low` to `high`, of both signs."""
    rng = np.random.default_rng(count)
    x = np.exp(rng.uniform(np.log(low), np.log(high), count))
    return x * rng.choice([-1.0, 1.0], count) if signed else x


def uniform(low: float, high: float, count: int = 24) -> Array:
    return np.random.default_rng(count + 1).uniform(low, high, count)


def beside(x: float, side: int = 0, near: float = 1e-15, far: float = 0.4, count: int = 8) -> Array:
    """Points at distances `near` to `far` from x: above (side 1), below (-1) or on both sides (0)."""
    steps = np.geomspace(near, far, count) * max(abs(x), 1.0)
    return joined(*([x + steps] if side >= 0 else []), *([x - steps] if side <= 0 else []))


EXTREMES = np.array([5e-324, 1e-310, 2.3e-308, 1e-300, 1e-160, 1e160, 1e300, 1.7e308])
SMALL = np.array([5e-324, 1e-310, 2.3e-308, 1e-300, 1e-160, 1e-20, 1e-9])
BOTH = np.array([-1.0, 1.0])


def both(x: Array) -> Array:
    """x and -x."""
    return joined(x, -x)


def grid(a: Array, b: Array) -> tuple[Array, Array]:
    """Every pair."""
    left, right = np.meshgrid(a, b, indexing="ij")
    return left.ravel(), right.ravel()

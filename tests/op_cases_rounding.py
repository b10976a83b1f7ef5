"""Cases of rounding, remainders and signs, and their stated precision: see `op_cases`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from op_cases import INTEGERS, Case, apart, binary, each, real, unary
from oracles import MP, Array
from precision import EXTREMES, Precision, both, grid, joined, magnitudes


def _half_even(x: Any) -> Any:
    low = MP.floor(x)
    gap = x - low
    if gap == MP.mpf(0.5):
        return low if int(low) % 2 == 0 else low + 1
    return low if gap < MP.mpf(0.5) else low + 1


def _trunc(x: Any) -> Any:
    return MP.floor(x) if x >= 0 else MP.ceil(x)


def _exactly(f: Any) -> Any:
    """f of a quotient with digits enough for every integer that a float64 quotient can be."""

    def call(a: Any, b: Any) -> Any:
        with MP.workdps(max(MP.dps, 700)):
            return f(a, b)

    return call


_floor_divide = _exactly(lambda a, b: MP.floor(a / b))
_remainder = _exactly(lambda a, b: a - b * MP.floor(a / b))
_fmod = _exactly(lambda a, b: a - b * _trunc(a / b))


def _integers(f: Any) -> Case:
    return Case(INTEGERS, each(f))


def _copysign(a: Any, b: Any) -> Any:
    return abs(a) if b >= 0 else -abs(a)


def _wide(*shape: int, seed: int = 0) -> Array:
    return real(*shape, low=-7.3, high=7.3, seed=seed)


def _nextafter(a: Any, b: Any) -> Any:
    return MP.mpf(math.nextafter(float(a), float(b)))


ONE_INTEGER = Case(INTEGERS[:1], each(lambda x: x))
HALVES = Case((np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]),), each(_half_even), is_cut=True)
ROUNDING: dict[str, tuple[Case, ...]] = {
    "floor": (*unary(MP.floor, _wide), ONE_INTEGER),
    "ceil": (*unary(MP.ceil, _wide), ONE_INTEGER),
    "trunc": (*unary(_trunc, _wide), ONE_INTEGER),
    "round": (*unary(_half_even, _wide), HALVES, ONE_INTEGER),
    "floor_divide": (*binary(_floor_divide, _wide, apart), _integers(lambda a, b: a // b)),
    "remainder": (*binary(_remainder, _wide, apart), _integers(lambda a, b: a % b)),
    "fmod": (*binary(_fmod, _wide, apart), _integers(lambda a, b: int(math.fmod(a, b)))),
    "copysign": binary(_copysign, apart, apart),
    "nextafter": binary(_nextafter, apart, real, is_cut=True, dtypes=("float64",)),
    "fmax": (*binary(max), _integers(max)),
    "fmin": (*binary(min), _integers(min)),
    "isnan": (*unary(lambda x: False), Case((np.array([math.nan, 1.0, math.inf]),), each(lambda x: bool(x != x)))),
    "isinf": (*unary(lambda x: False), Case((np.array([math.nan, -math.inf, 1.0]),), each(lambda x: bool(MP.isinf(x)))),
              Case(INTEGERS[:1], each(lambda x: False))),
    "isfinite": (*unary(lambda x: True), Case((np.array([math.nan, -math.inf, 1.0]),),
                                              each(lambda x: bool(MP.isfinite(x)))),
                 Case(INTEGERS[:1], each(lambda x: True))),
    "signbit": (*unary(lambda x: bool(x < 0)), Case(INTEGERS[:1], each(lambda x: bool(x < 0)))),
}

WIDE = both(joined(magnitudes(), magnitudes(1e-3, 1e3), EXTREMES, 1.0, 2.0))
PAIRS = grid(both(joined(magnitudes(1e-3, 1e12, 7, signed=False), 1e-310, 1e30)),
             both(joined(magnitudes(1e-2, 1e3, 5, signed=False), 1.0, 1e-3)))
SIGNS = grid(WIDE, np.array([-2.0, 3.0]))
PRECISION: dict[str, Precision] = {
    "floor": Precision(MP.floor, (WIDE,), (0, 0, 0)),
    "ceil": Precision(MP.ceil, (WIDE,), (0, 0, 0)),
    "trunc": Precision(_trunc, (WIDE,), (0, 0, 0)),
    "round": Precision(_half_even, (joined(WIDE, both(np.arange(0.5, 6.0))),), (0, 0, 0)),
    "floor_divide": Precision(_floor_divide, PAIRS, (0.5, 0, 0)),
    "remainder": Precision(_remainder, PAIRS, (0.5, 0.5, 0)),
    "fmod": Precision(_fmod, PAIRS, (0, 0.5, 0)),
    "copysign": Precision(_copysign, SIGNS, (0, 0, 0)),
    "nextafter": Precision(_nextafter, (WIDE, np.ones_like(WIDE)), (0, 0, 0), (1, 0, 0)),
    "fmax": Precision(max, (PAIRS[0], 1.5 * PAIRS[1]), (0, 0, 0)),
    "fmin": Precision(min, (PAIRS[0], 1.5 * PAIRS[1]), (0, 0, 0)),
}

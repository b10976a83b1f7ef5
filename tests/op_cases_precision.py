"""The stated precision of every pointwise row: those of `ir/ops/pointwise.py` here, the others by their families."""

from __future__ import annotations

from typing import Any

import numpy as np

import op_cases_rounding
import op_cases_special
import op_cases_transcendental
from op_cases import _sign
from oracles import MP
from precision import BOTH, EXTREMES, SMALL, Precision, beside, both, grid, joined, magnitudes, uniform

WIDE = both(joined(magnitudes(), EXTREMES, 1.0, 2.0))
POSITIVE = np.abs(WIDE)
MODERATE = both(joined(SMALL, magnitudes(1e-6, 30.0, signed=False)))
ANGLES = both(joined(SMALL, magnitudes(1e-6, 1e6, signed=False)))
EXPONENTS = both(joined(SMALL, magnitudes(1e-6, 30.0, signed=False), 80.0, 88.0, 300.0, 690.0, 708.0))
PAIRS = grid(both(joined(magnitudes(1e-9, 1e9, 6, signed=False), 1e-160, 1e150)),
             both(joined(magnitudes(1e-9, 1e9, 5, signed=False), 1.0, 1e-150, 1e160)))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + MP.exp(-x))


POINTWISE: dict[str, Precision] = {
    "divide": Precision(lambda a, b: a / b, PAIRS, (0.5, 1.5, 3)),
    "square": Precision(lambda x: x * x, (WIDE,), (0.5, 0, 0)),
    "sqrt": Precision(MP.sqrt, (POSITIVE,), (0.5, 1.5, 3)),
    "power": Precision(lambda a, b: a**b, grid(joined(magnitudes(1e-3, 1e3, 8, signed=False), 1.0, 1e-300, 1e300),
                                               joined(uniform(-10, 10, 8), 0.5, -0.5, 1.0, 2.0, 3.0)), (4, 8, 16)),
    "power_scalar": Precision(lambda x: x ** MP.mpf(2.5), (POSITIVE,), (4, 8, 8), attrs={"exponent": 2.5}),
    "exp": Precision(MP.exp, (EXPONENTS,), (4, 4, 4)),
    "expm1": Precision(MP.expm1, (EXPONENTS,), (4, 4, 4)),
    "log": Precision(MP.log, (joined(POSITIVE, beside(1.0)),), (4, 0.5, 1.5)),
    "log1p": Precision(MP.log1p, (joined(MODERATE, POSITIVE, beside(-1.0, 1)),), (4, 1.5, 3)),
    "sin": Precision(MP.sin, (ANGLES,), (4, 4, 4)),
    "cos": Precision(MP.cos, (ANGLES,), (4, 4, 4)),
    "tan": Precision(MP.tan, (ANGLES,), (4, 8, 16)),
    "tanh": Precision(MP.tanh, (MODERATE,), (4, 9, 14)),
    "sech_squared": Precision(lambda x: MP.sech(x) ** 2, (MODERATE,), (9, 14, 16)),
    "sigmoid": Precision(_sigmoid, (joined(EXPONENTS),), (6, 12, 16)),
    "softplus": Precision(lambda x: MP.log1p(MP.exp(x)), (EXPONENTS,), (6, 6, 12)),
    "abs": Precision(abs, (WIDE,), (0, 0, 0)),
    "sign": Precision(_sign, (joined(WIDE, 0.0),), (0, 0, 0)),
    "maximum": Precision(max, (PAIRS[0], 1.5 * PAIRS[1]), (0, 0, 0)),
    "minimum": Precision(min, (PAIRS[0], 1.5 * PAIRS[1]), (0, 0, 0)),
}
PRECISION: dict[str, Precision] = {
    **POINTWISE, **op_cases_transcendental.PRECISION, **op_cases_rounding.PRECISION,
    **getattr(op_cases_special, "PRECISION", {}),
}
__all__ = ["BOTH", "PRECISION"]

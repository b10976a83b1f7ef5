"""Cases of roots, logarithms, trigonometric and hyperbolic rows, and their stated precision: see `op_cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

from op_cases import Case, apart, binary, each, positive, real, unary
from oracles import MP, Array
from precision import EXTREMES, SMALL, Precision, beside, both, grid, joined, magnitudes, uniform


def _inside(*shape: int, seed: int = 0) -> Array:
    return real(*shape, low=-0.9, high=0.9, seed=seed)


def _above_one(*shape: int, seed: int = 0) -> Array:
    return real(*shape, low=1.1, high=3.0, seed=seed)


def _cbrt(x: Any) -> Any:
    return MP.sign(x) * MP.cbrt(abs(x))


def _sinc(x: Any) -> Any:
    # MP.sinc multiplies by pi as well, but rounds pi x before the sine
    return MP.sinpi(x) / (MP.pi * x) if x else MP.mpf(1)


def _sinc_series(x: Any, order: int) -> Any:
    """d^n/dx^n of sum (-1)^k (pi x)^(2k) / (2k+1)!."""
    total, k = MP.mpf(0), (order + 1) // 2
    while k < 60 + order:
        falling = MP.factorial(2 * k) / MP.factorial(2 * k - order)
        total += (-1) ** k * MP.pi ** (2 * k) * falling * x ** (2 * k - order) / MP.factorial(2 * k + 1)
        k += 1
    return total


def _unit(a: Any, b: Any) -> Any:
    return a / MP.sqrt(a * a + b * b)


def _inversion(a: Any, b: Any) -> Any:
    return a / (a * a + b * b)


def _logaddexp(a: Any, b: Any) -> Any:
    return max(a, b) + MP.log1p(MP.exp(-abs(a - b)))


def _logaddexp2(a: Any, b: Any) -> Any:
    return max(a, b) + MP.log1p(MP.mpf(2) ** -abs(a - b)) / MP.log(2)


def _xlogy(x: Any, y: Any) -> Any:
    return x * MP.log(y) if x else MP.mpf(0) * y


def _xlog1py(x: Any, y: Any) -> Any:
    return x * MP.log1p(y) if x else MP.mpf(0) * y


def _log2(x: Any) -> Any:
    return MP.log(x) / MP.log(2)


TRANSCENDENTAL: dict[str, tuple[Case, ...]] = {
    "exp2": unary(lambda x: MP.mpf(2) ** x),
    "log2": unary(_log2, positive),
    "log10": unary(MP.log10, positive),
    "rsqrt": unary(lambda x: 1 / MP.sqrt(x), positive),
    "cbrt": unary(_cbrt, apart),
    "asin": unary(MP.asin, _inside),
    "acos": unary(MP.acos, _inside),
    "sec_asin": unary(lambda x: 1 / MP.sqrt(1 - x * x), _inside),
    "atan": unary(MP.atan),
    "lorentzian": unary(lambda x: 1 / (1 + x * x)),
    "sinh": unary(MP.sinh),
    "cosh": unary(MP.cosh),
    "asinh": unary(MP.asinh),
    "cos_atan": unary(lambda x: 1 / MP.sqrt(1 + x * x)),
    "acosh": unary(MP.acosh, _above_one),
    "csch_acosh": unary(lambda x: 1 / MP.sqrt(x * x - 1), _above_one),
    "atanh": unary(MP.atanh, _inside),
    "hypot": binary(MP.hypot, apart, apart),
    "unit": binary(_unit, apart, apart),
    "atan2": binary(MP.atan2, apart, apart),
    "inversion": binary(_inversion, apart, apart),
    "xlogy": binary(_xlogy, apart, positive),
    "xlog1py": binary(_xlog1py, apart, positive),
    "logaddexp": binary(_logaddexp),
    "logaddexp2": binary(_logaddexp2),
    "sinc": (
        *unary(_sinc, lambda *s, seed=0: 2 * apart(*s, seed=seed)),
        *[Case((real(4, low=-3.0, high=3.0, seed=n),), each(lambda x, n=n: _sinc_series(x, n)), {"order": n})
          for n in (0, 1, 2, 3, 5)],
    ),
}

WIDE = both(joined(magnitudes(), EXTREMES, 1.0, 2.0))
POSITIVE = np.abs(WIDE)
INSIDE = joined(both(joined(SMALL, magnitudes(1e-6, 0.99, signed=False))), beside(1.0, -1), -beside(1.0, -1))
TURNS = both(joined(SMALL, magnitudes(1e-6, 700.0, signed=False)))
PAIRS = grid(both(joined(magnitudes(1e-9, 1e9, 5, signed=False), 1e-160, 3e-20, 1e150, 1e300)),
             both(joined(magnitudes(1e-9, 1e9, 4, signed=False), 1.0, 1e-150, 1e160, 1e300)))
FACTORS = both(joined(magnitudes(1e-9, 1e9, 6, signed=False), 1e-300, 1e100))
GAPS = grid(both(magnitudes(1e-6, 12.0, 7, signed=False)), both(joined(magnitudes(1e-6, 12.0, 6, signed=False), 1.0)))
PRECISION: dict[str, Precision] = {
    "exp2": Precision(lambda x: MP.mpf(2) ** x, (both(joined(SMALL, magnitudes(1e-6, 900.0), 1000.0)),), (4, 5, 6)),
    "log2": Precision(_log2, (joined(POSITIVE, beside(1.0)),), (4, 2, 3)),
    "log10": Precision(MP.log10, (joined(POSITIVE, beside(1.0)),), (4, 2, 3)),
    "rsqrt": Precision(lambda x: 1 / MP.sqrt(x), (POSITIVE,), (1.5, 3, 4)),
    "cbrt": Precision(_cbrt, (WIDE,), (4, 10, 16)),
    "asin": Precision(MP.asin, (INSIDE,), (4, 3, 10)),
    "acos": Precision(MP.acos, (INSIDE,), (4, 3, 10)),
    "sec_asin": Precision(lambda x: 1 / MP.sqrt((1 - x) * (1 + x)), (INSIDE,), (3, 10, 16)),
    "atan": Precision(MP.atan, (WIDE,), (4, 2, 6)),
    "lorentzian": Precision(lambda x: 1 / (1 + x * x), (WIDE,), (2, 6, 16)),
    "sinh": Precision(MP.sinh, (TURNS,), (4, 4, 4)),
    "cosh": Precision(MP.cosh, (TURNS,), (4, 4, 4)),
    "asinh": Precision(MP.asinh, (WIDE,), (4, 4, 12)),
    "cos_atan": Precision(lambda x: 1 / MP.sqrt(1 + x * x), (WIDE,), (4, 12, 16)),
    "acosh": Precision(MP.acosh, (joined(1 + magnitudes(1e-12, 1e300, 30, signed=False), beside(1.0, 1), 1.7e308),),
                       (4, 3, 10)),
    "csch_acosh": Precision(lambda x: 1 / MP.sqrt((x - 1) * (x + 1)),
                            (joined(1 + magnitudes(1e-12, 1e300, 30, signed=False), beside(1.0, 1)),), (3, 10, 16)),
    "atanh": Precision(MP.atanh, (INSIDE,), (4, 6, 16)),
    "hypot": Precision(MP.hypot, PAIRS, (4, 4, 16)),
    "unit": Precision(_unit, PAIRS, (4, 16, 16)),
    "atan2": Precision(MP.atan2, PAIRS, (4, 4, 16)),
    "inversion": Precision(_inversion, PAIRS, (4, 16, 16)),
    "xlogy": Precision(_xlogy, grid(FACTORS, joined(magnitudes(1e-9, 1e9, 6, signed=False), 5e-324, 1e300, 1.0001)),
                       (5, 4, 2)),
    "xlog1py": Precision(_xlog1py, grid(FACTORS, joined(magnitudes(1e-9, 1e9, 6, signed=False), 5e-324, 1e300, -0.5,
                                                        -1 + 1e-9)), (5, 4, 4)),
    "logaddexp": Precision(_logaddexp, GAPS, (8, 20, 24), reason="a - b is rounded before it is an exponent"),
    "logaddexp2": Precision(_logaddexp2, grid(uniform(1.0, 20.0, 6), uniform(-20.0, 20.0, 6)), (8, 40, 40),
                            reason="(a - b) log 2 is rounded before it is an exponent"),
    "sinc": Precision(_sinc, (both(joined(SMALL, magnitudes(1e-6, 0.4, signed=False), 0.5, 0.55, 1.75, 2.3, 40.25,
                                          1e6 + 0.25)),), (8, 16, 16)),
}

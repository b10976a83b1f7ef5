"""Cases of special functions: see `op_cases`; their precision: see `precision`."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from op_cases import Case, apart, binary, each, positive, real, unary
from oracles import MP, Array
from precision import Precision, beside, both, grid, joined, magnitudes, uniform

INF, NAN = np.inf, np.nan


# ---- exact functions, of mpf numbers ---------------------------------------------------------------------------------
def _erfcx(x: Any) -> Any:
    return MP.exp(x * x) * MP.erfc(x)


def _ndtr(x: Any) -> Any:
    return MP.erfc(-x / MP.sqrt(2)) / 2


def _log_ndtr(x: Any) -> Any:
    return MP.log(_ndtr(x)) if x < 0 else MP.log1p(-_ndtr(-x))


def _integral(n: int) -> Any:
    def f(x: Any) -> Any:
        """exp(x²) iⁿerfc(x), by recurrence with digits to spare."""
        with MP.workdps(MP.dps + 60 + 4 * int(max(0, MP.mag(x)))):
            before, value = 2 / MP.sqrt(MP.pi), _erfcx(x)
            for k in range(1, n + 1):
                before, value = value, (before - 2 * x * value) / (2 * k)
        return +value

    return f


def _erfcinv(p: Any) -> Any:
    """The root t of erfc(t) = p by Newton's method on the logarithm."""
    if not 0 < p < 2:
        return MP.nan
    if p > 1:
        return -_erfcinv(2 - p)
    t = MP.mpf(float(special.erfcinv(float(p)))) if p < 1 else MP.mpf(0)
    for _ in range(60):
        tail = MP.erfc(t)
        step = (MP.log(tail) - MP.log(p)) * tail * MP.exp(t * t) * MP.sqrt(MP.pi) / 2
        t += step
        if abs(step) <= abs(t) * MP.mpf(10) ** (-MP.dps + 3):
            break
    return t


def _erfinv(x: Any) -> Any:
    return _erfcinv(1 - x) if x > 0 else -_erfcinv(1 + x)


def _ndtri(p: Any) -> Any:
    return -MP.sqrt(2) * _erfcinv(2 * p)


def _lgamma(x: Any) -> Any:
    return MP.re(MP.loggamma(x)) if x > 0 else MP.log(abs(MP.pi / MP.sinpi(x) / MP.gamma(1 - x)))


def _betaln(a: Any, b: Any) -> Any:
    return MP.loggamma(a) + MP.loggamma(b) - MP.loggamma(a + b)


def _scaled_bessel(n: int) -> Any:
    return lambda x: MP.besseli(n, x) * MP.exp(-abs(x))


def _rel_entr(x: Any, y: Any) -> Any:
    return x * MP.log(x / y)


# ---- cases -----------------------------------------------------------------------------------------------------------
def _inside(*shape: int, seed: int = 0) -> Array:
    return real(*shape, low=0.05, high=0.95, seed=seed)


def _open(*shape: int, seed: int = 0) -> Array:
    return real(*shape, low=-0.9, high=0.9, seed=seed)


def _family(f: Any, orders: tuple[int, ...], sample: Any = real) -> tuple[Case, ...]:
    return tuple([case for n in orders for case in unary(f(n), sample, attrs={"n": n})])


SPECIAL: dict[str, tuple[Case, ...]] = {
    "gaussian": unary(lambda x: MP.exp(-x * x / 2)),
    "erf": unary(MP.erf),
    "erfc": unary(MP.erfc),
    "erfcx": unary(_erfcx),
    "scaled_erfc_integral": _family(_integral, (0, 1, 3)),
    "erfinv": unary(_erfinv, _open),
    "erfinv_slope": unary(lambda x: MP.sqrt(MP.pi) / 2 * MP.exp(_erfinv(x) ** 2), _open),
    "erfcinv": unary(_erfcinv, _inside),
    "ndtr": unary(_ndtr),
    "log_ndtr": unary(_log_ndtr),
    "ndtri": unary(_ndtri, _inside),
    "ndtri_slope": unary(lambda p: MP.sqrt(2 * MP.pi) * MP.exp(_ndtri(p) ** 2 / 2), _inside),
    "lgamma": (*unary(_lgamma, positive), Case((np.array([-0.5, -2.25, 1.0, 2.0]),), each(_lgamma))),
    "digamma": (*unary(MP.digamma, positive), Case((np.array([-0.25, -2.25, 12.5]),), each(MP.digamma))),
    "polygamma": _family(lambda n: lambda x: MP.psi(n, x), (1, 2, 3), positive),
    "gamma": (*unary(MP.gamma, positive), Case((np.array([-0.5, -2.25]),), each(MP.gamma))),
    "betaln": binary(_betaln, positive, positive),
    "beta": binary(MP.beta, positive, positive),
    "i0": unary(lambda x: MP.besseli(0, x)),
    "i1": unary(lambda x: MP.besseli(1, x)),
    "bessel_i": _family(lambda n: lambda x: MP.besseli(n, x), (2, 3)),
    "i0e": unary(_scaled_bessel(0), apart),
    "i1e": unary(_scaled_bessel(1), apart),
    "bessel_ie": _family(_scaled_bessel, (2, 3), apart),
    "entr": unary(lambda x: -x * MP.log(x), positive),
    "rel_entr": binary(_rel_entr, positive, positive),
    "logit": unary(lambda p: MP.log(p / (1 - p)), _inside),
    "logit_slope": unary(lambda p: 1 / (p * (1 - p)), _inside),
}


def _of_shape(f: Any, low: float) -> tuple[Case, ...]:
    """f(a, x), differentiated in x: a is a constant."""
    shapes: tuple[tuple[Array, Array], ...] = (
        (np.array([0.5, 1.0, 2.5]), positive(3)), (np.array(3.0), positive(2, 2, seed=1)),
        (np.array([[0.75], [4.0]]), positive(2, seed=2)), (np.array(2.0), positive(0, 2)))
    return tuple([Case((a + low, x), each(f), constant=(0,)) for a, x in shapes])


SPECIAL["gammainc"] = _of_shape(lambda a, x: MP.gammainc(a, 0, x, regularized=True), 0.0)
SPECIAL["gammaincc"] = _of_shape(lambda a, x: MP.gammainc(a, x, MP.inf, regularized=True), 0.0)
SPECIAL["zeta"] = _of_shape(MP.zeta, 1.5)

# row -> (operands, result): see `test_ops_values`
SPECIAL_VALUES: dict[str, list[tuple[tuple[float, ...], float]]] = {
    "gaussian": [((0.0,), 1.0), ((INF,), 0.0), ((-INF,), 0.0), ((NAN,), NAN)],
    "erf": [((-0.0,), -0.0), ((INF,), 1.0), ((-INF,), -1.0), ((NAN,), NAN)],
    "erfc": [((0.0,), 1.0), ((INF,), 0.0), ((-INF,), 2.0), ((NAN,), NAN)],
    "erfcx": [((0.0,), 1.0), ((INF,), 0.0), ((-INF,), INF), ((NAN,), NAN)],
    "erfinv": [((0.0,), 0.0), ((1.0,), INF), ((-1.0,), -INF), ((2.0,), NAN), ((NAN,), NAN)],
    "erfinv_slope": [((1.0,), INF), ((-1.0,), INF), ((2.0,), NAN), ((NAN,), NAN)],
    "erfcinv": [((1.0,), -0.0), ((0.0,), INF), ((2.0,), -INF), ((-1.0,), NAN), ((NAN,), NAN)],
    "ndtr": [((0.0,), 0.5), ((INF,), 1.0), ((-INF,), 0.0), ((NAN,), NAN)],
    "log_ndtr": [((-INF,), -INF), ((INF,), -0.0), ((NAN,), NAN)],
    "ndtri": [((0.0,), -INF), ((1.0,), INF), ((0.5,), 0.0), ((2.0,), NAN), ((NAN,), NAN)],
    "ndtri_slope": [((0.0,), INF), ((1.0,), INF), ((2.0,), NAN), ((NAN,), NAN)],
    "lgamma": [((0.0,), INF), ((-0.0,), INF), ((-1.0,), INF), ((-3.0,), INF), ((1.0,), 0.0), ((2.0,), 0.0),
               ((INF,), INF), ((-INF,), INF), ((NAN,), NAN)],
    "digamma": [((0.0,), -INF), ((-0.0,), INF), ((-1.0,), NAN), ((INF,), INF), ((-INF,), NAN), ((NAN,), NAN)],
    "gamma": [((0.0,), INF), ((-0.0,), -INF), ((-1.0,), NAN), ((INF,), INF), ((5.0,), 24.0), ((NAN,), NAN)],
    "betaln": [((1.0, 1.0), 0.0), ((NAN, 1.0), NAN)],
    "beta": [((1.0, 1.0), 1.0), ((NAN, 1.0), NAN)],
    "gammainc": [((2.0, 0.0), 0.0), ((2.0, INF), 1.0), ((2.0, -1.0), NAN), ((-1.0, 1.0), NAN)],
    "gammaincc": [((2.0, 0.0), 1.0), ((2.0, INF), 0.0), ((2.0, -1.0), NAN), ((-1.0, 1.0), NAN)],
    "zeta": [((1.0, 2.0), INF), ((0.5, 2.0), NAN), ((2.0, 0.0), INF), ((2.0, -1.0), INF), ((2.5, -0.5), NAN)],
    "i0": [((0.0,), 1.0), ((INF,), NAN), ((-800.0,), INF), ((NAN,), NAN)],
    "i1": [((0.0,), 0.0), ((800.0,), INF), ((-800.0,), -INF), ((NAN,), NAN)],
    "i0e": [((0.0,), 1.0), ((INF,), 0.0), ((NAN,), NAN)],
    "i1e": [((0.0,), 0.0), ((INF,), 0.0), ((NAN,), NAN)],
    "entr": [((0.0,), 0.0), ((-1.0,), -INF), ((INF,), -INF), ((NAN,), NAN)],
    "rel_entr": [((0.0, 0.0), 0.0), ((0.0, 1.0), 0.0), ((1.0, 0.0), INF), ((-1.0, 1.0), INF), ((1.0, 1.0), 0.0)],
    "logit_slope": [((0.0,), INF), ((1.0,), INF), ((-1.0,), NAN), ((2.0,), NAN), ((NAN,), NAN), ((0.5,), 4.0)],
    "logit": [((0.0,), -INF), ((1.0,), INF), ((0.5,), 0.0), ((-1.0,), NAN), ((2.0,), NAN), ((NAN,), NAN)],
}

# ---- precision -------------------------------------------------------------------------------------------------------
TINY = np.array([5e-324, 1e-310, 2.3e-308, 1e-160, 1e-20, 1e-9])
LINE = joined(both(joined(TINY, magnitudes(1e-6, 1.0, 12, signed=False))), uniform(-6, 6, 24))
PROBABILITIES = joined(1e-20, 1e-8, 1e-3, 0.25, 0.5, 0.5000001, uniform(0.01, 0.99, 12), 1 - 1e-5, 1 - 1e-12)
INTERVAL = joined(both(joined(1e-20, 1e-9, uniform(0.0, 1.0, 8), 1 - 1e-5, 1 - 1e-12)), 0.0)
ABOVE = joined(1e-20, 1e-5, uniform(0.05, 20.0, 20), beside(1.0), beside(2.0), 1e3, 1e8, 1e15)
BESSEL = joined(both(joined(1e-20, 1e-9, 1e-3)), uniform(-30.0, 30.0, 20), 100.0, 300.0)
PAIRS = grid(joined(1e-8, 0.3, 1.0, 2.5, 40.0), joined(1e-6, 0.7, 1.5, 30.0))
MODERATE = grid(joined(0.3, 1.0, 2.5, 40.0), joined(0.4, 0.7, 1.5, 25.0))
SHAPES = grid(joined(0.5, 1.0, 2.5, 10.0), joined(1e-3, 0.3, 1.0, 3.0, 12.0))
DIGAMMAS = "a value beside a zero of betaln; digamma(a) - digamma(a + b) loses (a + b) / b"
DENSITY = "SciPy's value; a density made of logarithms"
SCALED = "the derivative of exp(-|x|) I_n is the difference of neighbors, which loses 2 |x| in each order"

PRECISION: dict[str, Precision] = {
    "gaussian": Precision(lambda x: MP.exp(-x * x / 2), (joined(LINE, uniform(-37, 37)),), (2, 3, 16)),
    "erf": Precision(MP.erf, (joined(LINE, 20.0),), (4, 4, 8)),
    "erfc": Precision(MP.erfc, (joined(LINE, uniform(5, 26)),), (6, 6, 8)),
    "erfcx": Precision(_erfcx, (joined(LINE, uniform(-26, -6, 8), uniform(6, 30, 8), 1e3, 1e8),), (6, 8, 16)),
    "scaled_erfc_integral": Precision(_integral(2), (joined(uniform(-20, 6), uniform(0, 1.2), 50.0, 1e3),),
                                      (16, 16, 24), attrs={"n": 2}, reason="upward recurrence below 1/2"),
    "erfinv": Precision(_erfinv, (INTERVAL,), (4, 8, 16)),
    "erfinv_slope": Precision(lambda x: MP.sqrt(MP.pi) / 2 * MP.exp(_erfinv(x) ** 2), (INTERVAL,), (8, 16, 16)),
    "erfcinv": Precision(_erfcinv, (joined(PROBABILITIES, 2 - PROBABILITIES[3:]),), (4, 8, 16)),
    "ndtr": Precision(_ndtr, (joined(LINE, uniform(-37, -5), uniform(5, 8, 4)),), (6, 4, 8)),
    "log_ndtr": Precision(_log_ndtr, (joined(LINE, uniform(-37, -5, 12), -1e3, -1e8, uniform(5, 30, 12)),), (6, 8, 16)),
    "ndtri": Precision(_ndtri, (PROBABILITIES,), (4, 8, 16)),
    "ndtri_slope": Precision(lambda p: MP.sqrt(2 * MP.pi) * MP.exp(_ndtri(p) ** 2 / 2), (PROBABILITIES,), (8, 16, 16)),
    "lgamma": Precision(_lgamma, (ABOVE,), (4, 4, 8)),
    "digamma": Precision(MP.digamma, (ABOVE,), (4, 8, 8)),
    "polygamma": Precision(lambda x: MP.psi(2, x), (ABOVE,), (8, 8, 8), attrs={"n": 2}),
    "gamma": Precision(MP.gamma, (joined(1e-20, 1e-5, uniform(0.05, 20.0, 20), 170.0),), (6, 8, 16)),
    "betaln": Precision(_betaln, MODERATE, (300, 800, 1000), reason=DIGAMMAS),
    "beta": Precision(MP.beta, MODERATE, (200, 800, 1500), reason=DIGAMMAS),
    "gammainc": Precision(lambda a, x: MP.gammainc(a, 0, x, regularized=True), SHAPES, (64, 200, 200), fixed=(0,),
                          reason=DENSITY),
    "gammaincc": Precision(lambda a, x: MP.gammainc(a, x, regularized=True), SHAPES, (300, 200, 200), fixed=(0,),
                           reason=DENSITY),
    "zeta": Precision(MP.zeta, (SHAPES[0] + 1.5, SHAPES[1]), (16, 16, 16), fixed=(0,)),
    "i0": Precision(lambda x: MP.besseli(0, x), (BESSEL,), (8, 8, 8)),
    "i1": Precision(lambda x: MP.besseli(1, x), (BESSEL,), (8, 8, 8)),
    "bessel_i": Precision(lambda x: MP.besseli(2, x), (BESSEL,), (8, 8, 8), attrs={"n": 2}),
    "i0e": Precision(_scaled_bessel(0), (BESSEL,), (64, 1500, 2e5), reason=SCALED),
    "i1e": Precision(_scaled_bessel(1), (BESSEL,), (64, 1500, 2e5), reason=SCALED),
    "bessel_ie": Precision(_scaled_bessel(2), (BESSEL,), (64, 1500, 2e5), attrs={"n": 2}, reason=SCALED),
    "entr": Precision(lambda x: -x * MP.log(x), (joined(TINY, magnitudes(count=12, signed=False)),), (4, 4, 2)),
    "rel_entr": Precision(_rel_entr, PAIRS, (4, 8, 4)),
    "logit": Precision(lambda p: MP.log(p / (1 - p)), (PROBABILITIES,), (4, 4, 8)),
    "logit_slope": Precision(lambda p: 1 / (p * (1 - p)), (PROBABILITIES,), (4, 8, 16)),
}

"""NumPy functions behind the rows of `special`, in double precision whatever the dtype; SciPy where it has the digits.

Where it has not, the stable forms are here. With h(x) = exp(-x²/2), the square taken exactly:

    erfcx(x) = 2 / h(x)² - erfcx(-x)                       below 0, where exp(x²) of a rounded x² has lost its digits
    erfc(x) = erfcx(x) h(x)²,   ndtr(x) = erfcx(-x/√2) h(x) / 2
    f_n(x) = exp(x²) iⁿerfc(x):  f_{n-2} = 2 n f_n + 2 x f_{n-1}, downwards by ratios where x > 1/2 (1 if n = 1)

Sources: W. Gautschi, Computational aspects of three-term recurrence relations, SIAM Rev. 9 (1967), for f_n;
F. Johansson, Rigorous high-precision computation of the Hurwitz zeta function, Numer. Algorithms 69 (2015), for the
VM's Euler-Maclaurin sum.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

Array = Any
INVERSE_ROOT_TWO = math.sqrt(0.5)
SPLIT = 134217729.0  # 2^27 + 1: Veltkamp's factor, which halves the digits of a float64

# (-1)^k (zeta(k) - 1) / k, k = 2, 3, ...: lgamma(2 + t) = (1 - gamma) t + sum_k c_k t^k
LGAMMA_AT_TWO = (
    0.3224670334241132, -0.06735230105319810, 0.02058080842778454, -0.007385551028673986, 0.002890510330741523,
    -0.001192753911703261, 0.0005096695247430425, -0.0002231547584535794, 9.945751278180853e-05,
    -4.492623673813314e-05, 2.050721277567069e-05, -9.439488275268397e-06, 4.374866789907488e-06,
    -2.039215753801366e-06, 9.551412130407420e-07, -4.492469198764566e-07, 2.120718480555466e-07,
    -1.004322482396810e-07, 4.769810169363981e-08, -2.271109460894316e-08,
)
ONE_MINUS_EULER = 0.42278433509846713


def in_double(f: Callable[..., Array]) -> Callable[..., Array]:
    """`f` of float64 arrays as a function of arrays of any floating dtype, which the result gets."""

    def call(*args: Array, **attrs: Any) -> Array:
        dtype = np.result_type(*args)
        with np.errstate(all="ignore"):
            return np.asarray(f(*[np.asarray(a, np.float64) for a in args], **attrs)).astype(dtype)

    return call


def scipy_function(name: str) -> Callable[..., Array]:
    """SciPy's function `name`, imported when it is called."""

    @in_double
    def call(*args: Array) -> Array:
        from scipy import special

        return getattr(special, name)(*args)

    return call


@cache
def libm_lgamma() -> Callable[[float], float]:
    """The C library's lgamma, which has digits at the zeros between negative integers too."""
    try:
        function = ctypes.CDLL(None).lgamma
    except (AttributeError, OSError):  # pragma: no cover  (a C library without the function that C99 asks for)
        return math.lgamma
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
    found: Callable[[float], float] = function
    return found


# ---- the normal distribution -----------------------------------------------------------------------------------------
def _gaussian(x: Array) -> Array:
    # exp(-x^2 / 2) with the rounding error of x^2 (Dekker) put back: x^2 / 2 ulp would be lost without it
    x = np.clip(x, -40.0, 40.0)
    high = SPLIT * x
    high = high - (high - x)
    low, rounded = x - high, x * x
    lost = ((high * high - rounded) + 2.0 * high * low) + low * low
    return np.exp(-0.5 * rounded) * (1.0 - 0.5 * lost)


gaussian = in_double(_gaussian)


def _erfcx(x: Array) -> Array:
    from scipy import special

    h = _gaussian(x)
    right = special.erfcx(np.abs(x))
    return np.where(x >= 0, right, np.where(x < 0, 2.0 / h / h - right, x))


erfcx = in_double(_erfcx)


@in_double
def erf(x: Array) -> Array:
    from scipy import special

    return special.erf(x)


@in_double
def erfc(x: Array) -> Array:
    from scipy import special

    h = _gaussian(x)
    return np.where(x > 0.5, special.erfcx(np.maximum(x, 0.5)) * h * h, special.erfc(x))


def _ndtr(x: Array) -> Array:
    from scipy import special

    tail = 0.5 * special.erfcx(np.maximum(np.abs(x), 1.0) * INVERSE_ROOT_TWO) * _gaussian(x)
    middle = 0.5 + 0.5 * special.erf(x * INVERSE_ROOT_TWO)
    return np.where(x < -1, tail, np.where(x > 1, 1.0 - tail, middle))


ndtr = in_double(_ndtr)


@in_double
def log_ndtr(x: Array) -> Array:
    from scipy import special

    scaled = 0.5 * special.erfcx(np.maximum(np.abs(x), 1.0) * INVERSE_ROOT_TWO)
    left = np.where(x > -1e150, np.log(scaled) - 0.5 * x * x, -0.5 * x * x)
    right = np.log1p(-scaled * _gaussian(x))
    middle = np.log1p(-0.5 * special.erfc(x * INVERSE_ROOT_TWO))
    return np.where(x < -1, left, np.where(x > 1, right, middle))


@in_double
def scaled_erfc_integral(x: Array, *, n: int) -> Array:
    x = np.asarray(x)
    before, value = np.full(x.shape, 2.0 / math.sqrt(math.pi)), _erfcx(x)
    up = value
    for k in range(1, n + 1):
        up, before = (before - 2.0 * x * up) / (2.0 * k), up
    least = 1.0 if n == 1 else 0.5  # below it, the upward recurrence is short enough to keep its digits
    down = np.maximum(x, least)
    steps = int(np.max(170.0 / (down * down), initial=0.0, where=x >= least)) + 20 + n
    root = np.sqrt(down * down + 2.0 * steps)
    ratio = 1.0 / (root + down)  # of f_steps to f_{steps-1}
    for k in range(steps, 1, -1):
        value = value * ratio if k <= n else value
        ratio = 1.0 / (2.0 * (down + k * ratio))
    value = value * ratio if n else value
    return np.where(x >= least, value, up)


def _tail_slope(tail: Array, y: Array) -> Array:
    # 1 / phi(y) where the smaller tail is given: erfcx(|y| / sqrt 2) / (sqrt(2 / pi) tail)
    from scipy import special

    return special.erfcx(np.abs(y) * INVERSE_ROOT_TWO) * math.sqrt(math.pi / 2.0) / tail


@in_double
def erfinv_slope(x: Array) -> Array:
    from scipy import special

    size = np.abs(x)
    slope = special.erfcx(np.abs(special.erfinv(x))) * (0.5 * math.sqrt(math.pi)) / (1.0 - size)
    return np.where(size == 1, np.inf, slope)


@in_double
def ndtri_slope(p: Array) -> Array:
    from scipy import special

    slope = _tail_slope(np.minimum(p, 1.0 - p), special.ndtri(p))
    return np.where((p == 0) | (p == 1), np.inf, slope)


# ---- gamma -----------------------------------------------------------------------------------------------------------
@in_double
def lgamma(x: Array) -> Array:
    from scipy import special

    y = np.asarray(special.gammaln(x))
    t = np.clip(np.where(x < 1.5, x - 1.0, x - 2.0), -0.3, 0.3)
    series = np.zeros_like(t)
    for c in reversed(LGAMMA_AT_TWO):
        series = (series + c) * t
    series = (series + ONE_MINUS_EULER) * t
    near = np.where(x < 1.5, series - np.log1p(t), series)
    y = np.where((np.abs(x - 1.0) < 0.25) | (np.abs(x - 2.0) < 0.25), near, y)
    zeros = (x < -2) & (x > -100)
    if np.any(zeros):
        y = np.array(y)
        y[zeros] = [libm_lgamma()(v) for v in np.asarray(x)[zeros].tolist()]
    y = np.where(np.abs(x) < 1e-290, -np.log(np.abs(x)), y)
    return np.where(np.isinf(x), np.inf, y)


digamma = scipy_function("psi")
gamma = scipy_function("gamma")


def _polygamma(x: Array, n: int) -> Array:
    # sum_k (x + k)^-s with x = m + d, |d| <= 1/2: the terms below 0 are those of a sum above 0
    from scipy import special

    s = n + 1.0
    d = x - np.rint(x)
    above, below = np.where(d >= 0, d, 1.0 + d), np.where(d >= 0, 1.0 - d, -d)
    sign = 1.0 if n % 2 else -1.0
    negative = special.zeta(s, above) + sign * (special.zeta(s, below) - special.zeta(s, np.maximum(1.0 - x, 1.0)))
    value = np.where(x > 0, special.zeta(s, np.where(x > 0, x, 1.0)), negative)
    pole = np.where(x == 0, np.copysign(1.0, x) ** s, 1.0) * np.inf
    value = np.where((x <= 0) & (d == 0), pole, value)
    return sign * math.gamma(s) * np.where(np.isnan(x) | (x == -np.inf), np.nan, value)


@in_double
def polygamma(x: Array, *, n: int) -> Array:
    return _polygamma(x, n)


@in_double
def zeta(s: Array, q: Array) -> Array:
    from scipy import special

    return np.where(np.isnan(s) | np.isnan(q), np.nan, special.zeta(s, q))  # SciPy has infinity there


# ---- Bessel ----------------------------------------------------------------------------------------------------------
@in_double
def bessel_i(x: Array, *, n: int) -> Array:
    from scipy import special

    return special.iv(float(n), x)


@in_double
def bessel_ie(x: Array, *, n: int) -> Array:
    from scipy import special

    return special.ive(float(n), x)

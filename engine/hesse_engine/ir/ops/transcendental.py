"""Logarithms, roots, trigonometric and hyperbolic functions beyond those of `pointwise`.

Derivatives are written with rows that hold their digits everywhere. 1/sqrt(1 - x²), 1/sqrt(1 + x²), 1/(1 + x²) and
1/sqrt(x² - 1) are rows of their own (`sec_asin`, `cos_atan`, `lorentzian`, `csch_acosh`): the square neither overflows
nor cancels, and neither does it in the derivatives, which are products of the same rows. So it is with a / r and
a / r² of a vector (a, b) of length r (`unit`, `inversion`), which are 0 at the origin: subgradients of hypot and atan2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops.elementwise import batch_elementwise, check_operands, pointwise, quiet, result_dtype
from hesse_engine.ir.ops.pointwise import Partials, log, log1p, sigmoid, square, where
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import convert, integer

LN2, LN10 = math.log(2.0), math.log(10.0)


# ---- exponentials, logarithms, roots ---------------------------------------------------------------------------------
@pointwise(np.exp2, vm="exp2({0})")
def exp2(y: Node, x: Node) -> Partials:
    """2 to the power x."""
    return (LN2 * y,)


@pointwise(np.log2, vm="log2({0})", domain="x >= 0; -inf at 0, NaN below")
def log2(y: Node, x: Node) -> Partials:
    """Logarithm to base 2."""
    return ((1.0 / LN2) / x,)


@pointwise(np.log10, vm="log10({0})", domain="x >= 0; -inf at 0, NaN below")
def log10(y: Node, x: Node) -> Partials:
    """Logarithm to base 10."""
    return ((1.0 / LN10) / x,)


def _one(x: Any) -> Any:
    return np.asarray(x).dtype.type(1)


@pointwise(quiet(lambda x: _one(x) / np.sqrt(x)), vm="ONE / math.sqrt({0})", domain="x >= 0; inf at 0, NaN below")
def rsqrt(y: Node, x: Node) -> Partials:
    """1 / sqrt(x)."""
    return (-0.5 * (y / x),)


@pointwise(np.cbrt, vm="cbrt({0})", kink="at 0 the derivatives are infinite")
def cbrt(y: Node, x: Node) -> Partials:
    """Cube root, of negative numbers too."""
    return ((1.0 / 3.0) / y / y,)  # y / (3 x) would be 0 / 0 at 0


# ---- inverse trigonometric functions ---------------------------------------------------------------------------------
@pointwise(np.arcsin, vm="asin({0})", domain="-1 <= x <= 1; NaN elsewhere")
def asin(y: Node, x: Node) -> Partials:
    """Inverse sine, in [-pi/2, pi/2]."""
    return (sec_asin(x),)


@pointwise(np.arccos, vm="acos({0})", domain="-1 <= x <= 1; NaN elsewhere")
def acos(y: Node, x: Node) -> Partials:
    """Inverse cosine, in [0, pi]."""
    return (-sec_asin(x),)


@pointwise(quiet(lambda x: 1 / np.sqrt((1 - x) * (1 + x))), vm="ONE / math.sqrt((ONE - {0}) * (ONE + {0}))",
           domain="-1 <= x <= 1; inf at the ends, NaN elsewhere")
def sec_asin(y: Node, x: Node) -> Partials:
    """1 / sqrt(1 - x²), the derivative of asin."""
    return (x * y * y * y,)


@pointwise(np.arctan, vm="atan({0})")
def atan(y: Node, x: Node) -> Partials:
    """Inverse tangent, in [-pi/2, pi/2]."""
    return (lorentzian(x),)


@pointwise(quiet(lambda x: 1 / (1 + x * x)), vm="ONE / (ONE + {0} * {0})")
def lorentzian(y: Node, x: Node) -> Partials:
    """1 / (1 + x²), the derivative of atan."""
    return (-2.0 * (x * y) * y,)


# ---- hyperbolic functions and their inverses -------------------------------------------------------------------------
@pointwise(quiet(np.sinh), vm="sinh({0})")
def sinh(y: Node, x: Node) -> Partials:
    """Hyperbolic sine."""
    return (cosh(x),)


@pointwise(quiet(np.cosh), vm="cosh({0})")
def cosh(y: Node, x: Node) -> Partials:
    """Hyperbolic cosine."""
    return (sinh(x),)


@pointwise(np.arcsinh, vm="asinh({0})")
def asinh(y: Node, x: Node) -> Partials:
    """Inverse hyperbolic sine."""
    return (cos_atan(x),)


@pointwise(quiet(lambda x: 1 / np.hypot(_one(x), x)), vm="ONE / hypot(ONE, {0})")
def cos_atan(y: Node, x: Node) -> Partials:
    """1 / sqrt(1 + x²), the derivative of asinh."""
    return (-(x * y) * y * y,)


@pointwise(quiet(np.arccosh), vm="acosh({0})", domain="x >= 1; NaN below")
def acosh(y: Node, x: Node) -> Partials:
    """Inverse hyperbolic cosine, at least 0."""
    return (csch_acosh(x),)


@pointwise(quiet(lambda x: 1 / (np.sqrt(x - 1) * np.sqrt(x + 1))),
           vm="ONE / (math.sqrt({0} - ONE) * math.sqrt({0} + ONE))", domain="x >= 1; inf at 1, NaN below")
def csch_acosh(y: Node, x: Node) -> Partials:
    """1 / sqrt(x² - 1), the derivative of acosh."""
    return (-(x * y) * y * y,)


@pointwise(quiet(np.arctanh), vm="atanh({0})", domain="-1 <= x <= 1; infinite at the ends, NaN elsewhere")
def atanh(y: Node, x: Node) -> Partials:
    """Inverse hyperbolic tangent."""
    return (square(sec_asin(x)),)


# ---- two operands ----------------------------------------------------------------------------------------------------
def _length(a: Node, b: Node) -> Node:
    """hypot(a, b), and 1 at the origin, for what is divided by it."""
    r = hypot(a, b)
    return where(apply("equal", r, 0.0), 1.0, r)


@pointwise(quiet(np.hypot), vm="hypot({0}, {1})", kink="at (0, 0) the derivatives are 0, torch has NaN")
def hypot(y: Node, a: Node, b: Node) -> Partials:
    """sqrt(a² + b²), without overflow."""
    return unit(a, b), unit(b, a)


def _scaled(a: Any, b: Any) -> tuple[Any, Any, Any]:
    largest = np.maximum(np.abs(a), np.abs(b))
    size = np.where(largest == 0, _one(largest), largest)
    return a / size, b / size, size


def _unit(a: Any, b: Any) -> Any:
    s, t, _ = _scaled(a, b)
    return np.where(s == 0, s, s / np.sqrt(s * s + t * t))


@pointwise(quiet(_unit), vm="unit({0}, {1})", kink="at (0, 0) value and derivatives are 0")
def unit(y: Node, a: Node, b: Node) -> Partials:
    """a / hypot(a, b), the cosine of the angle of (a, b): the derivative of hypot; 0 at (0, 0)."""
    r, other = _length(a, b), unit(b, a)
    return other * (other / r), -y * (other / r)


@pointwise(quiet(np.arctan2), vm="atan2({0}, {1})", kink="at (0, 0) the derivatives are 0")
def atan2(y: Node, a: Node, b: Node) -> Partials:
    """The angle of the point (b, a), in [-pi, pi]."""
    return inversion(b, a), -inversion(a, b)


def _inversion(a: Any, b: Any) -> Any:
    s, t, size = _scaled(a, b)
    return np.where(s == 0, s, s / (s * s + t * t) / size)


@pointwise(quiet(_inversion), vm="inversion({0}, {1})", kink="at (0, 0) value and derivatives are 0")
def inversion(y: Node, a: Node, b: Node) -> Partials:
    """a / (a² + b²), the derivative of atan2; 0 at (0, 0)."""
    other = inversion(b, a)
    return square(other) - square(y), -2.0 * (y * other)


def _xlogy(x: Any, y: Any) -> Any:
    return np.where((x == 0) & (y == y), np.zeros_like(x), x * np.log(y))


def _masked(x: Node, is_outside: Node, value: Node) -> Node:
    """`value`, and 0 where x is 0 and the logarithm has no finite value."""
    return where(apply("logical_and", apply("equal", x, 0.0), is_outside), 0.0, value)


@pointwise(quiet(_xlogy), vm="xlogy({0}, {1})", domain="y >= 0; NaN below, but for x = 0",
           kink="where x is 0 and y <= 0 the derivatives are 0")
def xlogy(z: Node, x: Node, y: Node) -> Partials:
    """x log(y), 0 where x is 0."""
    outside = apply("less_equal", y, 0.0)
    return _masked(x, outside, log(y)), _masked(x, outside, x / y)


def _xlog1py(x: Any, y: Any) -> Any:
    return np.where((x == 0) & (y == y), np.zeros_like(x), x * np.log1p(y))


@pointwise(quiet(_xlog1py), vm="xlog1py({0}, {1})", domain="y >= -1; NaN below, but for x = 0",
           kink="where x is 0 and y <= -1 the derivatives are 0")
def xlog1py(z: Node, x: Node, y: Node) -> Partials:
    """x log(1 + y), accurate near y = 0; 0 where x is 0."""
    outside = apply("less_equal", y, -1.0)
    return _masked(x, outside, log1p(y)), _masked(x, outside, x / (1.0 + y))


def _gap(a: Node, b: Node) -> Node:
    """a - b, 0 where both are the same infinity."""
    is_same = apply("logical_and", apply("equal", a, b), apply("isinf", a))
    return where(is_same, 0.0, a - b)


@pointwise(quiet(np.logaddexp), vm="logaddexp({0}, {1})",
           kink="where both are the same infinity each has half of the derivative")
def logaddexp(y: Node, a: Node, b: Node) -> Partials:
    """log(exp(a) + exp(b)), without overflow."""
    return sigmoid(_gap(a, b)), sigmoid(_gap(b, a))


@pointwise(quiet(np.logaddexp2), vm="logaddexp2({0}, {1})",
           kink="where both are the same infinity each has half of the derivative")
def logaddexp2(y: Node, a: Node, b: Node) -> Partials:
    """log2(2^a + 2^b), without overflow."""
    return sigmoid(LN2 * _gap(a, b)), sigmoid(LN2 * _gap(b, a))


# ---- sinc ------------------------------------------------------------------------------------------------------------
SERIES = 24  # terms: enough for 1e-17 where |z| is below the order + 2, for orders up to 12


def _quarter_turns(x: Any, quarters: int) -> Any:
    """sin(pi x + quarters pi / 2), with x reduced before it is multiplied by pi."""
    x = x - 2.0 * np.round(0.5 * x)
    nearest = np.round(2.0 * x)
    r, turns = math.pi * (x - 0.5 * nearest), (np.where(np.isfinite(nearest), nearest, 0.0) + quarters) % 4
    return np.where(turns % 2 == 0, np.sin(r), np.cos(r)) * np.where(turns < 2, 1.0, -1.0)


def _series(z: Any, order: int) -> Any:
    """The integral of t^n cos(z t + n pi / 2) over [0, 1], term by term."""
    j = order % 2
    term = (z if j else np.ones_like(z)) * (-1.0) ** ((order + j) // 2)
    total = term / (order + j + 1)
    for _ in range(SERIES):
        term = term * (-z * z / ((j + 1) * (j + 2)))
        j += 2
        total = total + term / (order + j + 1)
    return total


def _sinc(x: Any, *, order: int = 0) -> Any:
    # f = sin(z) / z, z = pi x: z f^(n) + n f^(n-1) = sin(z + n pi / 2), stable for |z| > n
    wide = np.asarray(x, np.float64)
    z = math.pi * wide
    is_near = np.abs(z) < order + 2.0
    safe = np.where(is_near, 1.0, z)
    y = _quarter_turns(wide, 0) / safe
    for k in range(1, order + 1):
        y = (_quarter_turns(wide, k) - k * y) / safe
    y = np.where(is_near, _series(np.where(is_near, z, 0.0), order), y)
    return (math.pi**order * y).astype(np.asarray(x).dtype)


def _sinc_partial(y: Node, x: Node) -> Partials:
    return (apply("sinc", x, order=y.attrs["order"] + 1),)


def _build_sinc(*args: Any, order: Any = 0) -> Node:
    check_operands("sinc", args, 1)
    n = integer("sinc", "order", order)
    if not 0 <= n <= 12:
        raise GraphError("bad-attribute", f"sinc: the order of the derivative must be 0 to 12, not {n}.")
    x: Node = args[0]
    x = convert(x, result_dtype("float", x.dtype, x.builder.library)[0])
    return x.builder.make("sinc", (x,), {"order": n}, x.shape, x.dtype)


def sinc(x: Node) -> Node:
    """sin(pi x) / (pi x)."""
    return apply("sinc", x)


register(
    Row("sinc", "pointwise", 1, ("order",), _build_sinc, quiet(_sinc), _sinc_partial, batch_elementwise,
        "sinc({0}, v)", scalars=("order",), kink="none: at 0 the derivatives are those of the series, torch has 0",
        doc="sin(pi x) / (pi x), 1 at 0, or its derivative of an order: attrs order.")
)

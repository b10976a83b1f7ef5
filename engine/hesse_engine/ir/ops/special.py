"""Special functions: error functions, the normal distribution, gamma functions, Bessel functions of imaginary argument.

Derivatives are ladders, so that no order cancels: with h(x) = exp(-x²/2), f_n(x) = exp(x²) iⁿerfc(x) (DLMF 7.18) and
the modified Bessel functions I_n,

    erf' = 2 h²/√π,   f_n' = -2 (n + 1) f_{n+1},   lgamma' = psi_0,   psi_n' = psi_{n+1},   I_n' = (I_{n-1} + I_{n+1})/2

and inverses have rows for their slopes: s = erfinv' has s' = 2 erfinv s², and s = ndtri' has s' = ndtri s².
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError, UnsupportedError
from hesse_engine.ir.graph import Node, Operand, apply
from hesse_engine.ir.ops import special_functions as functions
from hesse_engine.ir.ops.elementwise import batch_elementwise, build_elementwise, check_operands, pointwise
from hesse_engine.ir.ops.special_functions import in_double, scipy_function
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import integer

Partials = tuple[Node | float | None, ...]
MAX_ORDER = 100  # of a polygamma function, an iterated integral or a Bessel function
_TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)
_INVERSE_ROOT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)
_ROOT_HALF = math.sqrt(0.5)


def where(condition: Node, a: Operand, b: Operand) -> Node:
    return apply("where", condition, a, b)


def family(numpy: Callable[..., Any], least: int = 0) -> Callable[[Callable[..., Any]], Callable[..., Node]]:
    """Register the decorated rule `(y, x) -> partials` as a row with an integer attribute n."""

    def declare(rule: Callable[..., Any]) -> Callable[..., Node]:
        name = rule.__name__

        def build(*args: Any, n: Any) -> Node:
            check_operands(name, args, 1)
            order = integer(name, "n", n)
            if not least <= order <= MAX_ORDER:
                raise GraphError("bad-attribute", f"{name}: n must be {least} to {MAX_ORDER}, not {order}.")
            return build_elementwise(name, args, "float", {"n": order})

        doc = inspect.getdoc(rule) or ""
        register(Row(name, "pointwise", 1, ("n",), build, numpy, rule, batch_elementwise, f"{name}({{0}}, v)",
                     scalars=("n",), doc=doc))
        return build

    return declare


# ---- error functions -------------------------------------------------------------------------------------------------
@pointwise(functions.gaussian, vm="gaussian({0})")
def gaussian(y: Node, x: Node) -> Partials:
    """exp(-x²/2), with the digits that the rounding of x² would cost."""
    return (-(x * y),)


@pointwise(functions.erf, vm="erf({0})")
def erf(y: Node, x: Node) -> Partials:
    """Error function, 2/√π ∫₀ˣ exp(-t²) dt."""
    return (_TWO_OVER_ROOT_PI * apply("square", gaussian(x)),)


@pointwise(functions.erfc, vm="erfc({0})")
def erfc(y: Node, x: Node) -> Partials:
    """1 - erf(x), with all digits of the right tail."""
    return (-_TWO_OVER_ROOT_PI * apply("square", gaussian(x)),)


@pointwise(functions.erfcx, vm="erfcx({0})", domain="overflows below -26.6")
def erfcx(y: Node, x: Node) -> Partials:
    """exp(x²) erfc(x)."""
    return (-2.0 * scaled_erfc_integral(x, n=1),)


@family(functions.scaled_erfc_integral)
def scaled_erfc_integral(y: Node, x: Node) -> Partials:
    """exp(x²) iⁿerfc(x), the n-th iterated integral of erfc, scaled: attrs n. n = 0 is erfcx."""
    n = y.attrs["n"]
    return (-2.0 * (n + 1) * scaled_erfc_integral(x, n=n + 1),)


@pointwise(scipy_function("erfinv"), vm="erfinv({0})", domain="-1 <= x <= 1")
def erfinv(y: Node, x: Node) -> Partials:
    """The inverse of erf; ±inf at ±1, NaN beyond."""
    return (erfinv_slope(x),)


@pointwise(functions.erfinv_slope, vm="erfinv_slope({0})", domain="-1 <= x <= 1")
def erfinv_slope(y: Node, x: Node) -> Partials:
    """√π/2 exp(erfinv(x)²), the derivative of erfinv, as √π/2 erfcx(|erfinv(x)|) / (1 - |x|)."""
    return (2.0 * erfinv(x) * apply("square", y),)


@pointwise(scipy_function("erfcinv"), vm="erfcinv({0})", domain="0 <= x <= 2")
def erfcinv(y: Node, x: Node) -> Partials:
    """The inverse of erfc; inf at 0, -inf at 2, NaN beyond."""
    return (-0.5 * _ROOT_HALF * ndtri_slope(0.5 * x),)


# ---- the normal distribution -----------------------------------------------------------------------------------------
@pointwise(functions.ndtr, vm="ndtr({0})")
def ndtr(y: Node, x: Node) -> Partials:
    """Distribution function of the standard normal law, erfc(-x/√2)/2, with all digits of the left tail."""
    return (_INVERSE_ROOT_TWO_PI * gaussian(x),)


@pointwise(functions.log_ndtr, vm="log_ndtr({0})")
def log_ndtr(y: Node, x: Node) -> Partials:
    """ln ndtr(x), with all digits in both tails."""
    # phi / ndtr; on the left, where both vanish, as r - x with r = sqrt(2) f_1 / f_0 at -x / sqrt(2): no order cancels
    right, u = _INVERSE_ROOT_TWO_PI * gaussian(x) / ndtr(x), -_ROOT_HALF * x
    excess = (2.0 * _ROOT_HALF) * (scaled_erfc_integral(u, n=1) / erfcx(u))
    return (where(x > 0.0, right, excess - x),)


@pointwise(scipy_function("ndtri"), vm="ndtri({0})", domain="0 <= p <= 1")
def ndtri(y: Node, p: Node) -> Partials:
    """The inverse of ndtr; -inf at 0, inf at 1, NaN beyond."""
    return (ndtri_slope(p),)


@pointwise(functions.ndtri_slope, vm="ndtri_slope({0})", domain="0 <= p <= 1")
def ndtri_slope(y: Node, p: Node) -> Partials:
    """√(2π) exp(ndtri(p)²/2), the derivative of ndtri."""
    return (ndtri(p) * apply("square", y),)


# ---- gamma -----------------------------------------------------------------------------------------------------------
@pointwise(functions.lgamma, vm="lgamma({0})", kink="inf at 0, -1, -2, ...; the derivative is digamma's there")
def lgamma(y: Node, x: Node) -> Partials:
    """ln |gamma(x)|."""
    return (digamma(x),)


@pointwise(functions.digamma, vm="digamma({0})", kink="-inf at 0, inf at -0, NaN at -1, -2, ...")
def digamma(y: Node, x: Node) -> Partials:
    """The derivative of ln gamma(x)."""
    return (polygamma(x, n=1),)


@family(functions.polygamma, least=1)
def polygamma(y: Node, x: Node) -> Partials:
    """The n-th derivative of digamma, (-1)ⁿ⁺¹ n! sum_k (x + k)⁻ⁿ⁻¹: attrs n, from 1 on."""
    return (polygamma(x, n=y.attrs["n"] + 1),)


@pointwise(functions.gamma, vm="gamma({0})", domain="not 0, -1, -2, ...")
def gamma(y: Node, x: Node) -> Partials:
    """The gamma function; ±inf at ±0, NaN at negative integers."""
    return (y * digamma(x),)


@pointwise(scipy_function("betaln"), vm="betaln({0}, {1})")
def betaln(y: Node, a: Node, b: Node) -> Partials:
    """ln |gamma(a) gamma(b) / gamma(a + b)|."""
    whole = digamma(a + b)
    return digamma(a) - whole, digamma(b) - whole


@pointwise(scipy_function("beta"), vm="beta({0}, {1})")
def beta(y: Node, a: Node, b: Node) -> Partials:
    """gamma(a) gamma(b) / gamma(a + b)."""
    whole = digamma(a + b)
    return y * (digamma(a) - whole), y * (digamma(b) - whole)


class Unknown(float):
    """A partial that is not known: the transforms ask whether it is 1 when they need it, which is refused."""

    def __eq__(self, other: object) -> bool:
        raise UnsupportedError("unsupported", "gammainc, gammaincc and zeta have no derivative in their first operand.",
                               hint="Pass it as a constant, detach it, or leave it out of argnums.")

    __hash__ = float.__hash__


def _density(a: Node, x: Node) -> Node:
    # x^(a-1) exp(-x) / gamma(a)
    return apply("exp", apply("subtract", (a - 1.0) * apply("log", x) - x, lgamma(a)))


@pointwise(scipy_function("gammainc"), vm="gammainc({0}, {1})", domain="a > 0, x >= 0",
           kink="no derivative in a")
def gammainc(y: Node, a: Node, x: Node) -> Partials:
    """Regularized lower incomplete gamma function P(a, x), differentiable in x."""
    return Unknown(), _density(a, x)


@pointwise(scipy_function("gammaincc"), vm="gammaincc({0}, {1})", domain="a > 0, x >= 0",
           kink="no derivative in a")
def gammaincc(y: Node, a: Node, x: Node) -> Partials:
    """Regularized upper incomplete gamma function Q(a, x), differentiable in x."""
    return Unknown(), -_density(a, x)


@pointwise(functions.zeta, vm="zeta({0}, {1})", domain="s > 1", kink="no derivative in s")
def zeta(y: Node, s: Node, q: Node) -> Partials:
    """Hurwitz zeta function sum_k (q + k)⁻ˢ, differentiable in q."""
    return Unknown(), -(s * zeta(s + 1.0, q))


# ---- Bessel functions of imaginary argument --------------------------------------------------------------------------
def _scaled_sign(y: Node, x: Node) -> Node:
    return apply("sign", x) * y


@pointwise(scipy_function("i0"), vm="i0({0})")
def i0(y: Node, x: Node) -> Partials:
    """Modified Bessel function I₀."""
    return (i1(x),)


@pointwise(scipy_function("i1"), vm="i1({0})")
def i1(y: Node, x: Node) -> Partials:
    """Modified Bessel function I₁."""
    return (0.5 * (i0(x) + bessel_i(x, n=2)),)


@family(functions.bessel_i, least=2)
def bessel_i(y: Node, x: Node) -> Partials:
    """Modified Bessel function Iₙ: attrs n, from 2 on."""
    n = y.attrs["n"]
    below = i1(x) if n == 2 else bessel_i(x, n=n - 1)
    return (0.5 * (below + bessel_i(x, n=n + 1)),)


@pointwise(scipy_function("i0e"), vm="i0e({0})")
def i0e(y: Node, x: Node) -> Partials:
    """exp(-|x|) I₀(x)."""
    return (i1e(x) - _scaled_sign(y, x),)


@pointwise(scipy_function("i1e"), vm="i1e({0})")
def i1e(y: Node, x: Node) -> Partials:
    """exp(-|x|) I₁(x)."""
    return (0.5 * (i0e(x) + bessel_ie(x, n=2)) - _scaled_sign(y, x),)


@family(functions.bessel_ie, least=2)
def bessel_ie(y: Node, x: Node) -> Partials:
    """exp(-|x|) Iₙ(x): attrs n, from 2 on."""
    n = y.attrs["n"]
    below = i1e(x) if n == 2 else bessel_ie(x, n=n - 1)
    return (0.5 * (below + bessel_ie(x, n=n + 1)) - _scaled_sign(y, x),)


# ---- entropy and logits ----------------------------------------------------------------------------------------------
@pointwise(scipy_function("entr"), vm="entr({0})", domain="x >= 0; -inf below", kink="the derivative at 0 is inf")
def entr(y: Node, x: Node) -> Partials:
    """-x ln x; 0 at 0."""
    return (-(apply("log", x) + 1.0),)


@pointwise(scipy_function("rel_entr"), vm="rel_entr({0}, {1})", domain="x >= 0, y > 0; inf elsewhere")
def rel_entr(z: Node, x: Node, y: Node) -> Partials:
    """x ln(x / y); 0 at x = 0."""
    ratio = x / y
    return apply("log", ratio) + 1.0, -ratio


@pointwise(in_double(lambda p: np.where(np.abs(p - 0.5) < 0.25, np.log1p((p - 0.5) * 2 / (1 - p)),
                                        np.log(p / (1 - p)))),
           vm="logit({0})", domain="0 <= p <= 1")
def logit(y: Node, p: Node) -> Partials:
    """ln(p / (1 - p)), the inverse of sigmoid; ±inf at 1 and 0."""
    return (logit_slope(p),)


@pointwise(in_double(lambda p: np.where((p < 0) | (p > 1), np.nan, 1.0 / (p * (1.0 - p)))), vm="logit_slope({0})",
           domain="0 <= p <= 1")
def logit_slope(y: Node, p: Node) -> Partials:
    """1 / (p (1 - p)), the derivative of logit; inf at 0 and 1, NaN beyond."""
    return ((2.0 * p - 1.0) * apply("square", y),)

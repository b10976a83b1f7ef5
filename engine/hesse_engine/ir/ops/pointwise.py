"""Pointwise rows: y = phi(a, b, ...), each stated by its partial derivatives in the graph language.

At kinks the partials are torch's forward-over-reverse subgradients: 0 for abs and sign at 0, an even split for maximum
and minimum at ties, 1 for clip on its bounds, and for powers no NaN where the factor in front is exactly 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import Node, Operand, apply, scalar_value
from hesse_engine.ir.ops.elementwise import (
    batch_elementwise,
    build_elementwise,
    check_arity,
    check_operands,
    elementwise,
    pointwise,
    result_dtype,
)
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import convert

Partials = tuple[Node | float | None, ...]


def where(condition: Node, a: Operand, b: Operand) -> Node:
    return apply("where", condition, a, b)


# ---- arithmetic ------------------------------------------------------------------------------------------------------
@pointwise(np.true_divide, vm="{0} / {1}")
def divide(y: Node, a: Node, b: Node) -> Partials:
    """a / b."""
    return 1.0 / b, -(y / b)


@pointwise(np.square, vm="{0} * {0}", result="number")
def square(y: Node, x: Node) -> Partials:
    """x²."""
    return (2.0 * x,)


@pointwise(np.sqrt, vm="math.sqrt({0})")
def sqrt(y: Node, x: Node) -> Partials:
    """Square root; NaN below 0."""
    return (0.5 / y,)


def _power(y: Node, a: Node, b: Node) -> Partials:
    # phi_a = b a^(b-1), exactly 0 where b = 0; phi_b = a^b ln a, exactly 0 where a = 0 and b >= 0
    by_base = where(apply("equal", b, 0.0), 0.0, b * power(a, b - 1.0))
    vanishes = apply("logical_and", apply("equal", a, 0.0), b >= 0.0)
    return by_base, where(vanishes, 0.0, y * log(a))


def _power_scalar(y: Node, x: Node) -> Partials:
    # d x^p = p x^(p-1): the factor p keeps x^0 and x^1 free of 0 * inf at 0
    p = float(y.attrs["exponent"])
    if p == 0.0:
        return (None,)
    return (p,) if p == 1.0 else (p * power(x, p - 1.0),)


def _power_numpy(x: Any, *, exponent: float) -> Any:
    return np.power(x, np.asarray(exponent, x.dtype)) if np.asarray(x).dtype.kind == "f" else np.power(x, int(exponent))


def _exponent(value: Any) -> float:
    try:
        p = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        p = math.nan
    if math.isnan(p):
        raise GraphError("bad-attribute", "power_scalar: the exponent must be a number of float64, and not NaN.")
    return p


def _build_power_scalar(*args: Any, exponent: float) -> Node:
    check_operands("power_scalar", args, 1)
    p, x = _exponent(exponent), args[0]
    assert isinstance(x, Node)
    integral = x.dtype.kind in "iu" and 0 <= p < 2**31 and p == int(p)
    if not integral:
        x = convert(x, result_dtype("float", x.dtype, x.builder.library)[0])
    if p == 2.0:
        return square(x)
    if p == 1.0:
        return x
    if p == 0.5:
        return sqrt(x)
    return x.builder.make("power_scalar", (x,), {"exponent": p}, x.shape, x.dtype)


register(
    Row("power_scalar", "pointwise", 1, ("exponent",), _build_power_scalar, _power_numpy, _power_scalar,
        batch_elementwise, "power({0}, v)", scalars=("exponent",), doc="x to a constant power: attrs exponent.")
)


def power(a: Operand, b: Operand) -> Node:
    """a to the power b."""
    if isinstance(a, Node) and (isinstance(b, (int, float)) or (isinstance(b, Node) and b.op == "constant")):
        p = scalar_value(b) if isinstance(b, Node) else float(b) if abs(b) < 1e300 or isinstance(b, float) else None
        weak = isinstance(b, (int, float)) or (b.ndim == 0 and b.dtype == a.dtype)
        if p is not None and weak and not math.isnan(p) and (isinstance(b, int) or a.is_floating):
            return apply("power_scalar", a, exponent=p)
    integral = all([x.dtype.kind in "iu" if isinstance(x, Node) else type(x) is int for x in (a, b)])
    return build_elementwise("power", (a, b), "same" if integral else "float", {})


def _build_power(*args: Any) -> Node:
    check_arity("power", args, 2)
    return power(*args)


register(
    Row("power", "pointwise", 2, (), _build_power, np.power, _power, batch_elementwise, "power({0}, {1})",
        doc="a to the power b; a constant scalar b becomes power_scalar.")
)


# ---- exponentials and logarithms -------------------------------------------------------------------------------------
@pointwise(np.exp, vm="math.exp({0})")
def exp(y: Node, x: Node) -> Partials:
    """Exponential."""
    return (y,)


@pointwise(np.expm1, vm="math.expm1({0})")
def expm1(y: Node, x: Node) -> Partials:
    """exp(x) - 1, accurate near 0."""
    return (exp(x),)


@pointwise(np.log, vm="log({0})")
def log(y: Node, x: Node) -> Partials:
    """Natural logarithm; -inf at 0, NaN below."""
    return (1.0 / x,)


@pointwise(np.log1p, vm="log1p({0})")
def log1p(y: Node, x: Node) -> Partials:
    """ln(1 + x), accurate near 0."""
    return (1.0 / (x + 1.0),)


# ---- trigonometric and sigmoidal -------------------------------------------------------------------------------------
@pointwise(np.sin, vm="sin({0})")
def sin(y: Node, x: Node) -> Partials:
    """Sine of x radians."""
    return (cos(x),)


@pointwise(np.cos, vm="cos({0})")
def cos(y: Node, x: Node) -> Partials:
    """Cosine of x radians."""
    return (-sin(x),)


@pointwise(np.tan, vm="tan({0})")
def tan(y: Node, x: Node) -> Partials:
    """Tangent of x radians."""
    return (1.0 + square(y),)


@pointwise(np.tanh, vm="math.tanh({0})")
def tanh(y: Node, x: Node) -> Partials:
    """Hyperbolic tangent."""
    return (sech_squared(x),)  # 1 - y^2 would have no digits left for |x| > 19


@pointwise(lambda x: 1 / np.square(np.cosh(x)), vm="math.cosh({0}) ** -2")
def sech_squared(y: Node, x: Node) -> Partials:
    """1 / cosh(x)², the derivative of tanh, accurate in both tails."""
    return (-2.0 * (tanh(x) * y),)


def _sigmoid(x: Any) -> Any:
    # exp(-|x|) never overflows, so neither tail loses its digits
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e).astype(x.dtype) / (1 + e)


@pointwise(_sigmoid, vm="sigmoid({0})")
def sigmoid(y: Node, x: Node) -> Partials:
    """1 / (1 + exp(-x)), accurate in both tails."""
    return (0.25 * sech_squared(0.5 * x),)  # y (1 - y) would cancel for large x, its derivative at 0


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@pointwise(_softplus, vm="softplus({0})")
def softplus(y: Node, x: Node) -> Partials:
    """ln(1 + exp(x)), accurate in both tails."""
    return (sigmoid(x),)


# ---- kinks -----------------------------------------------------------------------------------------------------------
@pointwise(np.abs, vm="abs({0})", result="same")
def abs_(y: Node, x: Node) -> Partials:
    """Absolute value; its derivative at 0 is 0."""
    return (sign(x),)


@pointwise(np.sign, vm="sign({0})", result="number")
def sign(y: Node, x: Node) -> Partials:
    """-1, 0 or 1; NaN of NaN."""
    return (None,)


def _split(wins: Node, ties: Node, like: Node) -> Node:
    one = like.builder.constant(1.0, like.dtype)
    return where(wins, one, where(ties, 0.5, like.builder.constant(0.0, like.dtype)))


@pointwise(np.maximum, vm="maximum({0}, {1})", result="same")
def maximum(y: Node, a: Node, b: Node) -> Partials:
    """The larger of a and b, NaN if either is; a tie splits the derivative evenly."""
    ties = equal(a, b)
    return _split(a > b, ties, a), _split(b > a, ties, a)


@pointwise(np.minimum, vm="minimum({0}, {1})", result="same")
def minimum(y: Node, a: Node, b: Node) -> Partials:
    """The smaller of a and b, NaN if either is; a tie splits the derivative evenly."""
    ties = equal(a, b)
    return _split(a < b, ties, a), _split(b < a, ties, a)


@pointwise(np.clip, vm="minimum(maximum({0}, {1}), {2})", result="same")
def clip(y: Node, x: Node, low: Node, high: Node) -> Partials:
    """min(max(x, low), high); on a bound the derivative is x's."""
    one, zero = (x.builder.constant(c, x.dtype) for c in (1.0, 0.0))
    inside = apply("logical_and", x >= low, x <= high)
    is_low = apply("logical_and", x < low, low < high)
    is_high = apply("logical_or", x > high, apply("logical_and", x < low, low >= high))
    return where(inside, one, zero), where(is_low, one, zero), where(is_high, one, zero)


@pointwise(lambda x: np.array(x, copy=True), vm="{0}", result="same")
def stop_gradient(y: Node, x: Node) -> Partials:
    """x, with a derivative of zero: the explicit cut (`detach`)."""
    return (None,)


# ---- comparisons and logic: booleans, no derivative ------------------------------------------------------------------
def _declare_boolean(name: str, numpy: Any, vm: str, doc: str) -> Any:
    def rule(y: Node, a: Node, b: Node) -> Partials:
        return None, None

    rule.__name__, rule.__doc__ = name, doc
    return elementwise("pointwise", numpy, vm=vm, result="bool")(rule)


def _truth(vm: str) -> str:
    return f"1.0 if {vm} else 0.0"


equal = _declare_boolean("equal", np.equal, _truth("{0} == {1}"), "a == b, elementwise.")
not_equal = _declare_boolean("not_equal", np.not_equal, _truth("{0} != {1}"), "a != b, elementwise.")
less = _declare_boolean("less", np.less, _truth("{0} < {1}"), "a < b, elementwise.")
less_equal = _declare_boolean("less_equal", np.less_equal, _truth("{0} <= {1}"), "a <= b, elementwise.")
greater = _declare_boolean("greater", np.greater, _truth("{0} > {1}"), "a > b, elementwise.")
greater_equal = _declare_boolean("greater_equal", np.greater_equal, _truth("{0} >= {1}"), "a >= b, elementwise.")
logical_and = _declare_boolean("logical_and", np.logical_and, _truth("{0} != 0.0 and {1} != 0.0"), "Both are true.")
logical_or = _declare_boolean("logical_or", np.logical_or, _truth("{0} != 0.0 or {1} != 0.0"), "Either is true.")
logical_xor = _declare_boolean("logical_xor", np.logical_xor, _truth("({0} != 0.0) != ({1} != 0.0)"),
                               "Just one is true.")


@pointwise(np.logical_not, vm=_truth("{0} == 0.0"), result="bool")
def logical_not(y: Node, x: Node) -> Partials:
    """True where x is false."""
    return (None,)

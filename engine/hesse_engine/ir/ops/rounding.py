"""Rounding, remainders and signs: piecewise constant or piecewise linear rows.

What is constant between jumps has a derivative of 0, at the jumps too; a remainder a - k b has those of a and b with k
held fixed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops.elementwise import pointwise, quiet
from hesse_engine.ir.ops.pointwise import Partials, _truth, sign, where

_JUMPS = "0 everywhere, jumps included"


def _of_floats(f: Any) -> Any:
    """`f` of floating arrays; integers are rounded already."""

    def call(x: Any) -> Any:
        return f(x) if np.asarray(x).dtype.kind == "f" else np.array(x, copy=True)

    return call


# ---- rounding --------------------------------------------------------------------------------------------------------
@pointwise(_of_floats(np.floor), vm="np.floor({0})", result="number", kink=_JUMPS)
def floor(y: Node, x: Node) -> Partials:
    """The largest integer that is not above x."""
    return (None,)


@pointwise(_of_floats(np.ceil), vm="np.ceil({0})", result="number", kink=_JUMPS)
def ceil(y: Node, x: Node) -> Partials:
    """The smallest integer that is not below x."""
    return (None,)


@pointwise(_of_floats(np.trunc), vm="np.trunc({0})", result="number", kink=_JUMPS)
def trunc(y: Node, x: Node) -> Partials:
    """x without its fraction."""
    return (None,)


@pointwise(_of_floats(np.rint), vm="np.rint({0})", result="number", kink=_JUMPS)
def round_(y: Node, x: Node) -> Partials:
    """The nearest integer; halves go to the even one."""
    return (None,)


# ---- division with remainder -----------------------------------------------------------------------------------------
@pointwise(quiet(np.floor_divide), vm="floor_divide({0}, {1})", result="number", kink=_JUMPS)
def floor_divide(y: Node, a: Node, b: Node) -> Partials:
    """floor(a / b), of the exact quotient."""
    return None, None


@pointwise(quiet(np.remainder), vm="remainder({0}, {1})", result="number", kink="at jumps as just above them")
def remainder(y: Node, a: Node, b: Node) -> Partials:
    """a - b floor(a / b), with the sign of b: Python's a % b."""
    return 1.0, -floor_divide(a, b)


@pointwise(quiet(np.fmod), vm="np.fmod({0}, {1})", result="number", kink="at jumps as just beyond them")
def fmod(y: Node, a: Node, b: Node) -> Partials:
    """a - b trunc(a / b), with the sign of a: C's fmod."""
    return 1.0, -round_((a - y) / b)


# ---- signs and neighbors ---------------------------------------------------------------------------------------------
@pointwise(np.copysign, vm="math.copysign({0}, {1})", kink="where a is 0 its derivative is 0")
def copysign(y: Node, a: Node, b: Node) -> Partials:
    """|a| with the sign of b, the sign of a zero included."""
    return sign(a) * copysign(a.builder.full(a.shape, 1.0, a.dtype), b), None


@pointwise(quiet(np.nextafter), vm="np.nextafter({0}, {1})", kink="derivatives are 0")
def nextafter(y: Node, a: Node, b: Node) -> Partials:
    """The floating-point number next to a in the direction of b."""
    return None, None


@pointwise(np.fmax, vm="{0} if {0} >= {1} or {1} != {1} else {1}", result="same",
           kink="a tie gives the derivative to a")
def fmax(y: Node, a: Node, b: Node) -> Partials:
    """The larger of a and b; the other one where one is NaN."""
    first = apply("logical_or", a >= b, isnan(b))
    return _choice(first, a), _choice(apply("logical_not", first), a)


@pointwise(np.fmin, vm="{0} if {0} <= {1} or {1} != {1} else {1}", result="same",
           kink="a tie gives the derivative to a")
def fmin(y: Node, a: Node, b: Node) -> Partials:
    """The smaller of a and b; the other one where one is NaN."""
    first = apply("logical_or", a <= b, isnan(b))
    return _choice(first, a), _choice(apply("logical_not", first), a)


def _choice(condition: Node, like: Node) -> Node:
    one, zero = (like.builder.constant(c, like.dtype) for c in (1.0, 0.0))
    return where(condition, one, zero)


# ---- classification: booleans ----------------------------------------------------------------------------------------
@pointwise(np.isnan, vm=_truth("{0} != {0}"), result="bool")
def isnan(y: Node, x: Node) -> Partials:
    """Whether x is NaN."""
    return (None,)


@pointwise(np.isinf, vm=_truth("abs({0}) == math.inf"), result="bool")
def isinf(y: Node, x: Node) -> Partials:
    """Whether x is an infinity."""
    return (None,)


@pointwise(np.isfinite, vm=_truth("abs({0}) < math.inf"), result="bool")
def isfinite(y: Node, x: Node) -> Partials:
    """Whether x is neither NaN nor an infinity."""
    return (None,)


@pointwise(lambda x: np.signbit(x) if np.asarray(x).dtype.kind == "f" else np.less(x, 0),
           vm=_truth("math.copysign(ONE, {0}) < ZERO"), result="bool")
def signbit(y: Node, x: Node) -> Partials:
    """Whether the sign of x is set: x < 0, or x is the zero -0.0."""
    return (None,)


__all__ = ["ceil", "copysign", "floor", "floor_divide", "fmax", "fmin", "fmod", "isfinite", "isinf", "isnan",
           "nextafter", "remainder", "round_", "signbit", "trunc"]

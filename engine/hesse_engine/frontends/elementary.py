"""Elementwise functions that are more than a row: their arguments, their dtypes, their several results."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.frontends.operands import builder_of, elementwise, floating, no_rule, tensor, where
from hesse_engine.frontends.table import numpy_function, torch_function
from hesse_engine.ir.graph import Node, apply


# ---- rounding --------------------------------------------------------------------------------------------------------
@numpy_function("round", "around", "round_")
def round_(a: Any, decimals: int = 0) -> Node:
    """The nearest number of so many decimals, halves to even: scaled by 10^decimals, rounded, scaled back."""
    x = tensor(a)
    if not decimals or (not x.is_floating and decimals > 0):
        return elementwise("round", x)
    if not x.is_floating:
        raise no_rule("the rounding of integers to tens")
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return elementwise("round", x * scale) / scale
    return elementwise("round", x / scale) * scale


@torch_function("round")
def round_torch(input: Any, *, decimals: int = 0) -> Node:
    return round_(input, decimals)


@torch_function("frac")
def frac(input: Any) -> Node:
    """x - trunc(x), with the derivative 1."""
    x = tensor(input)
    return elementwise("subtract", x, elementwise("trunc", x))


@numpy_function()
def modf(x: Any) -> tuple[Node, Node]:
    """(fraction, integer), both with the sign of x; the fraction of an infinity is 0."""
    node = floating(tensor(x))
    whole = elementwise("trunc", node)
    rest = where(elementwise("isinf", node), 0.0, elementwise("subtract", node, whole))
    return elementwise("copysign", rest, node), whole


# ---- division --------------------------------------------------------------------------------------------------------
@numpy_function("divmod")
def divmod_(x1: Any, x2: Any) -> tuple[Node, Node]:
    return elementwise("floor_divide", x1, x2), elementwise("remainder", x1, x2)


@torch_function("div", "divide", "truediv", "true_divide")
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Node:
    if rounding_mode is None:
        return elementwise("divide", input, other)
    if rounding_mode == "floor":
        return elementwise("floor_divide", input, other)
    if rounding_mode != "trunc":
        raise no_rule(f"torch.div with rounding_mode={rounding_mode!r}")
    builder = builder_of(input, other)
    a, b = tensor(input, builder), tensor(other, builder)
    if a.is_floating or b.is_floating:
        return elementwise("trunc", elementwise("divide", input, other))
    # towards zero: one above the floor where signs differ and there is a remainder
    down, rest = elementwise("floor_divide", a, b), elementwise("remainder", a, b)
    is_below = elementwise("logical_and", elementwise("less", down, 0), elementwise("not_equal", rest, 0))
    return where(is_below, elementwise("add", down, 1), down)


def _reflected(row: str, name: str) -> None:
    @torch_function(name)
    def exchanged(input: Any, other: Any) -> Node:
        return elementwise(row, other, input)


_reflected("floor_divide", "rfloordiv")
_reflected("remainder", "rmod")


@numpy_function()
def reciprocal(x: Any) -> Node:
    """1 / x; of integers the integer part of it, as in NumPy."""
    node = tensor(x)
    if node.is_floating or node.builder.library == "torch":
        return elementwise("divide", 1.0, node)
    return where(elementwise("equal", elementwise("abs", node), 1), node, elementwise("multiply", node, 0))


torch_function("reciprocal")(reciprocal)


# ---- special points --------------------------------------------------------------------------------------------------
@numpy_function()
def sinc(x: Any) -> Node:
    return apply("sinc", tensor(x))


torch_function("sinc")(sinc)


def xlogy(input: Any, other: Any) -> Node:
    return elementwise("xlogy", input, other)


@numpy_function()
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Node:
    """x with numbers in place of NaN and infinities, which have a derivative of 0."""
    node = tensor(x)
    if not node.is_floating:
        return node
    limits = np.finfo(node.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    rest = where(elementwise("equal", node, float("inf")), high, node)
    rest = where(elementwise("equal", node, -float("inf")), low, rest)
    return where(elementwise("isnan", node), 0.0 if nan is None else nan, rest)


@torch_function("nan_to_num")
def nan_to_num_torch(input: Any, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Node:
    return nan_to_num(input, nan=nan, posinf=posinf, neginf=neginf)


@numpy_function()
def ldexp(x1: Any, x2: Any) -> Node:
    """x1 times 2 to the power x2, in two steps: neither overflows before the product does."""
    builder = builder_of(x1, x2)
    x, exponent = floating(tensor(x1, builder)), floating(tensor(x2, builder))
    half = elementwise("trunc", exponent * 0.5)
    once = elementwise("multiply", x, elementwise("exp2", half))
    return elementwise("multiply", once, elementwise("exp2", exponent - half))


@torch_function("ldexp")
def ldexp_torch(input: Any, other: Any) -> Node:
    return elementwise("multiply", input, elementwise("exp2", tensor(other, builder_of(input, other))))

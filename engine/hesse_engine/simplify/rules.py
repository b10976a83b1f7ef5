"""Rewrite rules, each `node on its new operands -> an equal node, or None`.

All of them are exact: the same IEEE value for every input, signed zeros, infinities and NaN included (`x + 0 -> x` is
not among them: it is wrong for x = -0). A rule is listed under the op at its root.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hesse_engine.ir.graph import Node, apply, is_zero, scalar_value
from hesse_engine.ir.rows import evaluate

Rule = Callable[[Node], Node | None]


def fold_uniform(node: Node) -> Node | None:
    """phi(c, d, ...) of constants with one value each -> that value, repeated. Tried at every elementwise node."""
    scalars = []
    for arg in node.args:
        while arg.op in ("broadcast_to", "reshape"):
            arg = arg.args[0]
        if arg.value is None or arg.value.size != 1:
            return None
        scalars.append(arg.value.reshape(()))
    with np.errstate(all="ignore"):
        return node.builder.full(node.shape, evaluate(node, scalars)[()], node.dtype)


def _fold_one(node: Node) -> Node | None:
    # x * 1 -> x,  x * -1 -> -x
    a, b = node.args
    for x, other in ((a, b), (b, a)):
        value = scalar_value(other) if not is_zero(other) else None
        if value == 1.0:
            return x
        if value == -1.0:
            return apply("negative", x)
    return None


def _square(node: Node) -> Node | None:
    # x * x -> square(x)
    a, b = node.args
    return apply("square", a) if a is b and node.is_floating else None


def _signs_outwards(node: Node) -> Node | None:
    # (-a) * b -> -(a * b),  (-a) * (-b) -> a * b
    a, b = node.args
    if a.op == b.op == "negative":
        return apply(node.op, a.args[0], b.args[0])
    if a.op == "negative":
        return apply("negative", apply(node.op, a.args[0], b))
    return apply("negative", apply(node.op, a, b.args[0])) if b.op == "negative" else None


def _divide_by_one(node: Node) -> Node | None:
    # x / 1 -> x
    return node.args[0] if scalar_value(node.args[1]) == 1.0 else None


def _add_negative(node: Node) -> Node | None:
    # a + (-b) -> a - b
    a, b = node.args
    if b.op == "negative":
        return apply("subtract", a, b.args[0])
    return apply("subtract", b, a.args[0]) if a.op == "negative" else None


def _double(node: Node) -> Node | None:
    # x + x -> 2 x
    a, b = node.args
    return apply("multiply", a.builder.constant(2.0, a.dtype), a) if a is b and node.is_floating else None


def _subtract_negative(node: Node) -> Node | None:
    # a - (-b) -> a + b
    a, b = node.args
    return apply("add", a, b.args[0]) if b.op == "negative" else None


def _even(node: Node) -> Node | None:
    # square(-x) -> square(x), abs(-x) -> abs(x), cos(-x) -> cos(x)
    (x,) = node.args
    return apply(node.op, x.args[0]) if x.op == "negative" else None


def _known_branch(node: Node) -> Node | None:
    # where(true, a, b) -> a,  where(c, a, a) -> a
    condition, a, b = node.args
    value = scalar_value(condition) if condition.op != "zeros" else 0.0
    if a is b:
        return a
    return None if value is None else a if value else b


def _slice_of_slice(node: Node) -> Node | None:
    # x[s1 + d1 i][s2 + d2 j] -> x[s1 + d1 s2 + d1 d2 j]
    (x,) = node.args
    if x.op != "slice":
        return None
    outer, inner = node.attrs, x.attrs
    start = [s + d * t for s, d, t in zip(inner["start"], inner["step"], outer["start"], strict=True)]
    step = [d * e for d, e in zip(inner["step"], outer["step"], strict=True)]
    return apply("slice", x.args[0], start=start, step=step, count=node.shape)


def _slice_of_unslice(node: Node) -> Node | None:
    # unslice(x)[the very elements x was placed at] -> x
    (x,) = node.args
    if x.op != "unslice" or node.shape != x.args[0].shape:
        return None
    same = node.attrs["start"] == x.attrs["start"] and node.attrs["step"] == x.attrs["step"]
    return x.args[0] if same else None


RULES: dict[str, tuple[Rule, ...]] = {
    "multiply": (_fold_one, _square, _signs_outwards),
    "divide": (_divide_by_one, _signs_outwards),
    "add": (_add_negative, _double),
    "subtract": (_subtract_negative,),
    "square": (_even,),
    "abs": (_even,),
    "cos": (_even,),
    "where": (_known_branch,),
    "slice": (_slice_of_slice, _slice_of_unslice),
}

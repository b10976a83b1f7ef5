"""Arithmetic rows of the linear and bilinear kinds: add, subtract, negative, multiply, where."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError, GraphError
from hesse_engine.ir.graph import BOOL, Node, is_zero, scalar_value
from hesse_engine.ir.ops.elementwise import batch_elementwise, check_arity, elementwise, expand
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import broadcast, lift


def _add_shortcut(a: Any, b: Any) -> Node | None:
    if isinstance(a, Node) and isinstance(b, Node) and a.shape == b.shape and a.dtype == b.dtype:
        return b if is_zero(a) else a if is_zero(b) else None
    return None


@elementwise("linear", np.add, vm="{0} + {1}", result="same", shortcut=_add_shortcut, arity=2)
def add(ct: Node, y: Node) -> tuple[Node, Node]:
    """a + b."""
    return ct, ct


def _subtract_shortcut(a: Any, b: Any) -> Node | None:
    if isinstance(a, Node) and isinstance(b, Node) and a.shape == b.shape and a.dtype == b.dtype:
        return a if is_zero(b) else negative(b) if is_zero(a) else None
    return None


@elementwise("linear", np.subtract, vm="{0} - {1}", result="number", shortcut=_subtract_shortcut, arity=2)
def subtract(ct: Node, y: Node) -> tuple[Node, Node]:
    """a - b."""
    return ct, -ct


def _negative_shortcut(x: Any) -> Node | None:
    if isinstance(x, Node):
        return x if is_zero(x) else x.args[0] if x.op == "negative" else None
    return None


@elementwise("linear", np.negative, vm="-{0}", result="number", shortcut=_negative_shortcut, arity=1)
def negative(ct: Node, y: Node) -> tuple[Node]:
    """-x."""
    return (-ct,)


def _multiply_shortcut(a: Any, b: Any) -> Node | None:
    if isinstance(a, Node) and isinstance(b, Node) and a.shape == b.shape and a.dtype == b.dtype:
        if is_zero(a) or is_zero(b):
            return a if is_zero(a) else b
        # x * 1 -> x is exact, and most partials of linear ops are 1
        return a if scalar_value(b) == 1.0 else b if scalar_value(a) == 1.0 else None
    return None


@elementwise("bilinear", np.multiply, vm="{0} * {1}", result="same", shortcut=_multiply_shortcut, arity=2)
def multiply(ct: Node, other: Node, y: Node, slot: int) -> Node:
    """a * b, elementwise."""
    return ct * other


def _where_numpy(c: Any, a: Any, b: Any) -> Any:
    return np.where(c, a, b)


def _where_transpose(ct: Node, y: Node) -> tuple[Node | None, Node, Node]:
    zero = ct.builder.zeros(ct.shape, ct.dtype)
    return None, _select(y.args[0], ct, zero), _select(y.args[0], zero, ct)


def _select(condition: Node, a: Node, b: Node) -> Node:
    if is_zero(a) and is_zero(b):
        return a
    return a.builder.make("where", (condition, a, b), {}, a.shape, a.dtype)


def _build_where(*args: Any) -> Node:
    check_arity("where", args, 3)
    builder = next((a.builder for a in args if isinstance(a, Node)), None)
    if builder is None:
        raise ArgumentTypeError("bad-type", "where: none of the operands belongs to a graph.")
    condition = args[0] if isinstance(args[0], Node) else builder.constant(args[0], BOOL)
    if condition.dtype != BOOL:
        raise GraphError("dtype-mismatch", f"where: the condition must be bool, not {condition.dtype}.")
    branches = [a if isinstance(a, (Node, bool, int, float)) else builder.constant(a) for a in args[1:]]
    if not any(isinstance(a, Node) for a in branches):
        like = np.result_type(*[np.float64 if isinstance(a, float) else type(a) for a in branches])
        branches[0] = builder.constant(branches[0], np.dtype(like))
    (a, b), _ = lift(branches, "where")
    shape = broadcast("where", [condition.shape, a.shape, b.shape])
    return _select(expand(condition, shape), expand(a, shape), expand(b, shape))


register(
    Row("where", "linear", 3, (), _build_where, _where_numpy, _where_transpose, batch_elementwise,
        "{1} if {0} != 0.0 else {2}", (1, 2), True,
        doc="a where the condition holds, else b; the branch not taken contributes nothing, not even NaN.")
)

"""Arithmetic on the literals of an expression, done while it is read; what is not a finite number is refused."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError, InputError
from hesse_engine.frontends.tokens import EXACT
from hesse_engine.ir.graph import Node
from hesse_engine.ir.rows import evaluate
from hesse_engine.ir.walk import reachable

Number = int | float | bool
FOLDED_SIZE = 64  # constant nodes up to this size are folded, together with what they are made of

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv,
    "power": operator.pow, "floor_divide": operator.floordiv, "remainder": operator.mod,
}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "less": operator.lt, "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge,
    "equal": operator.eq, "not_equal": operator.ne,
}
_LOGIC: dict[str, Callable[[Any, Any], Any]] = {
    "bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor,
}


def is_number(value: Any) -> bool:
    return type(value) in (int, float, bool)


def overflow(at: int) -> InputError:
    return InputError("constant-overflow", f"At position {at}: a constant sub-expression is not a finite real number.")


def fold(name: str, a: Number, b: Number, at: int) -> Number:
    """a op b in float64; integers stay integers where they are exact."""
    if name in _COMPARISONS:
        return bool(_COMPARISONS[name](a, b))
    if name in _LOGIC:
        if type(a) is bool and type(b) is bool:
            return bool(_LOGIC[name](a, b))
        raise GraphError("dtype-mismatch", f"At position {at}: & | ^ take booleans, not numbers.")
    if name not in _ARITHMETIC:
        raise GraphError("shape-mismatch", f"At position {at}: {name} takes arrays, not numbers.")
    try:
        value = _ARITHMETIC[name](float(a), float(b))
    except (OverflowError, ZeroDivisionError):
        raise overflow(at) from None
    if isinstance(value, complex) or not math.isfinite(value):
        raise overflow(at)
    exact = name != "divide" and type(a) is int and type(b) is int and abs(value) < EXACT
    return int(value) if exact and value.is_integer() else float(value)


def fold_unary(name: str, a: Number, at: int) -> Number:
    if name == "invert":
        if type(a) is bool:
            return not a
        raise GraphError("dtype-mismatch", f"At position {at}: ~ takes booleans, not numbers.")
    return -a if name == "negative" else +a


def settle(result: Any, operands: Sequence[Any], at: int) -> Any:
    """A node made of small constants only, as the number or constant that it is; anything else unchanged."""
    if not isinstance(result, Node) or any([isinstance(o, Node) and o.op != "constant" for o in operands]):
        return result
    order = reachable([result])
    if len(order) > FOLDED_SIZE or any([n.size > FOLDED_SIZE or n.op == "input" for n in order]):
        return result
    values: dict[Node, Any] = {}
    with np.errstate(all="ignore"):
        for n in order:
            values[n] = n.value if n.value is not None else evaluate(n, [values[a] for a in n.args])
    value = np.asarray(values[result])
    if not np.isfinite(value).all():
        raise overflow(at)
    if value.ndim == 0 and (value.dtype.kind in "ib" or value.dtype == np.float64):
        return value.item()
    return result.builder.constant(value)


def as_float(value: Any) -> Any:
    return float(value) if type(value) is int else value


def is_flat(values: Sequence[Any]) -> bool:
    return all([is_number(v) for v in values])


def nodes_in(values: list[Any]) -> list[Node]:
    found: list[Node] = []
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, Node):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            stack.extend(value)
    return found

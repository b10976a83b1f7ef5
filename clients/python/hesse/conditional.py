"""`cond`: a choice by a value that a traced function computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse import tree
from hesse.interop import read
from hesse.scope import is_tensor
from hesse_engine.errors import ArgumentTypeError, FunctionError
from hesse_engine.frontends.operands import truth
from hesse_engine.frontends.trace import Trace, Tracer, is_tracer
from hesse_engine.ir.graph import DType, Node, apply
from hesse_engine.ir.shapes import convert


def cond(
    predicate: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any
) -> Any:
    """`true_fn(*operands)` where the predicate holds, else `false_fn(*operands)`; with the signature of `jax.lax.cond`.

        y = true_fn(x) if p else false_fn(x),      dy/dx that of the function that was chosen

    A predicate that is known is a Python `if`. A traced one makes both functions part of the graph, and their results
    are selected element by element: the derivative is that of the chosen one, and a NaN or an infinity of the other
    takes no part, neither in the value nor in a derivative of any order. Under `vmap` each example chooses for itself.

    Args:
        predicate: one element, a boolean or a number; a number holds where it is not 0.
        true_fn: takes the operands, returns a tree of arrays and numbers.
        false_fn: likewise; the same nesting and shapes. Different dtypes are promoted.
        operands: anything.

    Raises:
        TypeError: `bad-type` where a function is none, or the predicate has several elements.
        RuntimeError: `bad-structure` where the two results nest or are shaped differently.
    """
    for name, function in (("true_fn", true_fn), ("false_fn", false_fn)):
        if not callable(function):
            raise ArgumentTypeError("bad-type", f"cond: {name} must be a function, not {type(function).__name__}.")
    shape = predicate.shape if is_tracer(predicate) else np.shape(predicate)
    if shape != ():
        raise ArgumentTypeError("bad-type", f"cond: the predicate has shape {list(shape)}; it must be a scalar.",
                                hint="hesse.numpy.where selects element by element.")
    if not is_tracer(predicate):
        return (true_fn if bool(predicate) else false_fn)(*operands)
    trace: Trace = predicate.trace
    taken, structure = tree.flatten(true_fn(*operands))
    other, other_structure = tree.flatten(false_fn(*operands))
    if structure != other_structure:
        raise FunctionError("bad-structure", f"cond: true_fn returns {structure}, false_fn {other_structure}; both "
                                             "must nest alike.")
    chosen = truth(predicate.node)
    pairs = zip(taken, other, strict=True)
    return tree.unflatten([_selected(trace, chosen, k, a, b) for k, (a, b) in enumerate(pairs)], structure)


def _selected(trace: Trace, chosen: Node, k: int, a: Any, b: Any) -> Any:
    if a is None and b is None:
        return None
    x, y = _node(trace, a, "true_fn"), _node(trace, b, "false_fn")
    if x.shape != y.shape:
        raise FunctionError("bad-structure", f"cond: output {k} of true_fn has shape {list(x.shape)}, of false_fn "
                                             f"{list(y.shape)}; both must be alike.")
    dtype = _common(a, x, b, y)
    everywhere = apply("broadcast_to", chosen, shape=x.shape) if x.shape else chosen
    return Tracer(trace, apply("where", everywhere, convert(x, dtype), convert(y, dtype)))


def _common(a: Any, x: Node, b: Any, y: Node) -> DType:
    """The dtype of the result: a Python number takes that of the array it meets, unless it would be cut."""
    for number, of, node in ((b, y, x), (a, x, y)):
        if isinstance(number, (bool, int, float)) and (node.is_floating or of.dtype.kind in "bi"):
            return node.dtype if node.dtype.kind != "b" else np.result_type(node.dtype, of.dtype)
    return np.result_type(x.dtype, y.dtype)


def _node(trace: Trace, value: Any, name: str) -> Node:
    if not (is_tensor(value) or isinstance(value, (bool, int, float))):
        raise ArgumentTypeError("bad-type", f"cond: {name} returns a {type(value).__name__}; it must return a tree of "
                                            "arrays and numbers.")
    tracer: Tracer = value if is_tracer(value) else trace.constant(read(value) if is_tensor(value) else value)
    return tracer.node


__all__ = ["cond"]

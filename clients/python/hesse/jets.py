"""Taylor series of a function along a curve, in one computation whose size grows with the square of the order.

The engine propagates coefficients (`hesse_engine.transforms.taylor`); here arguments become series and back.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hesse import tree
from hesse.evaluation import Function, Give, check_reverse_outputs, evaluate
from hesse.interop import read
from hesse.scope import Send, is_tensor
from hesse_engine.errors import ArgumentTypeError, FunctionError, InputError
from hesse_engine.frontends.trace import Tracer, is_tracer
from hesse_engine.ir.graph import Node
from hesse_engine.ir.shapes import convert
from hesse_engine.result import Result
from hesse_engine.transforms.taylor import taylor

JET = "jet(f, primals, series)"
Nest = Callable[[tree.Structure, list[list[Any]]], Any]  # (how outputs nest, terms of each output) -> what is returned


def jet_of(send: Send, func: Function, primals: Any, series: Any) -> Any:
    """`func.jet`."""
    if not isinstance(primals, (tuple, list)) or not isinstance(series, (tuple, list)) or len(primals) != len(series):
        raise FunctionError("bad-structure", f"{JET}: primals and series are tuples with one entry for each argument.")
    if any([not isinstance(terms, (tuple, list)) for terms in series]):
        raise FunctionError("bad-structure", f"{JET}: each entry of series is a list of derivatives.")
    lengths = {len(terms) for terms in series}
    if len(lengths) != 1:
        raise FunctionError("bad-structure", f"{JET}: jet terms have inconsistent lengths for different arguments: "
                                             f"{sorted(lengths)}.")
    order = lengths.pop()

    def nest(structure: tree.Structure, terms: list[list[Any]]) -> Any:
        value = tree.unflatten([t[0] for t in terms], structure)
        return value, tree.unflatten([t[1:] for t in terms], structure)

    factors = [math.factorial(k) for k in range(order + 1)]
    return _propagated(send, func, tuple(primals), [list(terms) for terms in series], order, factors, nest)


def taylor_of(send: Send, func: Function, x: Any, v: Any, order: Any) -> Any:
    """`func.taylor`."""
    try:
        count = operator.index(order)
    except TypeError:
        raise ArgumentTypeError("bad-type", f"taylor: order must be an integer, not {order!r}.") from None
    if count < 0:
        raise InputError("bad-option", f"taylor: order must not be negative, got {count}.")

    def nest(structure: tree.Structure, terms: list[list[Any]]) -> Any:
        return [tree.unflatten([t[k] for t in terms], structure) for k in range(count + 1)]

    return _propagated(send, func, (x,), [[v]], count, [1] * (count + 1), nest)


def _propagated(
    send: Send, func: Function, primals: tuple[Any, ...], series: list[list[Any]], order: int, factors: Sequence[int],
    nest: Nest,
) -> Any:
    """Terms k = 0, ..., order of func along x(t) = x + sum_k series[k - 1] t^k / factors[k], times factors[k]."""
    points, structure = tree.flatten(primals)
    points = [_number(p) for p in points]
    terms = [_directions(p, terms) for p, terms in zip(primals, series, strict=True)]
    columns = [[leaves[position] for leaves in argument] for argument, p in zip(terms, primals, strict=True)
               for position in range(tree.flatten(p)[1].leaves)]
    _check_shapes(points, columns)
    nesting: list[tree.Structure] = []

    def expanded(given: list[Any], given_terms: list[list[Any]]) -> Any:
        found, out_structure = tree.flatten(func(*tree.unflatten(given, structure)))
        nesting.append(out_structure)
        trace = given[0].trace
        nodes = [_node(trace, y) for y in found]
        known = {
            x.node: [_divided(convert(t.node, x.node.dtype), factors[k + 1]) for k, t in enumerate(column)]
            for x, column in zip(given, given_terms, strict=True)
        }
        rows = taylor(nodes, known, order)
        return [Tracer(trace, c if factors[k] == 1 else c * float(factors[k])) for row in rows
                for k, c in enumerate(row)]

    run = evaluate(expanded, (points, columns), {}, None, False, JET, check_reverse_outputs)

    def finish(result: Result, give: Give) -> Any:
        values = [result.value] if len(run.outputs) == 1 else result.value
        given = [give(c) for c in values]
        return nest(nesting[0], [given[k:k + order + 1] for k in range(0, len(given), order + 1)])

    return run.scope.run(send, "value", run.scope.graph(run.outputs), run.options(), finish)


def _directions(primal: Any, terms: list[Any]) -> list[list[Any]]:
    """The leaves of each term, which nests as its argument does."""
    structure = tree.flatten(primal)[1]
    found = []
    for term in terms:
        leaves, given = tree.flatten(term)
        if given != structure:
            raise FunctionError("bad-structure", f"{JET}: a term nests as {given}, its argument as {structure}.")
        found.append([_number(leaf) for leaf in leaves])
    return found


def _number(leaf: Any) -> Any:
    is_number = isinstance(leaf, (int, float)) and not isinstance(leaf, bool)
    return np.asarray(leaf, np.float64) if is_number else leaf


def _check_shapes(points: list[Any], columns: list[list[Any]]) -> None:
    for x, column in zip(points, columns, strict=True):
        for t in column:
            if is_tensor(t) and is_tensor(x) and tuple(t.shape) != tuple(x.shape):
                raise FunctionError("bad-v", f"{JET}: a term has shape {list(t.shape)}, its argument "
                                             f"{list(x.shape)}.")


def _node(trace: Any, leaf: Any) -> Node:
    if not is_tensor(leaf):
        raise FunctionError("no-tensor-output", f"{JET}: expected f(*primals) to return only tensors, got unsupported "
                                                f"type {type(leaf)}")
    node: Node = leaf.node if is_tracer(leaf) else trace.constant(read(leaf)).node
    return node


def _divided(node: Node, factor: int) -> Node:
    return node if factor == 1 else node / float(factor)


__all__ = ["jet_of", "taylor_of"]

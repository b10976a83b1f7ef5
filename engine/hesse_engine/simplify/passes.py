"""Simplification: a flat list of named passes over the outputs of a graph, read top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hesse_engine.ir.graph import Graph, Node, scalar_value
from hesse_engine.ir.rows import ROWS, evaluate
from hesse_engine.ir.walk import map_graph, reachable, rebuild
from hesse_engine.simplify.match import rewrite
from hesse_engine.simplify.rules import RULES

Pass = Callable[[Sequence[Node]], list[Node]]
FOLD_ELEMENTS = 1 << 20  # elements that all folds of one pass may make together
VIEWS = ("broadcast_to", "reshape", "permute_dims", "slice")


def fold_constants(outputs: Sequence[Node]) -> list[Node]:
    """Evaluate nodes of constants only: uniform ones as scalars, others while they are small.

    A repeated constant (`broadcast_to`) stays a view. What would exceed the budget is left for run time.
    """
    budget = FOLD_ELEMENTS
    order = reachable(outputs)
    uniform = {n for n in order if not n.args and scalar_value(n) is not None}
    constants = [n for n in order if n.value is not None]
    if not constants and not uniform:
        return list(outputs)
    new: dict[Node, Node] = {}
    for node in order:
        if not node.args:
            continue
        args = tuple([new.get(a, a) for a in node.args])
        changed = node if args == node.args else rebuild(node, args)
        row = ROWS[node.op]
        if all([a in uniform for a in args]):
            if row.vm is not None:
                changed = _fold_uniform(changed)
            if row.vm is not None or node.op in ("broadcast_to", "reshape"):
                uniform.add(changed)
        elif node.op not in VIEWS and node.size <= budget and all([a.value is not None for a in args]):
            budget -= node.size
            changed = node.builder.constant(_value(changed, [a.value for a in args]), node.dtype)
        if changed is not node:
            new[node] = changed
    return [new.get(n, n) for n in outputs]


def _fold_uniform(node: Node) -> Node:
    scalars = [np.asarray(_element(a), a.dtype) for a in node.args]
    value = _value(node, scalars)
    return node.builder.full(node.shape, value, node.dtype)


def _element(node: Node) -> object:
    while node.args:
        node = node.args[0]
    return 0 if node.value is None else node.value.reshape(()).item()


def _value(node: Node, values: list[object]) -> object:
    with np.errstate(all="ignore"):
        return evaluate(node, values)


def apply_rules(outputs: Sequence[Node]) -> list[Node]:
    """The exact rules of `rules.py`, bottom up."""
    return rewrite(outputs, RULES)


PASSES: dict[str, Pass] = {"fold-constants": fold_constants, "exact-rules": apply_rules}


def simplify(graph: Graph) -> Graph:
    """`graph` after every pass."""
    for change in PASSES.values():
        graph = map_graph(graph, change)
    return graph


def simplify_nodes(outputs: Sequence[Node]) -> list[Node]:
    """`outputs` after every pass."""
    nodes = list(outputs)
    for change in PASSES.values():
        nodes = change(nodes)
    return nodes

"""Simplification: a flat list of named passes over the outputs of a graph, read top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hesse_engine.ir.graph import Graph, Node
from hesse_engine.ir.rows import VIEWS, evaluate
from hesse_engine.ir.walk import map_graph, reachable, rebuild
from hesse_engine.simplify import factors
from hesse_engine.simplify.match import rewrite
from hesse_engine.simplify.rules import RULES

Pass = Callable[[Sequence[Node]], list[Node]]
FOLD_ELEMENTS = 1 << 20  # elements that all folds of one pass may make together


def fold_constants(outputs: Sequence[Node]) -> list[Node]:
    """Evaluate nodes of constant arrays only, while they are small; uniform constants are folded by a rule.

    A repeated constant (`broadcast_to`) stays a view. What would exceed the budget is left for run time.
    """
    budget = FOLD_ELEMENTS
    order = reachable(outputs)
    if not any([n.value is not None and n.value.size > 1 for n in order]):
        return list(outputs)
    new: dict[Node, Node] = {}
    for node in order:
        args = tuple([new.get(a, a) for a in node.args])
        changed = node if args == node.args else rebuild(node, args)
        if args and node.op not in VIEWS and node.size <= budget and all([a.value is not None for a in args]):
            budget -= node.size
            with np.errstate(all="ignore"):
                changed = node.builder.constant(evaluate(changed, [a.value for a in args]), node.dtype)
        if changed is not node:
            new[node] = changed
    return [new.get(n, n) for n in outputs]


def apply_rules(outputs: Sequence[Node]) -> list[Node]:
    """The exact rules of `rules.py`, bottom up."""
    return rewrite(outputs, RULES)


def pass_factors_by(outputs: Sequence[Node]) -> list[Node]:
    """The rules of `factors.py`, where there is a Cholesky factor."""
    if not any([n.op == "cholesky" for n in reachable(outputs)]):
        return list(outputs)
    return rewrite(outputs, factors.RULES)


PASSES: dict[str, Pass] = {
    "fold-constants": fold_constants, "exact-rules": apply_rules, "pass-factors-by": pass_factors_by,
}


def simplify(graph: Graph) -> Graph:
    """`graph` after every pass."""
    return map_graph(graph, simplify_nodes)


def simplify_nodes(outputs: Sequence[Node]) -> list[Node]:
    """`outputs` after every pass."""
    nodes = list(outputs)
    for change in PASSES.values():
        nodes = change(nodes)
    return nodes

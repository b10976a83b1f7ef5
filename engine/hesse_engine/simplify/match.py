"""Applying rules: one sweep, operands first, each node rewritten until no rule of its op answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hesse_engine.ir.graph import Node
from hesse_engine.ir.rows import ROWS
from hesse_engine.ir.walk import reachable, rebuild
from hesse_engine.simplify.rules import Rule, fold_uniform

MAX_REWRITES = 32  # of one node; rules strictly shrink or normalise, so this is never reached


def rewrite(outputs: Sequence[Node], rules: Mapping[str, Sequence[Rule]]) -> list[Node]:
    """`outputs` with `rules` applied bottom up."""
    new: dict[Node, Node] = {}
    for node in reachable(outputs):
        changed = node
        if node.args:
            args = tuple([new[a] for a in node.args])
            if args != node.args:
                changed = rebuild(node, args)
            changed = _settle(changed, rules)
        new[node] = changed
    return [new[n] for n in outputs]


def _settle(node: Node, rules: Mapping[str, Sequence[Rule]]) -> Node:
    for _ in range(MAX_REWRITES):
        if ROWS[node.op].vm is not None:
            folded = fold_uniform(node)
            if folded is not None:
                return folded
        for rule in rules.get(node.op, ()):
            answer = rule(node)
            if answer is not None and answer is not node:
                node = answer
                break
        else:
            return node
    return node

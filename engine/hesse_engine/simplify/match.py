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
        args = node.args
        if not args:
            new[node] = node
            continue
        changed = node
        for a in args:
            if new[a] is not a:
                changed = rebuild(node, tuple([new[b] for b in args]))
                break
        if changed.op in rules or _may_fold(changed):
            changed = _settle(changed, rules)
        new[node] = changed
    return [new[n] for n in outputs]


def _may_fold(node: Node) -> bool:
    """Whether the first operand of an elementwise node may be uniform: most are told apart by that alone."""
    args = node.args
    if not args or ROWS[node.op].vm is None:
        return False
    first = args[0]
    return not first.args or first.op in ("broadcast_to", "reshape")


def _settle(node: Node, rules: Mapping[str, Sequence[Rule]]) -> Node:
    for _ in range(MAX_REWRITES):
        if _may_fold(node):
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

"""Sums of scatters, as reverse mode makes them of slices and gathers: every term is added into one memory.

    add(unslice(a), add(unslice(b), scatter_add(c)))        one zeroed array, three additions at offsets

Nothing is materialized in between: a term is never read again, so it needs no memory of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from hesse_engine.ir.graph import FLOAT32, FLOAT64, Node

TABLE_LIMIT = 1 << 31  # offsets are int32
SCATTERS = frozenset({"unslice", "scatter_add"})


def is_scatter(node: Node) -> bool:
    """Whether regions can add `node`'s operand at offsets that are known beforehand, and that int32 holds."""
    if node.op not in SCATTERS or node.size >= TABLE_LIMIT:
        return False
    is_floating = (node.dtype is FLOAT64 or node.dtype is FLOAT32) and node.args[0].dtype is node.dtype
    return is_floating and (node.op == "unslice" or node.args[1].value is not None)


def merged_sums(order: Sequence[Node], ends: Sequence[Node]) -> dict[Node, Node]:
    """For each scatter, and each sum of them alone, the node whose memory it adds into: itself, or a sum of it.

    A term joins a sum if nothing else reads it. `order`: operands first; `ends`: nodes that are wanted as they are.
    """
    found = {n for n in order if is_scatter(n)}
    if not found:
        return {}
    uses: dict[Node, int] = {}
    for node in [*ends, *[a for n in order for a in n.args]]:
        uses[node] = uses.get(node, 0) + 1
    for node in order:
        if node.op == "add" and all([a in found and uses[a] == 1 for a in node.args]):
            found.add(node)
    target: dict[Node, Node] = {}
    for node in reversed(order):
        if node in found:
            target.setdefault(node, node)
            if node.op == "add":
                target |= dict.fromkeys(node.args, target[node])
    return target

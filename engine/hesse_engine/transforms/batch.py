"""vmap: a graph of one example becomes a graph of many, the batch on the last axis.

On the last axis it stays out of the way: axes counted from the front keep their numbers, a product with a constant
matrix is one plain matrix product, and elementwise work is contiguous across the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops.elementwise import align
from hesse_engine.ir.rows import ROWS
from hesse_engine.ir.walk import reachable


def batch(outputs: Sequence[Node], batched: Mapping[Node, Node], size: int) -> list[Node]:
    """`outputs` with each key of `batched` replaced by its value, which has one more axis, the last, of length `size`.

    Outputs that do not depend on a batched node are repeated along the new axis.
    """
    new: dict[Node, Node] = dict(batched)
    for node in reachable(outputs, stop=batched):
        if node in new:
            continue
        flags = [a in new for a in node.args]
        if True in flags:
            rule = ROWS[node.op].batch
            assert rule is not None, node.op
            new[node] = rule(node, [new.get(a, a) for a in node.args], flags, size)
    return [new[n] if n in new else align(n, size) for n in outputs]


def to_last(node: Node, axis: int) -> Node:
    """`node` with one axis moved to the end."""

    return apply("permute_dims", node, axes=[k for k in range(node.ndim) if k != axis] + [axis])


def from_last(node: Node, axis: int) -> Node:
    """`node` with its last axis moved to `axis`."""

    rest = list(range(node.ndim - 1))
    return apply("permute_dims", node, axes=[*rest[:axis], node.ndim - 1, *rest[axis:]])

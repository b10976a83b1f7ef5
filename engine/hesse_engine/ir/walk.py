"""Traversals. All are iterative: a chain of 100,000 nodes must not recurse."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from hesse_engine.ir.graph import Graph, Node
from hesse_engine.ir.rows import ROWS


def reachable(outputs: Iterable[Node], *, since: int = 0, stop: Collection[Node] = ()) -> list[Node]:
    """All nodes numbered `since` or higher that `outputs` are made of, arguments first; none below those of `stop`."""
    seen: dict[int, Node] = {}
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node.number >= since and node.number not in seen:
            seen[node.number] = node
            if node not in stop:
                stack.extend(node.args)
    return [seen[k] for k in sorted(seen)]


def dependents(order: Iterable[Node], sources: Collection[Node]) -> set[Node]:
    """The nodes of `order` that are computed from `sources`, these included."""
    found = set(sources)
    for node in order:
        if any([a in found for a in node.args]):
            found.add(node)
    return found


def connected(order: Iterable[Node], sources: Collection[Node]) -> set[Node]:
    """As `dependents`, along operands that carry derivatives only: through an index or a condition nothing flows."""
    found = set(sources)
    for node in order:
        row = ROWS[node.op]
        if not node.is_floating or (row.rule is None and node.args):
            continue
        if any([a in found and row.differentiable(k) for k, a in enumerate(node.args)]):
            found.add(node)
    return found


def rebuild(node: Node, args: tuple[Node, ...]) -> Node:
    """`node` on other operands of the same shapes and dtypes."""
    return node.builder.make(node.op, args, node.attrs, node.shape, node.dtype)


def substitute(outputs: Sequence[Node], replacements: Mapping[Node, Node]) -> list[Node]:
    """`outputs` with nodes replaced; shapes and dtypes must agree."""
    new: dict[Node, Node] = dict(replacements)
    for node in reachable(outputs):
        if node not in new and any([a in new for a in node.args]):
            args = tuple([new.get(a, a) for a in node.args])
            if args != node.args:
                new[node] = rebuild(node, args)
    return [new.get(n, n) for n in outputs]


def map_graph(graph: Graph, change: Callable[[Sequence[Node]], list[Node]]) -> Graph:
    """`graph` with `change` applied to its outputs and the nodes of its guards together."""
    changed = change([*graph.outputs, *[n for n, _ in graph.guards]])
    count = len(graph.outputs)
    guards = tuple([(n, v) for n, (_, v) in zip(changed[count:], graph.guards, strict=True)])
    return Graph(graph.inputs, tuple(changed[:count]), guards)

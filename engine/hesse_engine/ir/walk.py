"""Traversals. All are iterative: a chain of 100,000 nodes must not recurse."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from hesse_engine.ir.graph import Graph, Node
from hesse_engine.ir.rows import ROWS


def reachable(outputs: Iterable[Node], *, since: int = 0, stop: Collection[Node] = ()) -> list[Node]:
    """All nodes numbered `since` or higher that `outputs` are made of, arguments first; none below those of `stop`.

    One flag for each number, looked at from the highest down: arguments have lower numbers than what is made of them.
    """
    roots = [n for n in outputs if n.number >= since]
    if not roots:
        return []
    nodes, top = roots[0].builder.nodes, max([n.number for n in roots])
    flags = bytearray(top - since + 1)
    for node in roots:
        flags[node.number - since] = 1
    found: list[Node] = []
    at = top - since
    while at >= 0:
        node = nodes[at + since]
        found.append(node)
        if not stop or node not in stop:
            for a in node.args:
                if a.number >= since:
                    flags[a.number - since] = 1
        at = flags.rfind(1, 0, at)
    found.reverse()
    return found


def post_order(roots: Iterable[Node]) -> list[Node]:
    """Arguments before users, in an order that depends on the graph alone and not on how its nodes were numbered."""
    order: dict[Node, None] = {}
    stack = [(n, False) for n in reversed(list(roots))]
    while stack:
        node, is_done = stack.pop()
        if node in order:
            continue
        if is_done:
            order[node] = None
        else:
            stack.append((node, True))
            stack.extend([(a, False) for a in reversed(node.args)])
    return list(order)


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

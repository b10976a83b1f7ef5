"""Whether a graph is well formed. Tests ask it after every transform and pass; the wire is checked by building."""

from __future__ import annotations

from collections.abc import Iterable

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import BOOL, Builder, Graph, Node
from hesse_engine.ir.rows import ROWS


def check(graph: Graph) -> None:
    """Raise `GraphError` unless every node is what its row would build from its operands.

    Invariants: one builder; arguments numbered below their node; known ops; inputs listed; shapes and dtypes as the row
    infers them; guards scalar booleans.
    """
    builder = graph.builder
    listed = set(graph.inputs)
    if len(listed) != len(graph.inputs) or len(set(graph.names)) != len(graph.names):
        raise GraphError("duplicate-id", f"The inputs {list(graph.names)} are not distinct.")
    for node in _all([*graph.outputs, *[n for n, _ in graph.guards]]):
        if node.builder is not builder:
            raise GraphError("dangling-id", f"{node} belongs to another graph.", node=repr(node))
        if any([a.number >= node.number for a in node.args]):
            raise GraphError("graph-cycle", f"{node} comes before one of its operands.", node=repr(node))
        if node.op == "input" and node not in listed:
            raise GraphError("dangling-id", f"{node} is an input that the graph does not list.", node=repr(node))
        _check_node(node)
    for node, _ in graph.guards:
        if node.dtype != BOOL or node.shape != ():
            raise GraphError("dtype-mismatch", f"The guard {node} is not a scalar boolean.", node=repr(node))


def _all(outputs: Iterable[Node]) -> list[Node]:
    """What `outputs` are made of, whether or not numbers and builders are as they should be."""
    seen: dict[Node, None] = {}
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen[node] = None
            stack.extend(node.args)
    return list(seen)


def _check_node(node: Node) -> None:
    row = ROWS.load().get(node.op)
    if row is None:
        raise GraphError("unknown-op", f"There is no op {node.op!r}.", node=repr(node))
    if row.kind == "composite":
        raise GraphError("unknown-op", f"The composite {node.op!r} stands unexpanded in a graph.", node=repr(node))
    if row.kind == "leaf":
        return
    # in a graph of its own: here, building again would only find the node itself
    apart = Builder(node.builder.limits, node.builder.library)
    operands = [apart.input("x", a.shape, a.dtype) if a.value is None else apart.constant(a.value) for a in node.args]
    again: Node = row.build(*operands, **node.attrs)
    if again.shape != node.shape or again.dtype != node.dtype:
        raise GraphError(
            "shape-mismatch",
            f"{node} claims {node.dtype}{list(node.shape)}; its operands give {again.dtype}{list(again.shape)}.",
            node=repr(node),
        )

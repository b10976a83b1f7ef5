"""Forward mode: tangents of nodes from tangents of inputs. The rules are the rows'; no op is named here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hesse_engine.ir.graph import Graph, Node, is_zero
from hesse_engine.ir.rows import ROWS
from hesse_engine.ir.walk import reachable

Tangent = Node | None  # None is a tangent of zero


def push_forward(outputs: Sequence[Node], tangents: Mapping[Node, Node]) -> list[Tangent]:
    """J t for every output, where t are the `tangents` of some nodes (their own arguments are then not looked at)."""
    known: dict[Node, Node] = {n: t for n, t in tangents.items() if not is_zero(t)}
    first = min([n.number for n in tangents], default=0)  # nothing made before it depends on it
    for node in reachable(outputs, since=first, stop=tangents):
        if node in tangents or not node.is_floating:
            continue
        operands = [known.get(a) for a in node.args]
        if all([t is None for t in operands]):
            continue
        tangent = tangent_of(node, operands)
        if tangent is not None and not is_zero(tangent):
            known[node] = tangent
    return [known.get(n) for n in outputs]


def tangent_of(node: Node, tangents: list[Tangent]) -> Tangent:
    """The tangent of `node`, given those of its operands."""
    row = ROWS[node.op]
    rule = row.rule
    if rule is None:
        return None
    if row.kind == "pointwise":
        total: Tangent = None
        for partial, t in zip(rule(node, *node.args), tangents, strict=True):
            if partial is not None and t is not None:
                total = _plus(total, t if partial == 1.0 else partial * t)
        return total
    if row.kind == "linear":
        if all([t is None or not row.differentiable(k) for k, t in enumerate(tangents)]):
            return None
        operands = [
            a if not row.differentiable(k) else a.builder.zeros(a.shape, a.dtype) if t is None else t
            for k, (a, t) in enumerate(zip(node.args, tangents, strict=True))
        ]
        built: Node = row.build(*operands, **node.attrs)
        return built
    if row.kind == "bilinear":
        a, b = node.args
        left = None if tangents[0] is None else row.build(tangents[0], b, **node.attrs)
        right = None if tangents[1] is None else row.build(a, tangents[1], **node.attrs)
        return right if left is None else _plus(left, right) if right is not None else left
    tangent: Tangent = rule(node, tangents)
    return tangent


def _plus(a: Tangent, b: Node) -> Node:
    return b if a is None else a + b


def distinct(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """`names` with as many primes as set them apart from those `taken`."""
    used, found = set(taken), []
    for name in names:
        while name in used:
            name += "'"
        used.add(name)
        found.append(name)
    return found


def jvp(graph: Graph, argnums: Sequence[int]) -> Graph:
    """(x, t) -> (f(x), J t): the tangents of the inputs `argnums` become further inputs, J t further outputs."""
    builder = graph.builder
    primals = [graph.inputs[k] for k in argnums]
    names = distinct([f"t_{n.attrs['name']}" for n in primals], graph.names)
    tangents = [builder.input(name, n.shape, n.dtype) for name, n in zip(names, primals, strict=True)]
    moved = push_forward(graph.outputs, dict(zip(primals, tangents, strict=True)))
    filled = [builder.zeros(y.shape, y.dtype) if t is None else t for y, t in zip(graph.outputs, moved, strict=True)]
    return Graph((*graph.inputs, *tangents), (*graph.outputs, *filled), graph.guards)

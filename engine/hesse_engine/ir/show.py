"""The canonical text of a graph, and its identity: the sha256 of that text.

Two graphs with the same text compute the same function of the same signature. Names of nodes do not enter, names of
inputs do; constants stand by the digest of their bytes.
"""

from __future__ import annotations

import hashlib
from typing import Any

from hesse_engine.ir.graph import Graph, Node
from hesse_engine.ir.walk import post_order


def text(graph: Graph) -> str:
    """One line a node: `%3 = sum(%2) axis=(0,) : float64[]`."""
    roots = [*graph.outputs, *[n for n, _ in graph.guards]]
    inner = [n for n in post_order(roots) if n.op != "input"]
    label = {n: f"%{k}" for k, n in enumerate([*graph.inputs, *inner])}
    lines = ["hesse-graph/1"]
    lines += [f"{label[n]} = input {n.attrs['name']!r} : {_type(n)}" for n in graph.inputs]
    for node in inner:
        operands = ", ".join([label[a] for a in node.args])
        attrs = "".join([f" {k}={_attribute(v)}" for k, v in node.attrs.items()])
        lines.append(f"{label[node]} = {_head(node)}({operands}){attrs} : {_type(node)}")
    lines += [f"guard {label[n]} is {value}" for n, value in graph.guards]
    lines.append("return " + ", ".join([label[n] for n in graph.outputs]))
    return "\n".join(lines)


def graph_id(graph: Graph) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(text(graph).encode()).hexdigest()


def _type(node: Node) -> str:
    return f"{node.dtype}[{','.join(map(str, node.shape))}]"


def _attribute(value: Any) -> str:
    return value.hex() if isinstance(value, float) else repr(value)


def _head(node: Node) -> str:
    if node.value is None:
        return node.op
    if node.value.size == 1:
        scalar = node.value.reshape(()).item()
        return f"constant {scalar.hex() if isinstance(scalar, float) else scalar!r}"
    return f"constant sha256:{node.builder.digest(node).hex()}"

"""Graphs written by hand, for tests below the frontends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hesse_engine.ir.graph import FLOAT64, Builder, DType, Graph, Node, Shape
from hesse_engine.ir.rows import ROWS


def op(name: str, *args: Any, **attrs: Any) -> Node:
    """The node `name(*args, **attrs)`."""
    node: Node = ROWS[name].build(*args, **attrs)
    return node


def graph_of(
    f: Callable[..., Any], *shapes: Shape, dtypes: Sequence[DType] | None = None, names: Sequence[str] | None = None
) -> Graph:
    """The graph of `f`, a function of nodes, on inputs of the given shapes."""
    builder = Builder()
    kinds = dtypes or [FLOAT64] * len(shapes)
    labels = names or [f"x{k}" for k in range(len(shapes))]
    inputs = [builder.input(n, s, d) for n, s, d in zip(labels, shapes, kinds, strict=True)]
    outputs = f(*inputs)
    return Graph(tuple(inputs), outputs if isinstance(outputs, tuple) else (outputs,))

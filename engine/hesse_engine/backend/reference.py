"""The reference interpreter: every node by its row's NumPy function. Oracle for tests, instant start, fallback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hesse_engine.ir.graph import Array, Node
from hesse_engine.ir.rows import evaluate
from hesse_engine.ir.walk import reachable


def run(outputs: Sequence[Node], inputs: Mapping[Node, Array]) -> list[Array]:
    """The values of `outputs`; each intermediate is dropped after its last use."""
    order = reachable(outputs)
    last: dict[int, Node] = {}
    for node in order:
        for arg in node.args:
            last[arg.number] = node
    values: dict[int, Any] = {n.number: v for n, v in inputs.items()}
    keep = {n.number for n in outputs}
    with np.errstate(all="ignore"):
        for node in order:
            if node.number in values:
                continue
            if node.value is not None:
                values[node.number] = node.value
                continue
            values[node.number] = evaluate(node, [values[a.number] for a in node.args])
            for arg in node.args:
                if last[arg.number] is node and arg.number not in keep:
                    values.pop(arg.number, None)
    return [np.asarray(values[n.number]) for n in outputs]

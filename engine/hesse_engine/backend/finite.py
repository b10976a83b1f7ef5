"""Where a NaN or an infinity comes from: asked only when a result has one, so it may take its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import FunctionError
from hesse_engine.ir.graph import Array, Graph, Node
from hesse_engine.ir.rows import ROWS, evaluate
from hesse_engine.ir.walk import reachable
from hesse_engine.ir.wire import node_ids
from hesse_engine.result import SparseMatrix
from hesse_engine.transforms.jvp import push_forward


def arrays_of(value: Any) -> Iterator[Array]:
    """The arrays of a result."""
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, (list, tuple)):
            stack.extend(reversed(part))
        elif isinstance(part, SparseMatrix):
            yield part.data
        elif part is not None:
            yield part


def first_nonfinite(array: Array) -> tuple[int, ...] | None:
    """The index of the first NaN or infinity in row-major order."""
    if array.dtype.kind != "f":
        return None
    flat = array.reshape(-1)
    # a sum is finite only if all terms are, and takes a tenth of the time of looking at each
    with np.errstate(all="ignore"):
        if flat.size == 0 or np.isfinite(flat.sum()):
            return None
    bad = ~np.isfinite(flat)
    return tuple([int(k) for k in np.unravel_index(int(bad.argmax()), array.shape)]) if bad.any() else None


def check_finite(
    found: Sequence[Any], graph: Graph, arrays: Sequence[Array], batch: int | None, first: int = 0
) -> None:
    """Refuse results with a NaN or an infinity.

    Args:
        found: the results.
        graph: the function as it was written; with `batch`, of one point.
        arrays: its inputs; with `batch`, a leading axis of points.
        batch: how many points, or None.
        first: the row of a result that its first row is, where it is one of several blocks.

    Raises:
        FunctionError: `nonfinite-result`, which names the first node that is not finite at these inputs, else the first
            whose derivative is not.
    """
    for array in [a for value in found for a in arrays_of(value)]:
        index = first_nonfinite(array)
        if index is not None:
            point = arrays if batch is None else [a[index[0]] for a in arrays]
            shown = [index[0] + first, *index[1:]] if index else []
            where = "" if batch is None else f" at point {index[0]}"
            raise _explained(graph, point, f"The result is {_text(array[index])} at index {shown}{where}")


def _text(value: Any) -> str:
    return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _explained(graph: Graph, arrays: Sequence[Array], claim: str) -> FunctionError:
    values: dict[Node, Array] = {}
    for node, array in zip(graph.inputs, arrays, strict=True):
        values[node] = array
        index = first_nonfinite(array)
        if index is not None:
            name = node.attrs["name"]
            return FunctionError("nonfinite-result", f"{claim}: input {name!r} is {_text(array[index])} at index "
                                                     f"{list(index)}.", node=name)
    ids = node_ids(graph)
    order = [n for n in reachable(graph.outputs) if n not in values]
    with np.errstate(all="ignore"):
        for node in order:
            value = node.value if node.value is not None else evaluate(node, [values[a] for a in node.args])
            values[node] = np.asarray(value)
            index = first_nonfinite(values[node])
            if index is not None:
                return _at(node, ids, f"{claim}: node {{}} is {_text(values[node][index])} at index {list(index)}.")
        for node in order:
            index = _derivative_fault(node, values)
            if index is not None:
                return _at(node, ids, f"{claim}: the function is finite there, but the derivative of node {{}} is not, "
                                      f"at index {list(index)}.")
    return FunctionError("nonfinite-result", f"{claim}: the function and the derivatives of its nodes are finite, "
                                             "their products are not.")


def _at(node: Node, ids: dict[Node, str], text: str) -> FunctionError:
    name = ids.get(node)
    about = node.op if name is None else f"{name} ({node.op})"
    return FunctionError("nonfinite-result", text.format(about), node=name)


def _derivative_fault(node: Node, values: dict[Node, Array]) -> tuple[int, ...] | None:
    """Where a first or second partial derivative of an elementwise node is not finite."""
    row = ROWS[node.op]
    if row.kind != "pointwise" or row.rule is None or not node.is_floating:
        return None
    partials = [p for p in row.rule(node, *node.args) if isinstance(p, Node)]
    for partial in list(partials):
        for by in node.args:
            tangents = {a: by.builder.zeros(a.shape, a.dtype) for a in node.args}
            tangents[by] = by.builder.full(by.shape, 1.0, by.dtype)
            second = push_forward([partial], tangents)[0]
            partials += [] if second is None else [second]
    known = dict(values)
    for partial in partials:
        for part in reachable([partial]):
            if part not in known:
                value = part.value if part.value is not None else evaluate(part, [known[a] for a in part.args])
                known[part] = np.asarray(value)
        index = first_nonfinite(known[partial])
        if index is not None:
            return index
    return None

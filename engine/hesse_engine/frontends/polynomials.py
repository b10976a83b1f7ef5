"""NumPy's polynomials, by coefficients from the highest power down."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.manipulation import atleast_1d, concatenate
from hesse_engine.frontends.operands import builder_of, elementwise, full_like, tensor
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.shapes import convert, integer


@numpy_function()
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Node:  # noqa: N803  (NumPy's name)
    """Powers of the elements of a vector: x_i^j in column j, or from the highest down."""
    node = tensor(x)
    if node.ndim != 1:
        raise GraphError("shape-mismatch", f"vander takes a vector, not {node.ndim} dimensions.")
    count = node.shape[0] if N is None else integer("vander", "N", N)
    node = convert(node, np.promote_types(node.dtype, np.int64))
    columns = [full_like(node, 1)]
    for _ in range(count - 1):
        columns.append(elementwise("multiply", columns[-1], node))
    if count <= 0:
        return full_like(node, 1, shape=(node.shape[0], 0))
    return apply("stack", *(columns if increasing else columns[::-1]), axis=1)


@numpy_function()
def polyder(p: Any, m: int = 1) -> Node:
    """Coefficients of the m-th derivative."""
    if integer("polyder", "m", m) < 0:
        raise GraphError("bad-attribute", "polyder: the order of the derivative must not be negative.")
    node = tensor(p)
    for _ in range(m):
        n = node.shape[0]
        node = elementwise("multiply", index(node, slice(0, max(n - 1, 0))),
                           node.builder.constant(np.arange(n - 1, 0, -1)))
    return node


@numpy_function()
def polyint(p: Any, m: int = 1, k: Any = None) -> Node:
    """Coefficients of the m-th antiderivative, its constants given by k."""
    if integer("polyint", "m", m) < 0:
        raise GraphError("bad-attribute", "polyint: the order of the integral must not be negative.")
    builder = builder_of(p, k)
    node = tensor(p, builder)
    given = atleast_1d(tensor(0.0 if k is None else k, builder))
    if given.shape[0] not in (1, m) and m:
        raise GraphError("wrong-arity", f"polyint: {given.shape[0]} constants for {m} integrations.")
    for step in range(m):
        constant = index(given, slice(step, step + 1)) if given.shape[0] > 1 else given
        divided = elementwise("divide", node, builder.constant(np.arange(node.shape[0], 0, -1)))
        node = concatenate([divided, constant])
    return node

"""NumPy's averages, covariances and correlations."""

from __future__ import annotations

from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends.manipulation import atleast_2d, diagonal
from hesse_engine.frontends.operands import array_of, builder_of, dtype_like, elementwise, floating, tensor
from hesse_engine.frontends.reductions import clip, mean, sum_
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import FLOAT64, Node, apply
from hesse_engine.ir.shapes import axes_of, axis_of, convert


@numpy_function()
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    """sum w a / sum w over axes; with `returned` the sum of the weights too."""
    builder = builder_of(a, weights)
    x = tensor(a, builder)
    axes = axes_of("average", axis, x.ndim)
    if weights is None:
        y = mean(x, axis, keepdims=keepdims)
        total = float(np.prod([x.shape[k] for k in axes]))
        return (y, builder.full(y.shape, total, y.dtype)) if returned else y
    w = tensor(weights, builder)
    if w.shape != x.shape:
        named = [axis_of("average", k, x.ndim) for k in (axis if isinstance(axis, (tuple, list)) else (axis,))] \
            if axis is not None else []
        if w.shape != tuple([x.shape[k] for k in named]):
            raise GraphError("shape-mismatch", f"average: weights of shape {list(w.shape)} do not fit {list(x.shape)}.")
        w = apply("permute_dims", w, axes=np.argsort(named).tolist())
        w = apply("reshape", w, shape=[s if k in named else 1 for k, s in enumerate(x.shape)])
        w = apply("broadcast_to", w, shape=x.shape)
    scale = sum_(floating(w), axis, keepdims=keepdims)
    y = elementwise("divide", sum_(elementwise("multiply", x, w), axis, keepdims=keepdims), scale)
    return (y, scale) if returned else y


@numpy_function()
def cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None, fweights: Any = None,
    aweights: Any = None, *, dtype: Any = None,
) -> Node:
    """sum_k w_k (x_ik - mean_i)(x_jk - mean_j) / norm, of the rows of m, and of those of y below them."""
    builder = builder_of(m, y, fweights, aweights)
    x = _observations(tensor(m, builder), rowvar)
    if y is not None:
        x = apply("concat", x, _observations(tensor(y, builder), rowvar), axis=0)
    x = convert(x, FLOAT64 if dtype is None else dtype_like(dtype))
    free = (0 if bias else 1) if ddof is None else ddof
    w = _weights(builder_of(x), fweights, aweights)
    if w is None:
        total: Any = float(x.shape[1])
        centered = x - apply("mean", x, axis=1, keepdims=True)
        weighted, norm = centered, total - free
    else:
        total = apply("sum", w)
        row = apply("reshape", w, shape=(1, w.size))
        centered = x - sum_(elementwise("multiply", x, row), 1, keepdims=True) / total
        weighted = elementwise("multiply", centered, row)
        norm = total - free if aweights is None or not free else \
            total - elementwise("divide", apply("sum", elementwise("multiply", w, tensor(aweights, w.builder))) * free,
                                total)
    if not isinstance(norm, Node):
        norm = max(norm, 0.0)
    spread = apply("matmul", weighted, apply("permute_dims", centered))
    return apply("squeeze", elementwise("divide", spread, norm))


def _observations(x: Node, rowvar: bool) -> Node:
    """One variable a row."""
    if x.ndim > 2:
        raise GraphError("shape-mismatch", f"cov: at most 2 dimensions, not {x.ndim}.")
    rows: Node = atleast_2d(x)
    return rows if rowvar or x.ndim < 2 else apply("permute_dims", rows)


def _weights(builder: Any, fweights: Any, aweights: Any) -> Node | None:
    if fweights is not None:
        counts = fweights.value if isinstance(fweights, Node) else array_of(fweights)
        if counts is not None and (counts.dtype.kind not in "iu" or (counts < 0).any()):
            raise GraphError("bad-attribute", "cov: fweights must be non-negative integers.")
    given = [floating(tensor(w, builder)) for w in (fweights, aweights) if w is not None]
    if not given:
        return None
    return given[0] if len(given) == 1 else elementwise("multiply", *given)


@numpy_function()
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Node:
    """cov_ij / (sd_i sd_j), kept within [-1, 1]; of one variable, 1."""
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return elementwise("divide", c, c)
    sd = apply("sqrt", diagonal(c))
    columns = elementwise("divide", c, apply("expand_dims", sd, axis=1))
    return clip(elementwise("divide", columns, apply("expand_dims", sd, axis=0)), -1.0, 1.0)

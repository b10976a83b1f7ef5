"""torch's reductions of more than one number, and what is summed along an axis."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from hesse_engine.errors import GraphError
from hesse_engine.frontends import manipulation, products, reductions
from hesse_engine.frontends.indexing import index
from hesse_engine.frontends.operands import builder_of, elementwise, floating, root, tensor, where
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_functions import mean, var
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.shapes import axis_of, convert

Extrema = namedtuple("Extrema", ["min", "max"])


# ---- moments ---------------------------------------------------------------------------------------------------------
@torch_function()
def var_mean(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Node, Node]:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    return var(input, dim, unbiased, keepdim, correction=correction), mean(input, dim, keepdim)


@torch_function()
def std_mean(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Node, Node]:
    spread, center = var_mean(input, dim, unbiased, keepdim, correction=correction)
    return root(spread), center


@torch_function()
def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Node:
    """sum_k w_k (x_ik - m_i)(x_jk - m_j) / (sum w - correction sum w a / sum w), rows i being the variables."""
    x = floating(tensor(input, builder_of(input, fweights, aweights)))
    if x.ndim > 2:
        raise GraphError("shape-mismatch", f"cov(): expected input to have two or fewer dimensions but got an input "
                                           f"with {x.ndim} dimensions.")
    rows = apply("reshape", x, shape=(1, x.size)) if x.ndim < 2 else x
    weights: Any = None
    for given in (fweights, aweights):
        if given is not None:
            own = convert(tensor(given, x.builder), x.dtype)
            weights = own if weights is None else weights * own
    if weights is None:
        free: Any = max(float(rows.shape[1] - correction), 0.0)
        centered = rows - apply("mean", rows, axis=1, keepdims=True)
        weighted = centered
    else:
        total = apply("sum", weights)
        center = apply("sum", elementwise("multiply", rows, weights), axis=1, keepdims=True) / total
        lost: Any = float(correction) if aweights is None else correction * (
            apply("sum", elementwise("multiply", weights, convert(tensor(aweights, x.builder), x.dtype))) / total)
        free = elementwise("maximum", total - lost, 0.0)
        centered = elementwise("subtract", rows, center)
        weighted = elementwise("multiply", centered, weights)
    y = elementwise("divide", apply("matmul", weighted, apply("permute_dims", centered)), free)
    return apply("reshape", y, shape=()) if x.ndim < 2 else y


@torch_function()
def corrcoef(input: Any) -> Node:
    """The covariances over the deviations of both rows, within [-1, 1]."""
    c = cov(input)
    if not c.ndim:
        return c / c
    deviation = apply("sqrt", apply("diag", c))
    column = apply("expand_dims", deviation, axis=1)
    return elementwise("clip", elementwise("divide", elementwise("divide", c, column), deviation), -1.0, 1.0)


@torch_function()
def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> Extrema:
    x = tensor(input)
    axis = None if dim is None or not x.ndim else axis_of("aminmax", dim, x.ndim)
    return Extrema(*[apply(row, x, axis=axis, keepdims=keepdim) for row in ("min", "max")])


@torch_function()
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Node:
    """Slices along an axis whose norm is above a bound scaled to it: maxnorm / (norm + 1e-7)."""
    x = tensor(input)
    kept = axis_of("renorm", dim, x.ndim)
    size = products.vector_norm_of(x, p, tuple([k for k in range(x.ndim) if k != kept]), True)
    return elementwise("multiply", x, where(apply("greater", size, float(maxnorm)), maxnorm / (size + 1e-7), 1.0))


# ---- along an axis ---------------------------------------------------------------------------------------------------
@torch_function()
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Node:
    builder = builder_of(input, prepend, append)
    parts = [tensor(v, builder) for v in (prepend, input, append) if v is not None]
    return reductions.diff(parts[0] if len(parts) == 1 else manipulation.concatenate(parts, dim), n, dim)


@torch_function()
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = 1.0, dim: int = -1) -> Node:
    """The trapezoidal integrals from the first point to each of the others."""
    builder = builder_of(y, x, dx)
    values = tensor(y, builder)
    k = axis_of("cumulative_trapezoid", dim, values.ndim)
    lead = (slice(None),) * k
    pairs = index(values, (*lead, slice(1, None))) + index(values, (*lead, slice(None, -1)))
    step: Any = dx
    if x is not None:
        points = tensor(x, builder)
        step = reductions.diff(points, axis=-1 if points.ndim == 1 else k)
        if points.ndim == 1:
            step = apply("reshape", step, shape=[-1 if j == k else 1 for j in range(values.ndim)])
    return apply("cumulative_sum", elementwise("multiply", pairs, step), axis=k) / 2.0

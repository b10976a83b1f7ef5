"""torch.nn.functional's activations and losses, with torch's subgradients at kinks."""

from __future__ import annotations

import math
from typing import Any

from hesse_engine.errors import GraphError
from hesse_engine.frontends import products
from hesse_engine.frontends.elementary import xlogy
from hesse_engine.frontends.gathering import take, take_along_axis
from hesse_engine.frontends.operands import (
    builder_of,
    dtype_like,
    elementwise,
    floating,
    no_rule,
    tensor,
    tensors,
    where,
)
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_random import dropped_out
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops import ROWS
from hesse_engine.ir.shapes import convert


# ---- activations -----------------------------------------------------------------------------------------------------
def _below(x: Node, bound: float) -> Node:
    return apply("less_equal", x, bound)


@torch_function()
def relu(input: Any) -> Node:
    x = tensor(input)
    return where(_below(x, 0.0), x.builder.zeros(x.shape, x.dtype), x)


@torch_function()
def relu6(input: Any) -> Node:
    x = relu(input)
    return where(apply("greater_equal", x, 6.0), 6.0, x)


@torch_function()
def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Node:
    x = tensor(input)
    return where(_below(x, min_val), min_val, where(apply("greater_equal", x, max_val), max_val, x))


@torch_function()
def leaky_relu(input: Any, negative_slope: float = 0.01) -> Node:
    x = tensor(input)
    return where(_below(x, 0.0), x * negative_slope, x)


@torch_function()
def prelu(input: Any, weight: Any) -> Node:
    x, w = tensors(input, weight)
    if w.size > 1 and x.ndim > 1:
        w = apply("reshape", w, shape=[w.size if k == 1 else 1 for k in range(x.ndim)])
    return where(_below(x, 0.0), elementwise("multiply", w, x), x)


@torch_function()
def elu(input: Any, alpha: float = 1.0) -> Node:
    """alpha (exp(x) - 1) below 0, x above; at 0 the slope is alpha and the curvature 0."""
    x = tensor(input)
    above = x if alpha == 1 else where(apply("greater", x, 0.0), x, x * alpha)
    return where(apply("less", x, 0.0), apply("expm1", x) * alpha, above)


@torch_function()
def celu(input: Any, alpha: float = 1.0) -> Node:
    x = tensor(input)
    return where(apply("less", x, 0.0), apply("expm1", x / alpha) * alpha, x)


@torch_function()
def selu(input: Any) -> Node:
    return elu(input, 1.6732632423543772848170429916717) * 1.0507009873554804934193349852946


@torch_function()
def silu(input: Any) -> Node:
    x = tensor(input)
    return x * apply("sigmoid", x)


@torch_function()
def mish(input: Any) -> Node:
    x = tensor(input)
    return x * apply("tanh", apply("softplus", x))


@torch_function()
def gelu(input: Any, approximate: str = "none") -> Node:
    x = tensor(input)
    if approximate == "tanh":
        cubic = x + 0.044715 * apply("power", x, 3)
        return 0.5 * x * (1.0 + apply("tanh", math.sqrt(2.0 / math.pi) * cubic))
    if "erf" not in ROWS:
        raise no_rule("torch.nn.functional.gelu (approximate='tanh' has one)")
    return 0.5 * x * (1.0 + apply("erf", x / math.sqrt(2.0)))


@torch_function()
def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Node:
    """log(1 + exp(beta x)) / beta; linear above the threshold, as torch is."""
    x = tensor(input)
    scaled = x * float(beta)
    return where(apply("greater", scaled, float(threshold)), x, apply("softplus", scaled) / float(beta))


@torch_function("logsigmoid", "log_sigmoid")
def logsigmoid(input: Any) -> Node:
    return -apply("softplus", -tensor(input))


@torch_function()
def softsign(input: Any) -> Node:
    x = tensor(input)
    return x / (1.0 + apply("abs", x))


@torch_function()
def tanhshrink(input: Any) -> Node:
    x = tensor(input)
    return x - apply("tanh", x)


@torch_function()
def softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Node:
    x = _in_dtype(input, dtype)
    return apply("softmax", x, axis=_axis(x, dim))


@torch_function()
def log_softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Node:
    x = _in_dtype(input, dtype)
    return apply("log_softmax", x, axis=_axis(x, dim))


@torch_function()
def softmin(input: Any, dim: int | None = None, dtype: Any = None) -> Node:
    return softmax(-tensor(input), dim, dtype)


def _in_dtype(input: Any, dtype: Any) -> Node:
    return floating(tensor(input)) if dtype is None else convert(tensor(input), dtype_like(dtype))


def _axis(x: Node, dim: int | None) -> int:
    # torch's own choice where none is named
    return dim if dim is not None else 0 if x.ndim in (0, 1, 3) else 1


@torch_function()
def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Node:
    x = tensor(input)
    size = products.vector_norm_of(x, p, dim, True)
    return x / elementwise("clip", size, eps, math.inf)


@torch_function()
def linear(input: Any, weight: Any, bias: Any = None) -> Node:
    builder = builder_of(input, weight, bias)
    w = tensor(weight, builder)
    y = products.matmul(tensor(input, builder), apply("permute_dims", w))
    return y if bias is None else elementwise("add", y, bias)


@torch_function()
def embedding(input: Any, weight: Any) -> Node:
    return take(weight, input, 0)


@torch_function()
def dropout(input: Any, p: float = 0.5, training: bool = True) -> Node:
    return dropped_out(input, p, training)


# ---- losses ----------------------------------------------------------------------------------------------------------
def _reduced(x: Node, reduction: str) -> Node:
    if reduction not in ("mean", "sum", "none"):
        raise GraphError("bad-attribute", f"reduction {reduction!r} is not one of 'mean', 'sum', 'none'.")
    return x if reduction == "none" else apply(reduction, x)


def _weighted(x: Node, weight: Any) -> Node:
    return x if weight is None else elementwise("multiply", x, weight)


@torch_function()
def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Node:
    return _reduced(apply("square", elementwise("subtract", input, target)), reduction)


@torch_function()
def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Node:
    return _reduced(apply("abs", elementwise("subtract", input, target)), reduction)


def _huber(input: Any, target: Any, delta: float, inside: str) -> Node:
    d = elementwise("subtract", input, target)
    size = apply("abs", d)
    return where(apply(inside, size, delta), 0.5 * apply("square", d), delta * (size - 0.5 * delta))


@torch_function()
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Node:
    """d²/2 for |d| <= delta, then delta (|d| - delta/2)."""
    return _reduced(_huber(input, target, delta, "less_equal"), reduction)


@torch_function()
def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Node:
    """Huber's loss over beta, its curvature at |d| = beta being 0."""
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    return _reduced(_huber(input, target, beta, "less") / beta, reduction)


@torch_function()
def binary_cross_entropy_with_logits(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean",
                                     pos_weight: Any = None) -> Node:
    """(1 - t) x + (1 + (w - 1) t) softplus(-x)."""
    x, t = tensors(input, target)
    slope: Any = apply("softplus", -x)
    if pos_weight is not None:
        slope = elementwise("multiply", elementwise("add", elementwise("multiply", elementwise(
            "subtract", tensor(pos_weight, x.builder), 1.0), t), 1.0), slope)
    return _reduced(_weighted((1.0 - t) * x + slope, weight), reduction)


@torch_function()
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Node:
    """-(t log p + (1 - t) log(1 - p)), the logarithms bounded below by -100."""
    p, t = tensors(input, target)
    logs = [elementwise("clip", apply("log", q), -100.0, math.inf) for q in (p, 1.0 - p)]
    return _reduced(_weighted(-(t * logs[0] + (1.0 - t) * logs[1]), weight), reduction)


@torch_function()
def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, *, reduction: str = "mean") -> Node:
    """-w_t x_t, the mean weighted by w_t."""
    builder = builder_of(input, target)
    x, classes = tensor(input, builder), tensor(target, builder)
    axis = 0 if x.ndim == 1 else 1
    kept = apply("not_equal", classes, ignore_index)
    places = apply("where", kept, classes, 0)
    picked = take_along_axis(x, apply("expand_dims", places, axis=axis), axis)
    picked = -apply("squeeze", picked, axis=axis)
    share = convert(kept, x.dtype)
    if weight is not None:
        share = share * apply("take", tensor(weight, builder), places, axis=0)
    loss = where(kept, picked * share, 0.0)
    if reduction != "mean":
        return _reduced(loss, reduction)
    return apply("sum", loss) / apply("sum", share)


@torch_function()
def cross_entropy(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, *, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Node:
    builder = builder_of(input, target)
    x, t = tensor(input, builder), tensor(target, builder)
    if label_smoothing or (t.is_floating and weight is not None):
        raise no_rule("torch.nn.functional.cross_entropy with label smoothing or weighted class probabilities")
    axis = 0 if x.ndim == 1 else 1
    logs = log_softmax(x, axis)
    if not t.is_floating:
        return nll_loss(logs, t, weight, ignore_index, reduction=reduction)
    loss = -apply("sum", t * logs, axis=axis)
    return apply("sum", loss) / float(max(loss.size, 1)) if reduction == "mean" else _reduced(loss, reduction)


@torch_function()
def kl_div(input: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Node:
    x, t = tensors(input, target)
    loss = apply("exp", t) * (t - x) if log_target else xlogy(t, t) - t * x
    return apply("sum", loss) / float(x.shape[0]) if reduction == "batchmean" else _reduced(loss, reduction)


@torch_function()
def poisson_nll_loss(input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8,
                     reduction: str = "mean") -> Node:
    x, t = tensors(input, target)
    if full:
        raise no_rule("torch.nn.functional.poisson_nll_loss with full=True")
    return _reduced(apply("exp", x) - t * x if log_input else x - t * apply("log", x + eps), reduction)


@torch_function()
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Node:
    a, b = tensors(x1, x2)
    sizes = [elementwise("clip", products.vector_norm_of(n, 2, dim, False), eps, math.inf) for n in (a, b)]
    return apply("sum", a * b, axis=dim) / (sizes[0] * sizes[1])


@torch_function()
def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Node:
    return products.vector_norm_of(elementwise("add", elementwise("subtract", x1, x2), eps), p, -1, keepdim)

"""torch.nn.functional's losses, with torch's reductions, weights and subgradients at kinks."""

from __future__ import annotations

import math
from typing import Any

from hesse_engine.errors import GraphError
from hesse_engine.frontends import products
from hesse_engine.frontends.elementary import xlogy
from hesse_engine.frontends.gathering import take_along_axis
from hesse_engine.frontends.operands import builder_of, elementwise, ladder, no_rule, tensor, tensors, where
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_neural import log_softmax, logsigmoid
from hesse_engine.ir.graph import Builder, Node, apply
from hesse_engine.ir.shapes import convert


# ---- words that losses share -----------------------------------------------------------------------------------------
def reduced(x: Node, reduction: str) -> Node:
    if reduction not in ("mean", "sum", "none"):
        raise GraphError("bad-attribute", f"{reduction} is not a valid value for reduction: 'mean', 'sum' and 'none' "
                                          "are.")
    return x if reduction == "none" else apply(reduction, x)


def _weighted(x: Node, weight: Any) -> Node:
    return x if weight is None else elementwise("multiply", x, weight)


def _at_least(x: Node, bound: float) -> Node:
    """max(x, bound); on the bound the slope is x's, as that of torch's clamp is."""
    return elementwise("clip", x, float(bound), math.inf)


def _same_size(name: str, input: Node, target: Node) -> None:
    if input.shape != target.shape:
        raise GraphError("shape-mismatch", f"{name}: the target has shape {list(target.shape)}, the input "
                                           f"{list(input.shape)}: they must be the same size.")


def _detached(x: Node) -> Node:
    return apply("stop_gradient", x)


# ---- regression ------------------------------------------------------------------------------------------------------
@torch_function()
def mse_loss(input: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Node:
    return _weighted_mean(apply("square", elementwise("subtract", input, target)), input, weight, reduction)


def _weighted_mean(loss: Node, input: Any, weight: Any, reduction: str) -> Node:
    if weight is None:
        return reduced(loss, reduction)
    w = _sized(weight, input, loss.builder)
    loss = elementwise("multiply", loss, w)
    return apply("sum", loss) / apply("sum", w) if reduction == "mean" else reduced(loss, reduction)


def _sized(weight: Any, input: Any, builder: Builder) -> Node:
    w = tensor(weight, builder)
    if w.shape != tensor(input, builder).shape:
        raise GraphError("shape-mismatch", "Weights and input must have the same size.")
    return w


@torch_function()
def l1_loss(input: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Node:
    return _weighted_mean(apply("abs", elementwise("subtract", input, target)), input, weight, reduction)


def _huber(input: Any, target: Any, delta: float, inside: str) -> Node:
    d = elementwise("subtract", input, target)
    size = apply("abs", d)
    return where(apply(inside, size, float(delta)), 0.5 * apply("square", d), (size - 0.5 * delta) * float(delta))


@torch_function()
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Node:
    """d²/2 for |d| <= delta, then delta (|d| - delta/2)."""
    if delta <= 0:
        raise GraphError("bad-attribute", f"huber_loss: does not support non-positive values for delta: {delta}.")
    loss = _huber(input, target, delta, "less_equal")
    return reduced(loss if weight is None else _weighted(loss, _sized(weight, input, loss.builder)), reduction)


@torch_function()
def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Node:
    """Huber's loss over beta, its curvature at |d| = beta being 0."""
    if beta < 0:
        raise GraphError("bad-attribute", f"smooth_l1_loss: does not support negative values for beta: {beta}.")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    return reduced(_huber(input, target, beta, "less") / float(beta), reduction)


@torch_function()
def poisson_nll_loss(input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8,
                     reduction: str = "mean") -> Node:
    """exp(x) - t x, or x - t log(x + eps); `full` adds Stirling's t log t - t + log(2 pi t)/2 where t > 1."""
    x, t = tensors(input, target)
    loss = apply("exp", x) - t * x if log_input else x - t * apply("log", x + float(eps))
    if full:
        large = apply("greater", t, 1.0)
        safe = where(large, t, 1.0)
        stirling = safe * apply("log", safe) - safe + 0.5 * apply("log", (2.0 * math.pi) * safe)
        loss = loss + where(large, stirling, 0.0)
    return reduced(loss, reduction)


@torch_function()
def gaussian_nll_loss(input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Node:
    """(log v + (x - t)²/v)/2 with v = max(var, eps), whose derivative is var's on either side, as in torch."""
    builder = builder_of(input, target, var)
    if not isinstance(var, (int, float)):
        v = tensor(var, builder)
        x = tensor(input, builder)
        v = apply("expand_dims", v, axis=-1) if v.shape == x.shape[:-1] and v.ndim < x.ndim else v
    else:
        v = builder.full(tensor(input, builder).shape, float(var), tensor(input, builder).dtype)
    v = v + _detached(_at_least(v, eps) - v)
    loss = 0.5 * elementwise("add", apply("log", v), elementwise("divide", apply(
        "square", elementwise("subtract", input, target)), v))
    return reduced(loss + 0.5 * math.log(2.0 * math.pi) if full else loss, reduction)


# ---- two classes -----------------------------------------------------------------------------------------------------
@torch_function()
def binary_cross_entropy_with_logits(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean",
                                     pos_weight: Any = None) -> Node:
    """(1 - t) x + (1 + (w - 1) t) softplus(-x)."""
    x, t = tensors(input, target)
    _same_size("binary_cross_entropy_with_logits", x, t)
    slope: Any = apply("softplus", -x)
    if pos_weight is not None:
        share = elementwise("multiply", elementwise("subtract", tensor(pos_weight, x.builder), 1.0), t)
        slope = elementwise("multiply", elementwise("add", share, 1.0), slope)
    return reduced(_weighted((1.0 - t) * x + slope, weight), reduction)


@torch_function()
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Node:
    """-(t log p + (1 - t) log(1 - p)), the logarithms bounded below by -100, where their slope is 0."""
    p, t = tensors(input, target)
    _same_size("binary_cross_entropy", p, t)
    logs = []
    for q in (p, 1.0 - p):
        tiny = at_most_exp(q)
        logs.append(where(tiny, -100.0, apply("log", where(tiny, 1.0, q))))
    return reduced(_weighted(-(t * logs[0] + (1.0 - t) * logs[1]), weight), reduction)


def at_most_exp(q: Node) -> Node:
    """Where log q is at most -100; not where q is negative, which has no logarithm."""
    return apply("logical_and", apply("less_equal", q, math.exp(-100.0)), apply("greater_equal", q, 0.0))


@torch_function()
def soft_margin_loss(input: Any, target: Any, *, reduction: str = "mean") -> Node:
    """log(1 + exp(-t x))."""
    return reduced(apply("softplus", -elementwise("multiply", target, input)), reduction)


@torch_function()
def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, *, reduction: str = "mean") -> Node:
    """x where t is 1, max(0, margin - x) where t is -1; the sum of both, were t anything else."""
    builder = builder_of(input, target)
    x, t = tensor(input, builder), tensor(target, builder)
    gap = _at_least(float(margin) - x, 0.0)
    positive = where(apply("not_equal", t, -1), x, 0.0)
    return reduced(elementwise("add", where(apply("not_equal", t, 1), gap, 0.0), positive), reduction)


@torch_function()
def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean") -> Node:
    """max(0, margin - t (x1 - x2))."""
    gap = elementwise("multiply", -tensor(target, builder_of(input1, input2, target)),
                      elementwise("subtract", input1, input2))
    return reduced(_at_least(gap + float(margin), 0.0), reduction)


# ---- classes ---------------------------------------------------------------------------------------------------------
def _class_axis(x: Node) -> int:
    return 0 if x.ndim == 1 else 1


def _picked(x: Node, classes: Node) -> Node:
    """x at the class of each example."""
    axis = _class_axis(x)
    return apply("squeeze", take_along_axis(x, apply("expand_dims", classes, axis=axis), axis), axis=axis)


@torch_function()
def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, *, reduction: str = "mean") -> Node:
    """-w_t x_t, the mean weighted by w_t."""
    builder = builder_of(input, target)
    x, classes = tensor(input, builder), tensor(target, builder)
    kept = apply("not_equal", classes, ignore_index)
    places = apply("where", kept, classes, 0)
    share = convert(kept, x.dtype)
    if weight is not None:
        share = share * apply("take", tensor(weight, builder), places, axis=0)
    loss = where(kept, -_picked(x, places) * share, 0.0)
    if reduction != "mean":
        return reduced(loss, reduction)
    return apply("sum", loss) / apply("sum", share)


@torch_function()
def cross_entropy(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, *, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Node:
    """-sum_c w_c q_c log softmax(x)_c, q the class (a one) or its probabilities, mixed with uniform ones."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise GraphError("bad-attribute", f"cross_entropy: label_smoothing must be between 0.0 and 1.0. Got: "
                                          f"{label_smoothing}.")
    builder = builder_of(input, target)
    x, t = tensor(input, builder), tensor(target, builder)
    axis = _class_axis(x)
    logs = log_softmax(x, axis)
    if not t.is_floating:
        return _of_indices(logs, t, weight, ignore_index, reduction, label_smoothing)
    _same_size("cross_entropy", x, t)
    t = t * (1.0 - label_smoothing) + label_smoothing / x.shape[axis] if label_smoothing else t
    loss = -apply("sum", t * logs * _along(weight, x), axis=axis)
    return apply("sum", loss) / float(max(loss.size, 1)) if reduction == "mean" else reduced(loss, reduction)


def _along(weight: Any, x: Node) -> Any:
    """Weights of classes, broadcast over x."""
    if weight is None:
        return 1.0
    w = tensor(weight, x.builder)
    return apply("reshape", w, shape=[w.size if k == _class_axis(x) else 1 for k in range(x.ndim)])


def _of_indices(logs: Node, t: Node, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Node:
    hard = nll_loss(logs, t, weight, ignore_index, reduction=reduction)
    if not smoothing:
        return hard
    axis = _class_axis(logs)
    kept = apply("not_equal", t, ignore_index)
    smooth = where(kept, -apply("sum", logs * _along(weight, logs), axis=axis), 0.0)
    if reduction == "mean":
        share = convert(kept, logs.dtype)
        if weight is not None:
            share = share * apply("take", tensor(weight, logs.builder), apply("where", kept, t, 0), axis=0)
        smooth = apply("sum", smooth) / apply("sum", share)
    else:
        smooth = reduced(smooth, reduction)
    return hard * (1.0 - smoothing) + smooth * (smoothing / logs.shape[axis])


@torch_function()
def kl_div(input: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Node:
    """t (log t - x), or exp(t) (t - x)."""
    x, t = tensors(input, target)
    loss = apply("exp", t) * (t - x) if log_target else xlogy(t, t) - t * x
    return apply("sum", loss) / float(x.shape[0]) if reduction == "batchmean" else reduced(loss, reduction)


@torch_function()
def multi_margin_loss(input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, *,
                      reduction: str = "mean") -> Node:
    """sum over c other than t of w_t max(0, margin - x_t + x_c)^p, over the number of classes."""
    builder = builder_of(input, target)
    x, t = tensor(input, builder), tensor(target, builder)
    if p not in (1, 2):
        raise GraphError("bad-attribute", "multi_margin_loss: only p == 1 and p == 2 supported.")
    axis = _class_axis(x)
    classes = apply("reshape", ladder(builder, x.shape[axis]), shape=(x.shape[axis],))
    other = apply("not_equal", apply("expand_dims", t, axis=axis), classes)
    gap = x - apply("expand_dims", _picked(x, t), axis=axis) + float(margin)
    gap = where(apply("logical_and", other, apply("greater", gap, 0.0)), gap, 0.0)
    loss = apply("sum", gap if p == 1 else apply("square", gap), axis=axis) / float(x.shape[axis])
    return reduced(_weighted(loss, None if weight is None else apply("take", tensor(weight, builder), t, axis=0)),
                   reduction)


@torch_function()
def multilabel_soft_margin_loss(input: Any, target: Any, weight: Any = None, *, reduction: str = "mean") -> Node:
    """-(t log sigmoid(x) + (1 - t) log sigmoid(-x)), averaged over the classes (the last axis)."""
    x, t = tensors(input, target)
    loss = -(t * logsigmoid(x) + (1.0 - t) * logsigmoid(-x))
    return reduced(apply("mean", _weighted(loss, weight), axis=-1), reduction)


@torch_function()
def multilabel_margin_loss(input: Any, target: Any, *, reduction: str = "mean") -> Node:
    """sum_jc max(0, 1 - x_(t_j) + x_c) over the targets t_j before the first -1 and the classes c that none is."""
    builder = builder_of(input, target)
    x, t = tensor(input, builder), tensor(target, builder)
    is_listed = apply("equal", apply("cumulative_sum", apply("less", t, 0), axis=t.ndim - 1), 0)
    places = apply("where", is_listed, t, 0)
    classes = ladder(builder, t.shape[-1])
    named = elementwise("equal", apply("expand_dims", places, axis=-1), classes)
    named = elementwise("logical_and", named, apply("expand_dims", is_listed, axis=-1))
    is_other = apply("equal", apply("sum", named, axis=-2), 0)
    counted = elementwise("logical_and", apply("expand_dims", is_listed, axis=-1),
                          apply("expand_dims", is_other, axis=-2))
    own = take_along_axis(x, places, -1)
    gap = 1.0 - apply("expand_dims", own, axis=-1) + apply("expand_dims", x, axis=-2)
    gap = where(apply("logical_and", counted, apply("greater", gap, 0.0)), gap, 0.0)
    return reduced(apply("sum", gap, axis=(-2, -1)) / float(x.shape[-1]), reduction)


# ---- distances -------------------------------------------------------------------------------------------------------
@torch_function()
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Node:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)), the bounds having the norms' derivatives, as in torch."""
    a, b = tensors(x1, x2)
    units = []
    for x in (a, b):
        size = products.vector_norm_of(x, 2, dim, True)
        units.append(elementwise("divide", x, size + _detached(_at_least(size, eps) - size)))
    return apply("sum", elementwise("multiply", *units), axis=dim)


@torch_function()
def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, *,
                          reduction: str = "mean") -> Node:
    """1 - cos where t is 1, max(0, cos - margin) where t is -1, with an epsilon of 1e-12 in the squared norms."""
    a, b = tensors(input1, input2)
    t = tensor(target, a.builder)
    axis = -1
    dot = apply("sum", elementwise("multiply", a, b), axis=axis)
    sizes = [apply("sum", apply("square", x), axis=axis) + 1e-12 for x in (a, b)]
    cosine = dot / apply("sqrt", sizes[0] * sizes[1])
    loss = elementwise("add", where(apply("equal", t, 1), 1.0 - cosine, 0.0),
                       where(apply("equal", t, -1), _at_least(cosine - float(margin), 0.0), 0.0))
    return reduced(loss, reduction)


@torch_function()
def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Node:
    """|x1 - x2 + eps|_p along the last axis."""
    return products.vector_norm_of(elementwise("subtract", x1, x2) + float(eps), p, -1, keepdim)


@torch_function()
def triplet_margin_loss(anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
                        eps: float = 1e-6, swap: bool = False, *, reduction: str = "mean") -> Node:
    """max(0, margin + d(a, p) - d(a, n)); with swap the nearer of a and p to n."""
    def distance(a: Any, b: Any) -> Node:
        return pairwise_distance(a, b, p, eps)

    return _triplet(anchor, positive, negative, distance, margin, swap, reduction)


@torch_function()
def triplet_margin_with_distance_loss(anchor: Any, positive: Any, negative: Any, *, distance_function: Any = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Node:
    if distance_function is not None:
        raise no_rule("torch.nn.functional.triplet_margin_with_distance_loss with a distance function")
    return _triplet(anchor, positive, negative, pairwise_distance, margin, swap, reduction)


def _triplet(a: Any, p: Any, n: Any, distance: Any, margin: float, swap: bool, reduction: str) -> Node:
    near, far = distance(a, p), distance(a, n)
    if swap:
        far = elementwise("minimum", far, distance(p, n))
    return reduced(_at_least(near - far + float(margin), 0.0), reduction)

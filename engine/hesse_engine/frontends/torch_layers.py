"""torch.nn.functional's layers: affine maps, normalizations, embeddings, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.frontends import products
from hesse_engine.frontends.gathering import take
from hesse_engine.frontends.manipulation import moveaxis, split
from hesse_engine.frontends.operands import array_of, builder_of, elementwise, no_rule, tensor, tensors, where
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_neural import dropout
from hesse_engine.ir.graph import BOOL, Builder, Node, apply, size_of
from hesse_engine.ir.shapes import convert

EPSILON = 1e-5


# ---- affine maps -----------------------------------------------------------------------------------------------------
@torch_function()
def linear(input: Any, weight: Any, bias: Any = None) -> Node:
    """x W' + b."""
    builder = builder_of(input, weight, bias)
    w = tensor(weight, builder)
    y = products.matmul(tensor(input, builder), apply("permute_dims", w))
    return y if bias is None else elementwise("add", y, bias)


@torch_function()
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Node:
    """y_o = x1' W_o x2 + b_o."""
    x, y, w = tensors(input1, input2, weight)
    z = apply("einsum", x, w, y, subscripts="...i,oij,...j->...o")
    return z if bias is None else elementwise("add", z, bias)


@torch_function()
def embedding(input: Any, weight: Any, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Node:
    """The rows of a table; the row `padding_idx` carries no derivative. torch.embedding takes the table first."""
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise no_rule("torch.nn.functional.embedding with max_norm, scale_grad_by_freq or sparse")
    builder = builder_of(input, weight)
    w, places = tensor(weight, builder), tensor(input, builder)
    if places.is_floating:
        w, places = places, w
        padding_idx = None if padding_idx == -1 else padding_idx
    if padding_idx is not None:
        kept = builder.constant(np.arange(w.shape[0]) != padding_idx % w.shape[0])
        kept = apply("reshape", kept, shape=(w.shape[0], *(1,) * (w.ndim - 1)))
        w = where(kept, w, apply("stop_gradient", w))
    return take(w, places, 0)


# ---- normalizations --------------------------------------------------------------------------------------------------
def _scaled(x: Node, weight: Any, bias: Any, shape: tuple[int, ...] | None = None) -> Node:
    """weight x + bias; both reshaped for broadcasting where a shape is given."""
    for op, value in (("multiply", weight), ("add", bias)):
        if value is not None:
            factor = tensor(value, x.builder)
            x = elementwise(op, x, factor if shape is None else apply("reshape", factor, shape=shape))
    return x


def _standardized(x: Node, axes: tuple[int, ...], eps: float) -> Node:
    """(x - mean) / sqrt(var + eps), var the biased variance."""
    centered = x - apply("mean", x, axis=axes, keepdims=True)
    variance = apply("mean", apply("square", centered), axis=axes, keepdims=True)
    return centered / apply("sqrt", variance + float(eps))


def _trailing(name: str, x: Node, normalized_shape: Any) -> tuple[int, ...]:
    shape = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    if not shape or x.shape[-len(shape):] != shape:
        raise GraphError("shape-mismatch", f"{name}: Given normalized_shape={list(shape)}, expected input with shape "
                                           f"[*, {', '.join(map(str, shape))}], but got input of size {list(x.shape)}.")
    return tuple(range(x.ndim - len(shape), x.ndim))


@torch_function()
def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = EPSILON,
               cudnn_enable: bool = True) -> Node:
    x = tensor(input, builder_of(input, weight, bias))
    return _scaled(_standardized(x, _trailing("layer_norm", x, normalized_shape), eps), weight, bias)


@torch_function()
def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Node:
    """x / sqrt(mean(x²) + eps)."""
    x = tensor(input, builder_of(input, weight))
    axes = _trailing("rms_norm", x, normalized_shape)
    small = float(np.finfo(x.dtype).eps) if eps is None else float(eps)
    power = apply("mean", apply("square", x), axis=axes, keepdims=True)
    return _scaled(x / apply("sqrt", power + small), weight, None)


def _of_channels(x: Node) -> tuple[int, ...]:
    return tuple([x.shape[1] if k == 1 else 1 for k in range(x.ndim)])


@torch_function()
def batch_norm(input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
               training: bool = False, momentum: float = 0.1, eps: float = EPSILON, cudnn_enabled: bool = True) -> Node:
    """Each channel standardized by the batch's mean and variance in training, else by the running ones."""
    x = tensor(input, builder_of(input, running_mean, running_var, weight, bias))
    shape = _of_channels(x)
    if not training:
        mean, var = (apply("reshape", tensor(v, x.builder), shape=shape) for v in (running_mean, running_var))
        y = elementwise("divide", elementwise("subtract", x, mean), apply("sqrt", var + float(eps)))
        return _scaled(y, weight, bias, shape)
    _check_statistics("batch_norm", running_mean, running_var)
    axes = tuple([k for k in range(x.ndim) if k != 1])
    if size_of(tuple([x.shape[k] for k in axes])) == 1:
        raise GraphError("shape-mismatch", f"batch_norm: Expected more than 1 value per channel when training, got "
                                           f"input size {list(x.shape)}.")
    return _scaled(_standardized(x, axes, eps), weight, bias, shape)


def _check_statistics(name: str, running_mean: Any, running_var: Any) -> None:
    if running_mean is not None or running_var is not None:
        raise no_rule(f"torch.nn.functional.{name} that updates running statistics in place (call model.eval(), or "
                      "make the layer with track_running_stats=False)")


@torch_function()
def instance_norm(input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
                  use_input_stats: bool = True, momentum: float = 0.1, eps: float = EPSILON,
                  cudnn_enabled: bool = True) -> Node:
    """Each channel of each example standardized by itself, or by the running statistics."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    _check_statistics("instance_norm", running_mean, running_var)
    x = tensor(input, builder_of(input, weight, bias))
    return _scaled(_standardized(x, tuple(range(2, x.ndim)), eps), weight, bias, _of_channels(x))


@torch_function()
def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = EPSILON,
               cudnn_enabled: bool = True) -> Node:
    """Each group of channels of each example standardized by itself."""
    x = tensor(input, builder_of(input, weight, bias))
    if x.shape[1] % num_groups:
        raise GraphError("shape-mismatch", f"group_norm: Expected number of channels in input to be divisible by "
                                           f"num_groups, but got input of shape {list(x.shape)} and num_groups="
                                           f"{num_groups}.")
    grouped = apply("reshape", x, shape=(x.shape[0], num_groups, -1))
    y = apply("reshape", _standardized(grouped, (2,), eps), shape=x.shape)
    return _scaled(y, weight, bias, _of_channels(x))


@torch_function()
def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Node:
    """x / (k + alpha times the mean of x² over `size` neighboring channels)^beta."""
    x = tensor(input)
    channels = x.shape[1]
    reach = np.arange(channels)[:, None] - np.arange(channels)[None, :]  # neighbors: i - size//2 <= j <= i + (size-1)/2
    near = (reach <= size // 2) & (-reach <= (size - 1) // 2)
    band = x.builder.constant(near / size, x.dtype)
    power = apply("matmul", apply("square", moveaxis(x, 1, -1)), apply("permute_dims", band))
    return x / apply("power", moveaxis(power, -1, 1) * float(alpha) + float(k), float(beta))


# ---- attention -------------------------------------------------------------------------------------------------------
@torch_function()
def scaled_dot_product_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
                                 is_causal: bool = False, *, scale: float | None = None,
                                 enable_gqa: bool = False) -> Node:
    """softmax(scale Q K' + mask) V."""
    q, k, v = tensors(query, key, value)
    if enable_gqa:
        k, v = (_repeated(n, q.shape[-3] // n.shape[-3]) for n in (k, v))
    if dropout_p:
        dropout(q, dropout_p, True)
    weights = _attention_weights(q, k, attn_mask, is_causal, scale)
    return apply("matmul", weights, v)


def _repeated(x: Node, times: int) -> Node:
    wide = apply("broadcast_to", apply("expand_dims", x, axis=-3), shape=(*x.shape[:-2], times, *x.shape[-2:]))
    return apply("reshape", wide, shape=(*x.shape[:-3], x.shape[-3] * times, *x.shape[-2:]))


def _attention_weights(q: Node, k: Node, mask: Any, is_causal: bool, scale: float | None) -> Node:
    factor = 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    scores = apply("matmul", q * factor, apply("permute_dims", k, axes=[*range(k.ndim - 2), k.ndim - 1, k.ndim - 2]))
    if is_causal:
        if mask is not None:
            raise GraphError("bad-attribute", "scaled_dot_product_attention: Explicit attn_mask should not be set when "
                                              "is_causal=True.")
        mask = np.tri(q.shape[-2], k.shape[-2], dtype=bool)
    return apply("softmax", scores if mask is None else _masked(scores, mask), axis=-1)


def _masked(scores: Node, mask: Any) -> Node:
    """scores where a boolean mask is true, else -inf; a floating mask is added."""
    m = tensor(mask, scores.builder)
    if m.dtype != BOOL:
        return elementwise("add", scores, convert(m, scores.dtype))
    return where(m, scores, -math.inf)


def _heads(x: Node, heads: int) -> Node:
    """(L, N, E) -> (N, heads, L, E / heads)."""
    length, batch, width = x.shape
    return apply("permute_dims", apply("reshape", x, shape=(length, batch, heads, width // heads)), axes=(1, 2, 0, 3))


def _projections(inputs: list[Node], packed: Any, apart: tuple[Any, Any, Any], bias: Any) -> list[Node]:
    builder = inputs[0].builder
    weights = list(apart) if packed is None else split(tensor(packed, builder), 3, 0)
    biases = [None] * 3 if bias is None else split(tensor(bias, builder), 3, 0)
    return [linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]


def _additive(mask: Any, builder: Builder, x: Node) -> Node:
    """A mask of multi-head attention, true where it hides, as numbers to add."""
    m = tensor(mask, builder)
    return where(m, -math.inf, apply("broadcast_to", builder.constant(0.0, x.dtype), shape=m.shape)) \
        if m.dtype == BOOL else convert(m, x.dtype)


@torch_function()
def multi_head_attention_forward(
    query: Any, key: Any, value: Any, embed_dim_to_check: int, num_heads: int, in_proj_weight: Any, in_proj_bias: Any,
    bias_k: Any, bias_v: Any, add_zero_attn: bool, dropout_p: float, out_proj_weight: Any, out_proj_bias: Any,
    training: bool = True, key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None,
    v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None, average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Node, Node | None]:
    """Attention of several heads side by side: nn.MultiheadAttention, in its order (L, N, E) of axes."""
    if any([v is not None for v in (bias_k, bias_v, static_k, static_v)]) or add_zero_attn:
        raise no_rule("torch.nn.MultiheadAttention with bias_k, bias_v, static_k, static_v or add_zero_attn")
    if training and dropout_p:
        dropout(query, dropout_p, True)
    inputs = tensors(query, key, value)
    is_batched = inputs[0].ndim == 3
    if not is_batched:
        inputs = [apply("expand_dims", x, axis=1) for x in inputs]
        key_padding_mask = None if key_padding_mask is None else array_of(key_padding_mask)[None]
    apart = (q_proj_weight, k_proj_weight, v_proj_weight)
    q, k, v = [_heads(x, num_heads) for x in _projections(inputs, in_proj_weight, apart, in_proj_bias)]
    mask = _joined_mask(q, k, attn_mask, key_padding_mask, num_heads)
    weights = _attention_weights(q, k, mask, False, None)
    y = apply("permute_dims", apply("matmul", weights, v), axes=(2, 0, 1, 3))
    y = linear(apply("reshape", y, shape=(*inputs[0].shape[:2], embed_dim_to_check)), out_proj_weight, out_proj_bias)
    shown = apply("mean", weights, axis=1) if average_attn_weights else weights
    if not is_batched:
        y, shown = apply("squeeze", y, axis=1), apply("squeeze", shown, axis=0)
    return y, shown if need_weights else None


def _joined_mask(q: Node, k: Node, attn_mask: Any, padding: Any, heads: int) -> Node | None:
    builder, total = q.builder, None
    if attn_mask is not None:
        total = _additive(attn_mask, builder, q)
        if total.ndim == 3:
            total = apply("reshape", total, shape=(q.shape[0], heads, q.shape[2], k.shape[2]))
    if padding is not None:
        hidden = _additive(padding, builder, q)
        hidden = apply("reshape", hidden, shape=(q.shape[0], 1, 1, k.shape[2]))
        total = hidden if total is None else elementwise("add", total, hidden)
    return total

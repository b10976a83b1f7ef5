"""torch.nn.functional: activations, normalizations, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.cases import Case, normal, positive
from hesse_engine.ir.ops import ROWS
from oracles import Array

AROUND = np.array([-3.0, -2.5, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 25.0, -25.0])
SMOOTH = normal(2, 3)
X, IMAGES = normal(3, 4), normal(2, 4, 3, seed=3)


def activation(name: str, f: Callable[[Any, Any], Any], *, order: int = 2, reason: str = "",
               rtol: float = 1e-9) -> list[Case]:
    """At kinks, at both signs, and as a method of a matrix."""
    return [Case(f"{name}-kinks", f, (AROUND,), order=order, rtol=rtol, reason=reason),
            Case(f"{name}-matrix", f, (SMOOTH,), order=order, rtol=rtol, reason=reason)]




def nn(t: Any) -> Any:
    return t.nn.functional


ACTIVATIONS: list[Case] = [
    *activation("relu", lambda t, x: nn(t).relu(x)),
    *activation("relu-method", lambda t, x: x.relu()),
    *activation("relu6", lambda t, x: nn(t).relu6(x)),
    *activation("leaky_relu", lambda t, x: nn(t).leaky_relu(x)),
    *activation("leaky_relu-slope", lambda t, x: nn(t).leaky_relu(x, 0.2)),
    *activation("elu", lambda t, x: nn(t).elu(x)),
    *activation("elu-alpha", lambda t, x: nn(t).elu(x, alpha=1.5)),
    *activation("selu", lambda t, x: nn(t).selu(x)),
    *activation("celu", lambda t, x: nn(t).celu(x, alpha=2.0)),
    *([*activation("gelu", lambda t, x: nn(t).gelu(x))] if "erfc" in ROWS else []),
    *activation("gelu-tanh", lambda t, x: nn(t).gelu(x, approximate="tanh")),
    *activation("silu", lambda t, x: nn(t).silu(x)),
    *activation("mish", lambda t, x: nn(t).mish(x)),
    *activation("hardtanh", lambda t, x: nn(t).hardtanh(x)),
    *activation("hardtanh-bounds", lambda t, x: nn(t).hardtanh(x, -0.5, 2.0)),
    *activation("hardswish", lambda t, x: nn(t).hardswish(x)),
    *activation("hardsigmoid", lambda t, x: nn(t).hardsigmoid(x), order=1,
                rtol=1e-8, reason="torch: no derivative for aten::hardsigmoid_backward, and its 1/6 is float32's"),
    *activation("hardshrink", lambda t, x: t.hardshrink(x)),
    *activation("softshrink", lambda t, x: nn(t).softshrink(x)),
    *activation("softshrink-lambd", lambda t, x: nn(t).softshrink(x, 1.0)),
    *activation("tanhshrink", lambda t, x: nn(t).tanhshrink(x)),
    *activation("threshold", lambda t, x: nn(t).threshold(x, 0.5, -2.0)),
    *activation("softsign", lambda t, x: nn(t).softsign(x)),
    *activation("softplus", lambda t, x: nn(t).softplus(x)),
    *activation("softplus-beta", lambda t, x: nn(t).softplus(x, beta=2.0, threshold=3.0)),
    *activation("logsigmoid", lambda t, x: nn(t).logsigmoid(x)),
    *activation("rrelu-eval", lambda t, x: nn(t).rrelu(x)),
    *activation("sigmoid", lambda t, x: t.sigmoid(x)),
    *activation("tanh", lambda t, x: t.tanh(x)),
    Case("prelu-one", lambda t, x, w: nn(t).prelu(x, w), (AROUND, np.array([0.3]))),
    Case("prelu-channels", lambda t, x, w: nn(t).prelu(x, w), (normal(2, 3, 2), np.array([0.3, -0.5, 2.0]))),
    Case("glu", lambda t, x: nn(t).glu(x, 1), (X,)),
    Case("dropout-eval", lambda t, x: nn(t).dropout(x, 0.5, training=False), (X,)),
]

ALONG: list[Case] = [
    Case("softmax", lambda t, x: t.softmax(x, -1), (X,)),
    Case("softmax-dtype", lambda t, x: nn(t).softmax(x, dim=0, dtype=t.float64), (X,)),
    Case("softmax-method", lambda t, x: x.softmax(1), (X,)),
    Case("softmax-far", lambda t, x: t.softmax(x, 0), (np.array([1000.0, 0.0, -1000.0, 999.5]),)),
    Case("log_softmax", lambda t, x: nn(t).log_softmax(x, dim=1), (X,)),
    Case("log_softmax-far", lambda t, x: t.log_softmax(x, 0), (np.array([1000.0, 0.0, -1000.0, 999.5]),)),
    Case("softmin", lambda t, x: nn(t).softmin(x, dim=1), (X,)),
    Case("softmax-integers", lambda t, x, k: x * t.softmax(k, 0, dtype=x.dtype), (normal(3), np.array([1, 2, 0]))),
    Case("logsumexp", lambda t, x: t.logsumexp(x, 1), (X,)),
    Case("logsumexp-dims", lambda t, x: t.logsumexp(x, (0, 1), keepdim=True), (X,)),
    Case("normalize", lambda t, x: nn(t).normalize(x), (X,)),
    Case("normalize-p1", lambda t, x: nn(t).normalize(x, p=1.0, dim=0), (X,)),
    Case("normalize-zero", lambda t, x: nn(t).normalize(x, dim=0), (np.zeros(3),),
         differs={"hessian": "torch's reverse over reverse is NaN; ours is the forward-over-reverse 0"}),
]

W3 = normal(3, seed=9)
LAYERS: list[Case] = [
    Case("linear", lambda t, x, w, b: nn(t).linear(x, w, b), (X, normal(2, 4, seed=1), normal(2, seed=2))),
    Case("linear-vector", lambda t, x, w: nn(t).linear(x, w), (normal(4), normal(4, seed=1))),
    Case("bilinear", lambda t, x, y, w, b: nn(t).bilinear(x, y, w, b),
         (X, normal(3, 2, seed=1), normal(5, 4, 2, seed=2), normal(5, seed=3))),
    Case("layer_norm", lambda t, x, w, b: nn(t).layer_norm(x, (4,), w, b), (X, normal(4, seed=1), normal(4, seed=2))),
    Case("layer_norm-two", lambda t, x: nn(t).layer_norm(x, (4, 3), eps=1e-3), (IMAGES,)),
    Case("rms_norm", lambda t, x, w: nn(t).rms_norm(x, (4,), w), (X, normal(4, seed=1))),
    Case("rms_norm-eps", lambda t, x: nn(t).rms_norm(x, (4, 3), eps=1e-2), (IMAGES,)),
    Case("batch_norm-training", lambda t, x, w, b: nn(t).batch_norm(x, None, None, w, b, training=True),
         (IMAGES, normal(4, seed=1), normal(4, seed=2))),
    Case("batch_norm-eval", lambda t, x, m, v, w: nn(t).batch_norm(x, m.detach(), v.detach(), w),
         (X, normal(4, seed=1), positive(4), normal(4, seed=2))),
    Case("group_norm", lambda t, x, w, b: nn(t).group_norm(x, 2, w, b), (IMAGES, normal(4, seed=1), normal(4, seed=2))),
    Case("instance_norm", lambda t, x, w, b: nn(t).instance_norm(x, weight=w, bias=b),
         (IMAGES, normal(4, seed=1), normal(4, seed=2))),
    Case("local_response_norm", lambda t, x: nn(t).local_response_norm(x, 2, alpha=0.5), (IMAGES,)),
    Case("local_response_norm-three", lambda t, x: nn(t).local_response_norm(x, 3, alpha=0.5), (IMAGES,)),
    Case("embedding", lambda t, w, k: nn(t).embedding(k, w), (X, np.array([[0, 2], [2, 1]]))),
    Case("embedding-padding", lambda t, w, k: nn(t).embedding(k, w, padding_idx=-1), (X, np.array([[0, 2], [2, 1]]))),
    Case("one_hot", lambda t, x, k: (nn(t).one_hot(k, 4).to(x.dtype) * x).sum(-1), (normal(4), np.array([0, 3, 1]))),
]


def heads(seed: int) -> Array:
    return normal(2, 3, 4, seed=seed)


MASK = np.array([[True, False, True], [True, True, False], [True, True, True]])
ATTENTION: list[Case] = [
    Case("scaled_dot_product_attention", lambda t, q, k, v: nn(t).scaled_dot_product_attention(q, k, v),
         (heads(0), heads(1), heads(2))),
    Case("scaled_dot_product_attention-causal",
         lambda t, q, k, v: nn(t).scaled_dot_product_attention(q, k, v, is_causal=True),
         (heads(0), heads(1), heads(2))),
    Case("scaled_dot_product_attention-mask",
         lambda t, q, k, v, m: nn(t).scaled_dot_product_attention(q, k, v, attn_mask=m, scale=0.3),
         (heads(0), heads(1), heads(2), MASK)),
    Case("scaled_dot_product_attention-bias",
         lambda t, q, k, v, m: nn(t).scaled_dot_product_attention(q, k, v, attn_mask=m),
         (heads(0), heads(1), heads(2), normal(3, 3, seed=4))),
    Case("scaled_dot_product_attention-grouped",
         lambda t, q, k, v: nn(t).scaled_dot_product_attention(q, k, v, enable_gqa=True),
         (normal(1, 4, 3, 2), normal(1, 2, 3, 2, seed=1), normal(1, 2, 3, 2, seed=2)), order=1,
         reason="torch: derivative for aten::_scaled_dot_product_flash_attention_for_cpu_backward is not implemented"),
]

CASES: list[Case] = [*ACTIVATIONS, *ALONG, *LAYERS, *ATTENTION]

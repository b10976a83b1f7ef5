"""torch.nn.functional's activations, with torch's subgradients at kinks."""

from __future__ import annotations

import math
from typing import Any

from hesse_engine.errors import GraphError
from hesse_engine.frontends.manipulation import split
from hesse_engine.frontends.operands import dtype_like, elementwise, no_rule, tensor, tensors, where
from hesse_engine.frontends.products import vector_norm_of
from hesse_engine.frontends.table import torch_function
from hesse_engine.frontends.torch_functions import not_boolean, of_floats
from hesse_engine.frontends.torch_random import dropped_out
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops import ROWS
from hesse_engine.ir.shapes import axis_of, convert

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


# ---- piecewise linear ------------------------------------------------------------------------------------------------
def at_most(x: Node, bound: float) -> Node:
    return apply("less_equal", x, float(bound))


def zeros(x: Node) -> Node:
    return x.builder.zeros(x.shape, x.dtype)


@torch_function()
def relu(input: Any) -> Node:
    x = tensor(input)
    if not x.is_floating:
        return elementwise("maximum", not_boolean("relu", x), 0)
    return where(at_most(x, 0.0), zeros(x), x)


@torch_function()
def relu6(input: Any) -> Node:
    return hardtanh(input, 0.0, 6.0)


@torch_function()
def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Node:
    x = tensor(input)
    if min_val > max_val:
        raise GraphError("bad-attribute", f"hardtanh: min_val cannot be greater than max_val; got {min_val} and "
                                          f"{max_val}.")
    if not x.is_floating:
        return elementwise("clip", x, int(min_val), int(max_val))
    above = where(apply("greater_equal", x, float(max_val)), float(max_val), x)
    return where(at_most(x, min_val), float(min_val), above)


@torch_function()
def leaky_relu(input: Any, negative_slope: float = 0.01) -> Node:
    x = tensor(input)
    return where(at_most(x, 0.0), x * float(negative_slope), x)


@torch_function()
def rrelu(input: Any, lower: float = 1.0 / 8.0, upper: float = 1.0 / 3.0, training: bool = False) -> Node:
    """The mean slope (lower + upper)/2 below 0."""
    if training:
        raise no_rule("torch.nn.functional.rrelu in training, which draws random numbers,")
    return leaky_relu(input, (lower + upper) / 2.0)


@torch_function()
def prelu(input: Any, weight: Any) -> Node:
    x, w = tensors(input, weight)
    if w.ndim > 1:
        raise GraphError("shape-mismatch", f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = "
                                           f"{w.ndim}.")
    channels = 1 if x.ndim < 2 else x.shape[1]
    if w.size not in (1, channels):
        raise GraphError("shape-mismatch", f"prelu: Mismatch of parameter numbers and input channel size. Found "
                                           f"parameter numbers = {w.size} and channel size = {channels}.")
    w = apply("reshape", w, shape=[w.size if k == 1 else 1 for k in range(x.ndim)] if w.size > 1 else ())
    # at 0 torch's slope is w, and its mixed derivative 0
    slope = where(apply("equal", x, 0.0), apply("stop_gradient", w), w)
    return where(at_most(x, 0.0), elementwise("multiply", slope, x), x)


@torch_function()
def threshold(input: Any, threshold: float, value: float) -> Node:
    """x above the threshold, else the value."""
    x = tensor(input)
    return where(at_most(x, threshold), x.builder.full(x.shape, value, x.dtype), x)


@torch_function()
def hardsigmoid(input: Any) -> Node:
    """relu6(x + 3) / 6; the slope on both bounds is 0."""
    return relu6(tensor(input) + 3.0) / 6.0


@torch_function()
def hardswish(input: Any) -> Node:
    """x relu6(x + 3) / 6: 0 up to -3, x from 3 on, x (x + 3) / 6 between."""
    x = tensor(input)
    middle = where(apply("greater_equal", x, 3.0), x, x * ((x + 3.0) / 6.0))
    return where(at_most(x, -3.0), zeros(x), middle)


@torch_function()
def hardshrink(input: Any, lambd: float = 0.5) -> Node:
    x = tensor(input)
    inside = apply("logical_and", apply("greater_equal", x, -float(lambd)), at_most(x, lambd))
    return where(inside, zeros(x), x)


@torch_function()
def softshrink(input: Any, lambd: float = 0.5) -> Node:
    """The sign of x times max(|x| - lambd, 0)."""
    if lambd < 0:
        raise GraphError("bad-attribute", f"softshrink: lambda must be greater or equal to 0, but found to be {lambd}.")
    x = tensor(input)
    inside = apply("logical_and", apply("greater_equal", x, -float(lambd)), at_most(x, lambd))
    outside = where(apply("less", x, 0.0), x + float(lambd), x - float(lambd))
    return where(inside, zeros(x), outside)


@torch_function()
def tanhshrink(input: Any) -> Node:
    x = tensor(input)
    return x - apply("tanh", x)


@torch_function()
def softsign(input: Any) -> Node:
    x = tensor(input)
    return x / (1.0 + apply("abs", x))


# ---- exponential -----------------------------------------------------------------------------------------------------
@torch_function()
def elu(input: Any, alpha: float = 1.0) -> Node:
    """alpha (exp(x) - 1) below 0, x above; at 0 the slope is alpha and the curvature 0."""
    x = tensor(input)
    above = x if alpha == 1 else where(apply("greater", x, 0.0), x, x * float(alpha))
    return where(apply("less", x, 0.0), apply("expm1", x) * float(alpha), above)


@torch_function()
def celu(input: Any, alpha: float = 1.0) -> Node:
    if alpha == 0:
        raise GraphError("bad-attribute", "celu: ZeroDivisionError: alpha cannot be 0 for CELU.")
    x = tensor(input)
    return where(apply("less", x, 0.0), apply("expm1", x / float(alpha)) * float(alpha), x)


@torch_function()
def selu(input: Any) -> Node:
    return elu(input, SELU_ALPHA) * SELU_SCALE


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
    """x Phi(x), Phi the normal distribution; "tanh" is Hendrycks and Gimpel's approximation of it."""
    x = tensor(input)
    if approximate == "tanh":
        cubic = x + 0.044715 * apply("power", x, 3)
        return 0.5 * x * (1.0 + apply("tanh", math.sqrt(2.0 / math.pi) * cubic))
    if approximate != "none":
        raise GraphError("bad-attribute", "gelu: approximate argument must be either none or tanh.")
    if "erfc" not in ROWS:
        raise no_rule("torch.nn.functional.gelu (approximate='tanh' has one)")
    return 0.5 * x * apply("erfc", x * -math.sqrt(0.5))  # 1 + erf has no digits left below x = -8


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
def glu(input: Any, dim: int = -1) -> Node:
    """a sigmoid(b) of the two halves of x."""
    x = tensor(input)
    k = axis_of("glu", dim, x.ndim)
    if x.shape[k] % 2:
        raise GraphError("shape-mismatch", f"glu: Halving dimension must be even, but dimension {k} is size "
                                           f"{x.shape[k]}.")
    a, b = split(x, 2, k)
    return a * apply("sigmoid", b)


# ---- along an axis ---------------------------------------------------------------------------------------------------
@torch_function()
def softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Node:
    x = _in_dtype(input, dtype)
    return apply("softmax", x, axis=implicit_axis(x, dim))


@torch_function()
def log_softmax(input: Any, dim: int | None = None, dtype: Any = None) -> Node:
    x = _in_dtype(input, dtype)
    return apply("log_softmax", x, axis=implicit_axis(x, dim))


@torch_function()
def softmin(input: Any, dim: int | None = None, dtype: Any = None) -> Node:
    return softmax(-tensor(input), dim, dtype)


def _in_dtype(input: Any, dtype: Any) -> Node:
    return of_floats("softmax", tensor(input)) if dtype is None else convert(tensor(input), dtype_like(dtype))


def implicit_axis(x: Node, dim: int | None) -> int:
    # torch's own choice where none is named
    return dim if dim is not None else 0 if x.ndim in (0, 1, 3) else 1


@torch_function()
def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12) -> Node:
    """x over max(its norm, eps)."""

    x = tensor(input)
    size = vector_norm_of(x, p, dim, True)
    return x / elementwise("clip", size, float(eps), math.inf)


@torch_function()
def dropout(input: Any, p: float = 0.5, training: bool = True) -> Node:
    return dropped_out(input, p, training)


@torch_function("alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout")
def whole_dropout(input: Any, p: float = 0.5, training: bool = True) -> Node:
    """x; in training these draw whole channels, or shift what is left."""
    if not 0.0 <= p <= 1.0:
        raise GraphError("bad-attribute", f"dropout: dropout probability has to be between 0 and 1, but got {p}.")
    if training and p:
        raise no_rule("Dropout of channels, or one that keeps mean and variance, in training")
    return tensor(input)



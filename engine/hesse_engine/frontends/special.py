"""Special functions under SciPy's names and under torch's. Most are rows and need no line here.

`scipy.special`'s ufuncs reach the table by their names (`__array_ufunc__`); its other functions, which convert their
arguments to arrays, are offered by `hesse.special`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError, GraphError
from hesse_engine.frontends.operands import builder_of, elementwise, floating, lower, tensor, where
from hesse_engine.frontends.table import NUMPY, NUMPY_ROWS, TORCH_ROWS, numpy_function, torch_function
from hesse_engine.ir.graph import Node, apply, scalar_value

NUMPY_ROWS.update({
    "gammaln": "lgamma", "psi": "digamma", "expit": "sigmoid",
})
TORCH_ROWS.update({
    "gammaln": "lgamma", "psi": "digamma", "igamma": "gammainc", "igammac": "gammaincc",
})
_EXPREL_TERMS = 16  # of its series for |x| < 1/2: the next is below 1e-19


def _order(name: str, n: Any) -> int:
    """A constant integer, as SciPy takes it from arrays and floats too."""
    if isinstance(n, Node):
        value = scalar_value(n)
        if value is None:
            raise ArgumentTypeError("bad-type", f"{name}: n must be a constant integer, not a traced value.")
        n = value
    if np.ndim(n) != 0 or float(n) != int(n):
        raise GraphError("bad-attribute", f"{name}: n must be one integer.")
    return int(n)


# ---- gamma -----------------------------------------------------------------------------------------------------------
@numpy_function()
def polygamma(n: Any, x: Any) -> Node:
    order = _order("polygamma", n)
    return elementwise("digamma", x) if order == 0 else apply("polygamma", floating(tensor(x)), n=order)


@torch_function("polygamma")
def torch_polygamma(n: Any, input: Any) -> Node:
    return polygamma(n, input)


@torch_function("Tensor.polygamma")
def tensor_polygamma(input: Any, n: Any) -> Node:
    return polygamma(n, input)


@numpy_function()
def loggamma(z: Any) -> Node:
    """The principal branch: NaN below 0, where it is not real."""
    return where(elementwise("less", z, 0.0), math.nan, elementwise("lgamma", z))


@numpy_function()
def multigammaln(a: Any, d: Any) -> Node:
    return _multivariate(a, _order("multigammaln", d))


@torch_function("mvlgamma", "multigammaln")
def mvlgamma(input: Any, p: Any) -> Node:
    return _multivariate(input, _order("mvlgamma", p))


def _multivariate(a: Any, p: int) -> Node:
    # p (p - 1) / 4 ln pi + sum_j lgamma(a - j / 2)
    if p < 1:
        raise GraphError("bad-attribute", f"multigammaln: the dimension must be at least 1, not {p}.")
    x = floating(tensor(a))
    total = elementwise("lgamma", x)
    for j in range(1, p):
        total = total + elementwise("lgamma", x - 0.5 * j)
    return total + 0.25 * p * (p - 1) * math.log(math.pi) if p > 1 else total


@numpy_function("zeta", "_zeta", "_riemann_zeta")
def zeta(x: Any, q: Any = None) -> Node:
    return elementwise("zeta", x, 1.0 if q is None else q)


# ---- entropies and losses --------------------------------------------------------------------------------------------
@numpy_function()
def kl_div(x: Any, y: Any) -> Node:
    return elementwise("add", elementwise("subtract", elementwise("rel_entr", x, y), x), y)


@numpy_function()
def huber(delta: Any, r: Any) -> Node:
    builder = builder_of(delta, r)
    d, x = lower(delta, builder), floating(tensor(r, builder))
    size = elementwise("abs", x)
    value = where(elementwise("less_equal", size, d), 0.5 * elementwise("square", x), d * size - 0.5 * d * d)
    return where(size * 0.0 > d, math.inf, value)


@numpy_function()
def pseudo_huber(delta: Any, r: Any) -> Node:
    # delta^2 (sqrt(1 + (r / delta)^2) - 1)
    builder = builder_of(delta, r)
    d, x = lower(delta, builder), floating(tensor(r, builder))
    divisor = where(elementwise("equal", d, 0.0), 1.0, d) if isinstance(d, Node) else float(d) or 1.0
    grown = elementwise("expm1", 0.5 * elementwise("log1p", elementwise("square", x / divisor)))
    return where(x * 0.0 > d, math.inf, (d * d) * grown)


@numpy_function()
def log_expit(x: Any) -> Node:
    return -elementwise("softplus", -floating(tensor(x)))


@torch_function()
def logit(input: Any, eps: Any = None) -> Node:
    x = floating(tensor(input))
    return elementwise("logit", x if eps is None else apply("clip", x, float(eps), 1.0 - float(eps)))


@torch_function("is_all_true")
def is_all_true(input: Any) -> Node:
    """What torch.distributions asks about its arguments."""
    return NUMPY["all"](input)  # type: ignore[no-any-return]


# ---- powers ----------------------------------------------------------------------------------------------------------
@numpy_function()
def exprel(x: Any) -> Node:
    """(exp(x) - 1) / x, 1 at 0."""
    x = floating(tensor(x))
    is_small = elementwise("less", elementwise("abs", x), 0.5)
    z = where(is_small, x, 0.0)
    series = z * (1.0 / math.factorial(_EXPREL_TERMS))
    for k in range(_EXPREL_TERMS - 1, 1, -1):
        series = (series + 1.0 / math.factorial(k)) * z
    far = where(is_small, 1.0, x)
    return where(is_small, series + 1.0, elementwise("expm1", far) / far)


def _power_of(x: Any, lmbda: Any, logarithm: Node) -> Node:
    """(exp(lmbda l) - 1) / lmbda, l at lmbda = 0."""
    if not isinstance(lmbda, Node) and np.ndim(lmbda) == 0:
        power = float(lmbda)
        return logarithm if power == 0 else elementwise("expm1", power * logarithm) / power
    return elementwise("multiply", logarithm, exprel(elementwise("multiply", lmbda, logarithm)))


@numpy_function()
def boxcox(x: Any, lmbda: Any) -> Node:
    return _power_of(x, lmbda, elementwise("log", tensor(x, builder_of(x, lmbda))))


@numpy_function()
def boxcox1p(x: Any, lmbda: Any) -> Node:
    return _power_of(x, lmbda, elementwise("log1p", tensor(x, builder_of(x, lmbda))))


def _root_of(name: str, y: Any, lmbda: Any) -> Node:
    """ln(1 + lmbda y) / lmbda, y at lmbda = 0."""
    if isinstance(lmbda, Node) or np.ndim(lmbda) != 0:
        raise ArgumentTypeError("bad-type", f"{name}: lmbda must be a number, not an array or a traced value.")
    power, y = float(lmbda), floating(tensor(y))
    return y if power == 0 else elementwise("log1p", power * y) / power


@numpy_function()
def inv_boxcox(y: Any, lmbda: Any) -> Node:
    return elementwise("exp", _root_of("inv_boxcox", y, lmbda))


@numpy_function()
def inv_boxcox1p(y: Any, lmbda: Any) -> Node:
    return elementwise("expm1", _root_of("inv_boxcox1p", y, lmbda))


# ---- over axes -------------------------------------------------------------------------------------------------------
@numpy_function("logsumexp")
def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Node:
    if return_sign:
        raise ArgumentTypeError("bad-type", "logsumexp: return_sign is not offered for traced values.")
    x = floating(tensor(a, builder_of(a, b)))
    if b is not None:  # b exp(a) = exp(a + ln b): NaN where b < 0, as SciPy's without return_sign where the sum is
        x = elementwise("add", x, elementwise("log", tensor(b, x.builder)))
    return apply("logsumexp", x, axis=axis, keepdims=keepdims)


@numpy_function("softmax")
def softmax(x: Any, axis: Any = None) -> Node:
    return apply("softmax", tensor(x), axis=axis)


@numpy_function("log_softmax")
def log_softmax(x: Any, axis: Any = None) -> Node:
    return apply("log_softmax", tensor(x), axis=axis)

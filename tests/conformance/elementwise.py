"""Elementwise functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.cases import Case, normal, positive

X, Y = normal(2, 3, scale=2.0), normal(3, seed=1, scale=2.0)
INSIDE, ABOVE = np.tanh(normal(2, 3)).astype(np.float32).astype(np.float64), positive(2, 3, low=1.2, high=4.0)
P, Q = positive(2, 3), positive(3, seed=1)
M, N = np.array([[7, -7, 3], [0, -5, 9]]), np.array([2, 3, -4])
KINKS = np.array([-2.0, -1.0, 0.0, 1.0, 2.5])


def unary(name: str, x: Any = X) -> Case:
    return Case(name, lambda t, x: getattr(t, name)(x), (x,))


def binary(name: str, x: Any = X, y: Any = Y) -> Case:
    return Case(name, lambda t, x, y: getattr(t, name)(x, y), (x, y))


def method(name: str, f: Callable[..., Any], *inputs: Any) -> Case:
    return Case(name, lambda t, *x: f(*x), inputs)


CASES: list[Case] = [
    *[unary(n) for n in ("exp", "exp2", "expm1", "sin", "cos", "tan", "atan", "arctan", "sinh", "cosh", "tanh", "asinh",
                         "arcsinh", "sigmoid", "floor", "ceil", "round", "trunc", "fix", "frac", "sign", "sgn", "abs",
                         "absolute", "neg", "square", "reciprocal", "deg2rad", "rad2deg", "sinc", "nan_to_num")],
    *[Case(n, lambda t, x, n=n: getattr(t, n)(1 / x), (KINKS,), order=0, reason="booleans")
      for n in ("isnan", "isinf", "isfinite", "signbit")],
    *[unary(n, P) for n in ("log", "log2", "log10", "log1p", "sqrt", "rsqrt")],
    *[unary(n, INSIDE) for n in ("asin", "arcsin", "acos", "arccos", "atanh", "arctanh")],
    *[unary(n, ABOVE) for n in ("acosh", "arccosh")],
    *[binary(n) for n in ("add", "sub", "mul", "div", "true_divide", "maximum", "minimum", "fmax", "fmin", "hypot",
                          "atan2", "arctan2", "remainder", "fmod", "logaddexp", "logaddexp2")],
    Case("copysign", lambda t, x, y: t.copysign(x, y), (X, Y),
         differs={"hessian": "torch's derivative is a quotient that is 1 ulp off and leaves 1e-16 where ours is 0"}),
    binary("xlogy", X, Q),
    Case("special.xlog1py", lambda t, x, y: t.special.xlog1py(x, y), (X, Q)),
    binary("pow", P, Y),
    Case("float_power", lambda t, x: t.float_power(x, 2.5), (P,), dtypes=("float64",),
         reason="float_power of float32 is float64, which the check of Jacobian dtypes does not know"),
    Case("floor_divide", lambda t, x, y: t.floor_divide(x, y), (X, Y), order=0, reason="torch has no derivative of it"),
    Case("div floor", lambda t, x, y: t.div(x, y, rounding_mode="floor") + x, (X, Y)),
    Case("div trunc", lambda t, x, y: t.div(x, y, rounding_mode="trunc") + x, (X, Y)),
    Case("nextafter", lambda t, x, y: t.nextafter(x, y), (X, Y), order=0, reason="torch has no derivative of it"),
    Case("heaviside", lambda t, x, y: t.heaviside(x, y), (KINKS, KINKS), order=0, reason="torch has no derivative"),
    Case("round decimals", lambda t, x: t.round(x, decimals=2) + x, (X,)),
    Case("round tens", lambda t, x: t.round(100 * x, decimals=-1) + x, (X,)),
    Case("ldexp", lambda t, x: t.ldexp(x, t.tensor([1, 2, 3])), (X,)),
    Case("nan_to_num values", lambda t, x: t.nan_to_num(t.where(x > 0, x, float("inf")), 1.0, 2.0, -2.0) * x, (X,)),
    Case("addcmul", lambda t, x, y, z: t.addcmul(x, y, z, value=0.5), (X, Y, P)),
    Case("addcdiv", lambda t, x, y, z: t.addcdiv(x, y, z, value=-2.0), (X, Y, P)),
    Case("lerp", lambda t, x, y, w: t.lerp(x, y, w), (X, normal(2, 3, seed=4), positive(2, 3, high=0.9))),
    Case("lerp scalar", lambda t, x, y: t.lerp(x, y, 0.25), (X, normal(2, 3, seed=4))),
    Case("clamp", lambda t, x: t.clamp(x, -1, 1) ** 2, (KINKS,)),
    Case("clamp tensors", lambda t, x, a, b: t.clamp(x, a, b) * x, (X, -P, P)),
    Case("clamp min", lambda t, x: t.clamp(x, min=0.0), (KINKS,)),
    Case("where", lambda t, x, y: t.where(x > 0, x * y, y), (X, Y)),
    Case("masked log", lambda t, x: t.where(x > 0.1, t.log(t.where(x > 0.1, x, 1.0)), 0.0), (X,)),
    Case("abs at 0", lambda t, x: t.abs(x) * x, (KINKS,)),
    Case("pow integers", lambda t, x: x**3 + x**2 + x**1.0, (KINKS,)),
    Case("integer //", lambda t, x, i, j: x * (i // j), (X, M, N)),
    Case("integer %", lambda t, x, i, j: x * (i % j), (X, M, N)),
    Case("integer fmod", lambda t, x, i, j: x * t.fmod(i, j), (X, M, N)),
    Case("integer div trunc", lambda t, i, j: t.div(i, j, rounding_mode="trunc"), (M, N), order=0, reason="integers"),
    Case("integer floor", lambda t, i: t.floor(i), (M,), order=0, reason="integers"),
    Case("integer exp2", lambda t, i: t.exp2(i), (N,), order=0, reason="integers"),
    method("operators", lambda x, y: x % y + x.detach() // y.detach() * x, X, Y),
    method("% of a scalar", lambda x: x % 0.7 + (2 * x) % -1.5, X),
    method("methods", lambda x, y: x.hypot(y) + x.atan2(y) + x.sinh().asinh() + x.fmod(y).trunc() + x.frac(), X, Y),
]

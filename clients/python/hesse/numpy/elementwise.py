"""Functions that work element by element, over operands broadcast together."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from hesse.eager import Array, binary, call, is_traced, unary

# ---- of one array ----------------------------------------------------------------------------------------------------
abs = unary("abs", "The magnitude |x|.")
acos = unary("acos", "The inverse of the cosine.")
acosh = unary("acosh", "The inverse of the hyperbolic cosine.")
asin = unary("asin", "The inverse of the sine.")
asinh = unary("asinh", "The inverse of the hyperbolic sine.")
atan = unary("atan", "The inverse of the tangent.")
atanh = unary("atanh", "The inverse of the hyperbolic tangent.")
bitwise_invert = unary("bitwise_invert", "Every bit turned over; of booleans, their negation.")
ceil = unary("ceil", "The smallest integer that is not less than x.")
conj = unary("conj", "The complex conjugate.")
cos = unary("cos", "Cosine of x radians.")
cosh = unary("cosh", "Hyperbolic cosine.")
exp = unary("exp", "Exponential.")
expm1 = unary("expm1", "exp(x) - 1, accurate near 0.")
floor = unary("floor", "The largest integer that is not greater than x.")
imag = unary("imag", "The imaginary part.")
isfinite = unary("isfinite", "Whether x is neither NaN nor infinite.")
isinf = unary("isinf", "Whether x is an infinity.")
isnan = unary("isnan", "Whether x is NaN.")
log = unary("log", "Natural logarithm.")
log10 = unary("log10", "Logarithm to base 10.")
log1p = unary("log1p", "ln(1 + x), accurate near 0.")
log2 = unary("log2", "Logarithm to base 2.")
logical_not = unary("logical_not", "True where x is false.")
negative = unary("negative", "-x.")
positive = unary("positive", "+x.")
real = unary("real", "The real part.")
reciprocal = unary("reciprocal", "1 / x.")
round = unary("round", "The nearest integer; halves go to the even one.")
sigmoid = unary("sigmoid", "1 / (1 + exp(-x)); no function of the standard.")
sign = unary("sign", "-1, 0 or 1; NaN of NaN.")
signbit = unary("signbit", "Whether the sign bit is set: of -0.0 it is.")
sin = unary("sin", "Sine of x radians.")
sinh = unary("sinh", "Hyperbolic sine.")
softplus = unary("softplus", "ln(1 + exp(x)); no function of the standard.")
sqrt = unary("sqrt", "Square root.")
square = unary("square", "x².")
tan = unary("tan", "Tangent of x radians.")
tanh = unary("tanh", "Hyperbolic tangent.")
trunc = unary("trunc", "The nearest integer that is not further from 0 than x.")

# ---- of two arrays ---------------------------------------------------------------------------------------------------
add = binary("add", "x1 + x2.")
atan2 = binary("atan2", "The angle of the point (x2, x1), in (-π, π].")
bitwise_and = binary("bitwise_and", "The bits set in both; of booleans, whether both are true.")
bitwise_left_shift = binary("bitwise_left_shift", "The bits of x1 moved x2 places up.")
bitwise_or = binary("bitwise_or", "The bits set in either; of booleans, whether either is true.")
bitwise_right_shift = binary("bitwise_right_shift", "The bits of x1 moved x2 places down; the sign stays.")
bitwise_xor = binary("bitwise_xor", "The bits set in just one; of booleans, whether just one is true.")
copysign = binary("copysign", "The magnitude of x1 with the sign of x2.")
divide = binary("divide", "x1 / x2.")
equal = binary("equal", "x1 == x2.")
greater = binary("greater", "x1 > x2.")
greater_equal = binary("greater_equal", "x1 >= x2.")
hypot = binary("hypot", "sqrt(x1² + x2²), without overflow in between.")
less = binary("less", "x1 < x2.")
less_equal = binary("less_equal", "x1 <= x2.")
logaddexp = binary("logaddexp", "ln(exp(x1) + exp(x2)), without overflow in between.")
logical_and = binary("logical_and", "Whether both are true.")
logical_or = binary("logical_or", "Whether either is true.")
logical_xor = binary("logical_xor", "Whether just one is true.")
maximum = binary("maximum", "The larger of the two, NaN if either is.")
minimum = binary("minimum", "The smaller of the two, NaN if either is.")
multiply = binary("multiply", "x1 * x2.")
nextafter = binary("nextafter", "The number next to x1 in the direction of x2.")
not_equal = binary("not_equal", "x1 != x2.")
pow = binary("pow", "x1 to the power x2.")
remainder = binary("remainder", "x1 - x2 floor(x1 / x2): it has the sign of x2.")
subtract = binary("subtract", "x1 - x2.")


def floor_divide(x1: Array, x2: Array, /) -> Array:
    """floor(x1 / x2); an infinite x1 stays infinite, as the standard has it, where NumPy and Python give NaN."""
    y = call("floor_divide", x1, x2)
    if is_traced(y) or y.dtype.kind != "f":
        return y
    infinite = np.isinf(x1) & np.isfinite(x2)
    if not infinite.any():
        return y
    with np.errstate(all="ignore"):
        return np.asarray(np.where(infinite, np.divide(x1, x2), y), y.dtype)


def clip(x: Array, /, min: Array | None = None, max: Array | None = None) -> Array:
    """min(max(x, low), high) in the dtype of x; a bound of None does not bind."""
    low, high = (_bound(x, b, is_low) for b, is_low in ((min, True), (max, False)))
    if is_traced(x, low, high):
        y = call("clip", x, low, high)
        dtype = x.dtype if hasattr(x, "dtype") else np.asarray(x).dtype
        return y if y.dtype == dtype else call("astype", y, dtype)
    y = np.asarray(x)
    if all(type(b) in (int, float, type(None)) or np.asarray(b).dtype == y.dtype for b in (low, high)):
        return np.asarray(np.clip(y, low, high))
    y = np.broadcast_to(y, np.broadcast_shapes(y.shape, np.shape(low), np.shape(high))).copy()
    for bound, beyond in ((low, np.less), (high, np.greater)):
        if bound is not None:
            spread = np.broadcast_to(np.asarray(bound), y.shape)
            passed = beyond(y, spread) | np.isnan(spread)
            y[passed] = spread[passed]
    return y


def _bound(x: Array, bound: Any, is_low: builtins.bool) -> Any:
    """`bound`, or None where it is a Python integer beyond all that the dtype of x holds."""
    dtype = getattr(x, "dtype", None)
    if type(bound) is not int or not isinstance(dtype, np.dtype) or dtype.kind not in "iu":
        return bound
    limits = np.iinfo(dtype)
    return None if (bound <= limits.min if is_low else bound >= limits.max) else bound


def where(condition: Array, x1: Array, x2: Array, /) -> Array:
    """x1 where the condition holds, else x2; what is not taken contributes nothing, not even NaN, to a derivative."""
    return call("where", condition, x1, x2)


power = pow

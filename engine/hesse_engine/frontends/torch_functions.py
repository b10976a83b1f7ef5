"""torch's functions and methods, with torch's signatures: arithmetic, reductions, shapes, products.

A method `x.f(...)` is the function `f(x, ...)`. Where a NumPy function does the work it is called; what differs (dim,
unbiased deviations, `max(dim)`, `transpose(0, 1)`, `split` by size, ...) is stated here.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from hesse_engine.errors import FunctionError
from hesse_engine.frontends import products, reductions
from hesse_engine.frontends.indexing import gather as gather_along
from hesse_engine.frontends.operands import (
    builder_of,
    dtype_like,
    elementwise,
    lower,
    no_rule,
    root,
    tensor,
    tensors,
)
from hesse_engine.frontends.operands import where as where_
from hesse_engine.frontends.table import torch_function
from hesse_engine.ir.graph import BOOL, INT64, Builder, Node, apply
from hesse_engine.ir.shapes import axis_of, convert

Dim = Any


def items_of(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """f(2, 3) and f((2, 3)) alike."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


def dims_of(dim: Dim) -> Any:
    # an empty tuple of dims means all, as None does
    return None if dim is None or (isinstance(dim, (tuple, list)) and not dim) else dim


def scaled(factor: Any, value: Any, builder: Builder) -> Any:
    return value if factor == 1 else elementwise("multiply", factor, tensor(value, builder))


# ---- arithmetic ------------------------------------------------------------------------------------------------------
@torch_function()
def add(input: Any, other: Any, *, alpha: Any = 1) -> Node:
    return elementwise("add", input, scaled(alpha, other, builder_of(input, other)))


@torch_function("sub", "subtract")
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Node:
    return elementwise("subtract", input, scaled(alpha, other, builder_of(input, other)))


@torch_function()
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Node:
    return elementwise("subtract", other, scaled(alpha, input, builder_of(input, other)))


@torch_function("rmul")
def rmul(input: Any, other: Any) -> Node:
    return elementwise("multiply", other, input)


@torch_function("radd")
def radd(input: Any, other: Any) -> Node:
    return elementwise("add", other, input)


@torch_function("rdiv", "rtruediv")
def rdiv(input: Any, other: Any) -> Node:
    return elementwise("divide", other, input)


@torch_function("rpow")
def rpow(input: Any, other: Any) -> Node:
    return elementwise("power", other, input)


@torch_function("rmatmul")
def rmatmul(input: Any, other: Any) -> Node:
    return products.matmul(other, input)


@torch_function()
def pow(input: Any, exponent: Any) -> Node:
    return elementwise("power", input, exponent)


@torch_function()
def float_power(input: Any, exponent: Any) -> Node:
    return reductions.float_power(input, exponent)


torch_function("deg2rad")(reductions.deg2rad)
torch_function("rad2deg")(reductions.rad2deg)
torch_function("isclose")(reductions.isclose)
torch_function("allclose")(reductions.allclose)
torch_function("heaviside")(reductions.heaviside)


@torch_function()
def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Node:
    x, a, b = tensors(input, tensor1, tensor2)
    return elementwise("add", x, elementwise("multiply", value, elementwise("multiply", a, b)))


@torch_function()
def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Node:
    x, a, b = tensors(input, tensor1, tensor2)
    return elementwise("add", x, elementwise("multiply", value, elementwise("divide", a, b)))


@torch_function()
def lerp(input: Any, end: Any, weight: Any) -> Node:
    x, y = tensors(*(tensor(v, builder_of(input, end, weight)) for v in (input, end)))
    return elementwise("add", x, elementwise("multiply", weight, elementwise("subtract", y, x)))


@torch_function("clamp", "clip")
def clamp(input: Any, min: Any = None, max: Any = None) -> Node:
    if min is None and max is None:
        raise FunctionError("not-single", "torch.clamp: At least one of 'min' or 'max' must not be None")
    return reductions.clip(input, min, max)


@torch_function()
def clamp_min(input: Any, min: Any) -> Node:
    return reductions.clip(input, min, None)


@torch_function()
def clamp_max(input: Any, max: Any) -> Node:
    return reductions.clip(input, None, max)


@torch_function()
def where(condition: Any, input: Any = None, other: Any = None) -> Node:
    if input is None or other is None:
        raise no_rule("torch.where with one argument, whose result has a shape that depends on values,")
    return where_(condition, input, other)


@torch_function("Tensor.where")
def where_method(input: Any, condition: Any, other: Any) -> Node:
    return where_(condition, input, other)


@torch_function()
def masked_fill(input: Any, mask: Any, value: Any) -> Node:
    x = tensor(input, builder_of(input, mask, value))
    filled = tensor(lower(value, x.builder), x.builder)
    return where_(mask, convert(filled, x.dtype), x)


@torch_function()
def detach(input: Any) -> Node:
    return apply("stop_gradient", tensor(input))


@torch_function("clone", "contiguous", "positive", "conj", "real", "resolve_conj", "resolve_neg", "cpu",
                "requires_grad_")
def clone(input: Any, *args: Any, **kwargs: Any) -> Node:
    return tensor(input)


# ---- reductions ------------------------------------------------------------------------------------------------------
def _accumulated(input: Any, dtype: Any) -> Node:
    """The operand of a sum or product: in the dtype asked for, integers and booleans in int64."""
    x = tensor(input)
    return convert(x, dtype_like(dtype)) if dtype is not None else x if x.is_floating else convert(x, INT64)


def of_floats(name: str, x: Node) -> Node:
    """x, which must be floating, as torch has it."""
    if not x.is_floating:
        raise FunctionError("not-floating", f"{name}: Input dtype must be either a floating point or complex dtype. "
                                            f"Got: {x.dtype}")
    return x


def not_boolean(name: str, x: Node) -> Node:
    if x.dtype == BOOL:
        raise FunctionError("not-floating", f'"{name}" not implemented for \'Bool\'')
    return x


@torch_function("sum")
def sum_(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Node:
    return reductions.sum_(_accumulated(input, dtype), dims_of(dim), keepdims=keepdim)


@torch_function()
def nansum(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Node:
    return reductions.nansum(input, dims_of(dim), dtype, keepdims=keepdim)


@torch_function()
def mean(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Node:
    x = tensor(input) if dtype is None else convert(tensor(input), dtype_like(dtype))
    return reductions.mean(of_floats("mean(): could not infer output dtype", x), dims_of(dim), keepdims=keepdim)


@torch_function()
def prod(input: Any, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Node:
    return reductions.prod(_accumulated(input, dtype), dim, keepdims=keepdim)


def _spread(input: Any, dim: Dim, unbiased: bool | None, keepdim: bool, correction: float | None) -> Node:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    free = correction if correction is not None else 1 if unbiased is None else int(unbiased)
    return reductions.var(of_floats("std and var", tensor(input)), dims_of(dim), ddof=free, keepdims=keepdim)


@torch_function()
def var(input: Any, dim: Dim = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None) -> Node:
    return _spread(input, dim, unbiased, keepdim, correction)


@torch_function()
def std(input: Any, dim: Dim = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None) -> Node:
    return root(_spread(input, dim, unbiased, keepdim, correction))


@torch_function()
def amax(input: Any, dim: Dim = (), keepdim: bool = False) -> Node:
    return apply("max", tensor(input), axis=dims_of(dim), keepdims=keepdim)


@torch_function()
def amin(input: Any, dim: Dim = (), keepdim: bool = False) -> Node:
    return apply("min", tensor(input), axis=dims_of(dim), keepdims=keepdim)


Extremum = namedtuple("Extremum", ["values", "indices"])


def _extremum(row: str, pair: str, position: str) -> Any:
    def reduce(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        if other is not None or isinstance(dim, Node) or not (dim is None or isinstance(dim, (int, np.integer))):
            return elementwise(pair, input, dim if other is None else other)
        x = tensor(input)
        if dim is None:
            return apply(row, x)
        k = axis_of(row, dim, x.ndim) if x.ndim else 0
        if not x.ndim:
            return Extremum(x, x.builder.constant(0))
        # the first one attaining it carries the derivative alone: values are read at the indices
        places = apply(position, x, axis=k, keepdims=True)
        values = gather_along(x, places, k)
        if not keepdim:
            values, places = apply("squeeze", values, axis=k), apply("squeeze", places, axis=k)
        return Extremum(values, places)

    return reduce


torch_function("max")(_extremum("max", "maximum", "argmax"))
torch_function("min")(_extremum("min", "minimum", "argmin"))


@torch_function()
def argmax(input: Any, dim: Dim = None, keepdim: bool = False) -> Node:
    return apply("argmax", not_boolean("argmax_cpu", tensor(input)), axis=dim, keepdims=keepdim)


@torch_function()
def argmin(input: Any, dim: Dim = None, keepdim: bool = False) -> Node:
    return apply("argmin", not_boolean("argmin_cpu", tensor(input)), axis=dim, keepdims=keepdim)


@torch_function("any")
def any_(input: Any, dim: Dim = None, keepdim: bool = False) -> Node:
    return _truth_of(input, reductions.any_(input, dims_of(dim), keepdims=keepdim))


@torch_function("all")
def all_(input: Any, dim: Dim = None, keepdim: bool = False) -> Node:
    return _truth_of(input, reductions.all_(input, dims_of(dim), keepdims=keepdim))


def _truth_of(input: Any, found: Node) -> Node:
    # torch's one exception: bytes stay bytes
    return convert(found, np.dtype(np.uint8)) if tensor(input).dtype == np.uint8 else found


@torch_function()
def count_nonzero(input: Any, dim: Dim = None) -> Node:
    return reductions.count_nonzero(input, dim)


@torch_function()
def equal(input: Any, other: Any) -> Node:
    return reductions.array_equal(input, other)


@torch_function()
def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Node:
    return reductions.cumsum(_accumulated(input, dtype), dim)


@torch_function()
def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Node:
    return reductions.cumprod(_accumulated(input, dtype), dim)


@torch_function("trapezoid", "trapz")
def trapezoid(y: Any, x: Any = None, *, dx: Any = 1.0, dim: int = -1) -> Node:
    return reductions.trapezoid(y, x, dx, dim)


@torch_function()
def logcumsumexp(input: Any, dim: int) -> Node:
    return apply("logcumsumexp", tensor(input), axis=dim)


@torch_function()
def logsumexp(input: Any, dim: Dim = None, keepdim: bool = False) -> Node:
    return apply("logsumexp", tensor(input), axis=dims_of(dim), keepdims=keepdim)



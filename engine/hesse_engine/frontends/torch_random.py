"""torch's random functions of traced tensors. They draw from torch's own generator, so `torch.manual_seed` holds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import InputError
from hesse_engine.frontends.operands import elementwise, tensor, where
from hesse_engine.frontends.randomness import check_same, drawn
from hesse_engine.frontends.table import torch_function
from hesse_engine.ir.graph import Array, Builder, Node, Shape, apply
from hesse_engine.ir.shapes import convert


def _like(x: Node, make: Callable[[Any, Shape], Any], dtype: Any = None) -> Node:
    """A draw in the shape of x; `make` has torch and a shape."""
    torch = sys.modules["torch"]
    name = str(x.dtype if dtype is None else dtype).removeprefix("torch.")

    def numbers(lead: Shape) -> Array:
        return np.asarray(make(torch, (*lead, *x.shape)).numpy().astype(np.dtype(name), copy=False))

    return _node(drawn(numbers, x.builder), x.builder)


def _node(found: Node | Array, builder: Builder) -> Node:
    return found if isinstance(found, Node) else builder.constant(found)


@torch_function()
def randn_like(input: Any, *, dtype: Any = None) -> Node:
    """Standard normal, in the shape and dtype of the input."""
    x = tensor(input)
    return _like(x, lambda torch, shape: torch.randn(shape, dtype=_torch_dtype(torch, x, dtype)), dtype)


@torch_function()
def rand_like(input: Any, *, dtype: Any = None) -> Node:
    """Uniform on [0, 1)."""
    x = tensor(input)
    return _like(x, lambda torch, shape: torch.rand(shape, dtype=_torch_dtype(torch, x, dtype)), dtype)


@torch_function()
def randint_like(input: Any, low: int, high: int | None = None, *, dtype: Any = None) -> Node:
    """Integers from low (or 0) up to high (or low), which is not among them."""
    x = tensor(input)
    first, last = (0, low) if high is None else (low, high)
    return _like(x, lambda torch, shape: torch.randint(first, last, shape, dtype=_torch_dtype(torch, x, dtype)), dtype)


def _torch_dtype(torch: Any, x: Node, dtype: Any) -> Any:
    return getattr(torch, str(x.dtype)) if dtype is None else dtype


@torch_function()
def bernoulli(input: Any, p: float | None = None) -> Node:
    """1 with the probability that an element of the input is (or p), else 0; nothing is differentiated through it."""
    x = tensor(input)
    if p is not None:
        return _like(x, lambda torch, shape: torch.empty(shape).bernoulli_(p))
    check_same(x)
    uniform = _like(x, lambda torch, shape: torch.rand(shape, dtype=getattr(torch, str(x.dtype))))
    return convert(apply("less", uniform, apply("stop_gradient", x)), x.dtype)


@torch_function()
def normal(mean: Any, std: Any = 1.0) -> Node:
    """mean + std z with a standard normal z; as in torch, nothing is differentiated through it."""
    centre, spread = (apply("stop_gradient", v) if isinstance(v, Node) else v for v in (mean, std))
    x = elementwise("add", centre, spread)
    z = _like(x, lambda torch, shape: torch.randn(shape, dtype=getattr(torch, str(x.dtype))))
    return elementwise("add", centre, elementwise("multiply", spread, z))


def dropped_out(input: Any, p: float, training: bool) -> Node:
    """x / (1 - p) where a draw of 1 - p says so, else 0."""
    if p < 0.0 or p > 1.0:
        raise InputError("bad-option", f"dropout probability has to be between 0 and 1, but got {p}")
    x = tensor(input)
    if not training or p == 0.0:
        return x
    if p == 1.0:
        return apply("multiply", x, 0.0)
    kept = _like(x, lambda torch, shape: torch.empty(shape).bernoulli_(1.0 - p))
    return where(apply("greater", kept, 0.0), apply("divide", x, 1.0 - p), x.builder.zeros(x.shape, x.dtype))

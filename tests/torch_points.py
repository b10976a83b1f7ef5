"""Tensors and functions that tests beside torch share. Needs torch."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch

# (torch.autograd.functional, torch.func), or ours, -> what the two are compared in
Case = Callable[[Any, Any], Any]

F64 = {"dtype": torch.float64}
X = torch.tensor([0.3, -1.2, 2.0], **F64)
Y = torch.tensor([1.5, 0.4, -0.7], **F64)
M = torch.linspace(-1.0, 1.0, 6, **F64).reshape(2, 3)
ONE = torch.tensor([2.0], **F64)
SCALAR = torch.tensor(0.7, **F64)
SINGLE = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float32)
EMPTY = torch.zeros(0, **F64)
INTEGER = torch.tensor([1, 2, 3])
COMPLEX = torch.tensor([1 + 1j, 2.0], dtype=torch.complex128)
BATCH = torch.linspace(-2.0, 2.0, 12, **F64).reshape(4, 3)
Point = namedtuple("Point", "a b")


def cube(x: Any) -> Any:
    return (x**3).sum()


def mixed(x: Any, y: Any) -> Any:
    return (x**2 * y).sum() + y.exp().sum()


def sine(x: Any) -> Any:
    return x.sin()


def product(x: Any, y: Any) -> Any:
    return x * y, (x + y).sum()


def constant(x: Any) -> Any:
    return torch.tensor(3.0, **F64)


def truncated(x: Any) -> Any:
    return x.to(torch.int64)

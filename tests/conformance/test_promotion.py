"""Types of results: every pair of dtypes, 0-dimensional or not, and Python's numbers, side by side with torch."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import hesse
from conformance.cases import torch
from hesse.errors import HesseError

pytestmark = pytest.mark.skipif(torch is None, reason="torch is compared with; it is an optional peer")

DTYPES = ("float64", "float32", "int64", "int32", "uint8", "bool")
OPERATIONS: dict[str, Any] = {
    "add": lambda t, a, b: a + b, "mul": lambda t, a, b: a * b, "div": lambda t, a, b: a / b,
    "less": lambda t, a, b: a < b, "where": lambda t, a, b: t.where(t.tensor([True, False]), a, b),
    "function": lambda t, a, b: t.add(a, b), "method": lambda t, a, b: a.mul(b),
}
PAIRWISE = {**OPERATIONS, "maximum": lambda t, a, b: t.maximum(a, b),
            "cat": lambda t, a, b: t.cat([a.reshape(-1), b.reshape(-1)])}
REDUCTIONS: dict[str, Any] = {
    "sum": lambda t, a: a.sum(), "prod": lambda t, a: t.prod(a), "mean": lambda t, a: a.mean(),
    "max": lambda t, a: a.max(),
    "cumsum": lambda t, a: t.cumsum(a, 0), "any": lambda t, a: a.any(), "all": lambda t, a: t.all(a, 0),
    "argmax": lambda t, a: a.argmax(), "exp": lambda t, a: a.exp(), "sqrt": lambda t, a: t.sqrt(a),
    "abs": lambda t, a: a.abs(), "std": lambda t, a: t.std(a), "softmax": lambda t, a: t.softmax(a, 0),
    "var": lambda t, a: a.var(), "norm": lambda t, a: a.norm(), "relu": lambda t, a: t.relu(a),
    "logsumexp": lambda t, a: t.logsumexp(a, 0), "sigmoid": lambda t, a: a.sigmoid(), "square": lambda t, a: a.square(),
    "count_nonzero": lambda t, a: t.count_nonzero(a), "sin": lambda t, a: a.sin(), "neg": lambda t, a: -a,
}


def outcome(f: Any, *inputs: Any) -> Any:
    """The dtype of f's result; "refused" where it has none."""
    try:
        return f(*inputs).dtype
    except (RuntimeError, TypeError, HesseError):
        return "refused"


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())], ids=str)
def test_two_tensors_give_torchs_type(name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    f = PAIRWISE[name]
    for first, second in product(DTYPES, repeat=2):
        a, b = (torch.from_numpy(np.ones(s, d)) for s, d in zip(shapes, (first, second), strict=True))
        ours = outcome(hesse.function(lambda a, b: f(torch, a, b)), a, b)
        assert ours == outcome(lambda a, b: f(torch, a, b), a, b), (first, second)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("number", [2.0, 2, True], ids=str)
@pytest.mark.parametrize("shape", [(2,), ()], ids=str)
def test_a_tensor_and_a_number_give_torchs_type(name: str, number: float, shape: tuple[int, ...]) -> None:
    f = OPERATIONS[name]
    for dtype in DTYPES:
        a = torch.from_numpy(np.ones(shape, dtype))
        ours = outcome(hesse.function(lambda a: f(torch, a, number)), a)
        assert ours == outcome(lambda a: f(torch, a, number), a), dtype


@pytest.mark.parametrize("name", REDUCTIONS)
def test_one_tensor_gives_torchs_type(name: str) -> None:
    f = REDUCTIONS[name]
    for dtype in DTYPES:
        a = torch.from_numpy(np.ones((2,), dtype))
        assert outcome(hesse.function(lambda a: f(torch, a)), a) == outcome(lambda a: f(torch, a), a), dtype

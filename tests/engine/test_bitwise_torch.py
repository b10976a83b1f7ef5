"""Bitwise functions and operators under torch's names, of integers and of booleans, against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tracing import traced

torch = pytest.importorskip("torch")

INTEGERS = torch.tensor([5, -3, 12, 0])
TRUTH = torch.tensor([True, False, True, False])
CASES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "and": (lambda x: torch.bitwise_and(x, 6), INTEGERS), "or": (lambda x: torch.bitwise_or(x, 6), INTEGERS),
    "xor": (lambda x: torch.bitwise_xor(x, x + 1), INTEGERS), "not": (lambda x: torch.bitwise_not(x), INTEGERS),
    "left": (lambda x: torch.bitwise_left_shift(x, 2), INTEGERS),
    "right": (lambda x: torch.bitwise_right_shift(x, 1), INTEGERS),
    "operators": (lambda x: (~x & 7) | (x ^ 3) << 1, INTEGERS), "reflected": (lambda x: 9 & x, INTEGERS),
    "and of booleans": (lambda x: torch.bitwise_and(x, TRUTH.flip(0)), TRUTH), "not of booleans": (lambda x: ~x, TRUTH),
    "method": (lambda x: x.bitwise_and(4), INTEGERS),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_dtype(name: str) -> None:
    f, x = CASES[name]
    got, wanted = traced(f, x.numpy(), library="torch"), f(x).numpy()
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)

"""What a conformance case is: a function of torch tensors, run by torch and traced by us, and the points to compare at.

A family of functions has a module of its own with a list `CASES`; `test_against_torch.py` runs all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oracles import Array, peer

torch: Any = peer("torch")


@dataclass(frozen=True)
class Case:
    """f(torch, *inputs) -> tensor, or a tuple of tensors.

    `inputs` in float64 are what is differentiated; integers and booleans ride along.
    """

    name: str
    f: Callable[..., Any]
    inputs: tuple[Array, ...]
    order: int = 2  # of the derivatives that torch has to compare with
    rtol: float = 1e-9  # of float64, beside the largest entry
    dtypes: tuple[str, ...] = ("float64", "float32")
    reason: str = ""  # why torch is not compared in an order or dtype
    differs: Mapping[str, str] = field(default_factory=dict)  # check -> why our answer differs on purpose

    def __post_init__(self) -> None:
        if (self.order < 2 or len(self.dtypes) < 2) and not self.reason:
            raise ValueError(f"{self.name}: say why not everything is compared")

    def arrays(self, dtype: str) -> tuple[Array, ...]:
        return tuple([np.asarray(a, dtype) if np.asarray(a).dtype.kind == "f" else np.asarray(a) for a in self.inputs])


def normal(*shape: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> Array:
    """Numbers around `shift`, exact in float32."""
    drawn = np.random.default_rng([seed, *shape]).standard_normal(shape) * scale + shift
    return drawn.astype(np.float32).astype(np.float64)


def positive(*shape: int, seed: int = 0, low: float = 0.2, high: float = 3.0) -> Array:
    """Numbers of [low, high), exact in float32."""
    drawn = np.random.default_rng([seed, *shape]).uniform(low, high, shape)
    return drawn.astype(np.float32).astype(np.float64)


def spd(n: int, *batch: int, seed: int = 0) -> Array:
    """Well-conditioned symmetric positive definite matrices."""
    a = normal(*batch, n, n, seed=seed)
    return a @ np.swapaxes(a, -1, -2) / n + np.eye(n)

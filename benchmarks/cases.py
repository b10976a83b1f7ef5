"""THE table of what is measured. A function is written once, over an array namespace `xp`, and runs in every library.

The one input `x` is a vector, so the Hessian of every case is an (n, n) matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """One function: `f(xp, x, data)` is a scalar, `data` arrays of the library that `xp` is of."""

    name: str
    n: int
    f: Callable[[Any, Any, Mapping[str, Any]], Any]
    data: Mapping[str, NDArray[Any]]
    spread: float = 0.5  # inputs are drawn from center + spread * N(0, 1)
    center: float = 0.0

    def inputs(self, count: int, seed: int = 0) -> list[Array]:
        """`count` different points at which to evaluate."""
        rng = np.random.default_rng([seed, self.n])
        return [self.center + self.spread * rng.standard_normal(self.n) for _ in range(count)]


def rosenbrock(xp: Any, x: Any, data: Mapping[str, Any]) -> Any:
    return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def sine(xp: Any, x: Any, data: Mapping[str, Any]) -> Any:
    return xp.sum(xp.sin(x))


def logistic(xp: Any, x: Any, data: Mapping[str, Any]) -> Any:
    """sum log(1 + exp(-s_i a_i'x)): the negative log-likelihood with labels s_i = +-1."""
    return xp.sum(xp.log1p(xp.exp(-data["signs"] * (data["rows"] @ x))))


def network(xp: Any, x: Any, data: Mapping[str, Any]) -> Any:
    """Squared error of w2'tanh(W1 a_i + b1) over 64 samples; 10*50 + 50 + 50 packed parameters."""
    hidden = xp.tanh(data["samples"] @ xp.reshape(x[:500], (10, 50)) + x[500:550])
    return xp.sum((hidden @ x[550:] - data["targets"]) ** 2)


def pairwise(xp: Any, x: Any, data: Mapping[str, Any]) -> Any:
    """Sum of the distances between all pairs of 60 points in space."""
    points = xp.reshape(x, (60, 3))
    difference = points[data["first"]] - points[data["second"]]
    return xp.sum(xp.sqrt(xp.sum(difference * difference, 1)))


def cases() -> list[Case]:
    rng = np.random.default_rng(20240601)
    rows = rng.standard_normal((1000, 200)) / np.sqrt(200.0)
    first, second = np.triu_indices(60, 1)
    return [
        Case("Rosenbrock, n=2", 2, rosenbrock, {}),
        Case("Rosenbrock, n=1000", 1000, rosenbrock, {}),
        Case("sin(x).sum(), n=2000", 2000, sine, {}),
        Case("logistic regression, 1000x200", 200, logistic,
             {"rows": rows, "signs": np.where(rng.random(1000) < 0.5, -1.0, 1.0)}),
        Case("tanh network 10-50-1, 64 samples", 600, network,
             {"samples": rng.standard_normal((64, 10)), "targets": rng.standard_normal(64)}, spread=0.3),
        Case("pairwise distances, 60 points", 180, pairwise, {"first": first, "second": second}, spread=1.0),
    ]

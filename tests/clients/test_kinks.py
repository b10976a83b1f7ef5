"""Derivatives at kinks and edges, function by function, as a user of torch meets them.

Each row states the gradient and the Hessian. Where torch's forward-over-reverse answer is right, the installed torch
must give the same; where it is not (`torch_differs` says how), the stated numbers are from the closed form or the
convention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import hesse
from hesse import func

torch = pytest.importorskip("torch", reason="torch is compared with; it is an optional peer")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*", "ignore::UserWarning:torch.*")
INF, NAN = np.inf, np.nan
F = torch.nn.functional
STRATEGIES = ("forward-over-reverse", "reverse-over-reverse", "reverse-over-forward", "forward-over-forward")


@dataclass(frozen=True)
class Kink:
    """f at `point`: its gradient, its Hessian (a number: on the diagonal), and why torch is not asked."""

    f: Callable[[Any], Any]
    point: list[float]
    gradient: list[float]
    hessian: Any
    torch_differs: str = ""

    @property
    def matrix(self) -> np.ndarray[Any, Any]:
        n = len(self.point)
        return np.eye(n) * self.hessian if np.ndim(self.hessian) == 0 and np.isfinite(self.hessian) \
            else np.asarray(self.hessian, float).reshape(n, n)


def at_zero(f: Callable[[Any], Any], slope: float, curvature: float = 0.0, where: float = 0.0, why: str = "") -> Kink:
    return Kink(lambda x: f(x).sum(), [where], [slope], curvature, why)


KINKS: dict[str, Kink] = {
    "abs": at_zero(torch.abs, 0.0),
    "relu": at_zero(torch.relu, 0.0),
    "relu6 at 6": at_zero(F.relu6, 0.0, where=6.0),
    "hardtanh at 1": at_zero(F.hardtanh, 0.0, where=1.0),
    "hardtanh at -1": at_zero(F.hardtanh, 0.0, where=-1.0),
    "maximum(x, 0)": at_zero(lambda x: torch.maximum(x, torch.zeros_like(x)), 0.5),
    "minimum(x, 0)": at_zero(lambda x: torch.minimum(x, torch.zeros_like(x)), 0.5),
    "clamp at 1": at_zero(lambda x: torch.clamp(x, -1.0, 1.0), 1.0, where=1.0),
    "clamp(min=0)": at_zero(lambda x: torch.clamp(x, min=0.0), 1.0),
    "max of ties": Kink(lambda x: x.max(), [2.0, 2.0, 1.0], [0.5, 0.5, 0.0], 0.0),
    "amax of ties": Kink(lambda x: x.amax(), [2.0, 2.0, 1.0], [0.5, 0.5, 0.0], 0.0),
    "min of ties": Kink(lambda x: x.min(), [1.0, 1.0, 2.0], [0.5, 0.5, 0.0], 0.0),
    "max(dim) of ties": Kink(lambda x: x.max(0).values, [2.0, 2.0, 1.0], [1.0, 0.0, 0.0], 0.0),
    "median of four": Kink(lambda x: x.median(), [4.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 1.0], 0.0),
    "sqrt": at_zero(torch.sqrt, INF, [[-INF]]),
    "norm": Kink(torch.linalg.vector_norm, [0.0, 0.0], [0.0, 0.0], 0.0),
    "norm of order 1": Kink(lambda x: torch.linalg.vector_norm(x, 1), [0.0, 2.0], [0.0, 1.0], 0.0),
    "norm of order inf, a tie": Kink(lambda x: torch.linalg.vector_norm(x, INF), [2.0, -2.0], [0.5, -0.5], 0.0),
    "x**1.0": at_zero(lambda x: x**1.0, 1.0),
    "x**2": at_zero(lambda x: x**2, 0.0, 2.0),
    "x**2.0": at_zero(lambda x: x**2.0, 0.0, 2.0),
    "x**1.5": at_zero(lambda x: x**1.5, 0.0, [[INF]]),
    "x**y at (0, 0)": Kink(lambda x: x[0] ** x[1], [0.0, 0.0], [0.0, 0.0], 0.0),
    "x**y at (0, 2)": Kink(lambda x: x[0] ** x[1], [0.0, 2.0], [0.0, 0.0], [[2.0, 0.0], [0.0, 0.0]]),
    "x**y at (-1, 2)": Kink(lambda x: x[0] ** x[1], [-1.0, 2.0], [-2.0, NAN], [[2.0, NAN], [NAN, NAN]],
                            "d^2/dx^2 is 2, torch gives NaN"),
    "prod with one zero": Kink(torch.prod, [0.0, 2.0, 3.0], [6.0, 0.0, 0.0], [[0, 3, 2], [3, 0, 0], [2, 0, 0]]),
    "prod with two zeros": Kink(torch.prod, [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [[0, 3, 0], [3, 0, 0], [0, 0, 0]]),
    "where(x > 0, log x, 0)": at_zero(lambda x: torch.where(x > 0, torch.log(x), 0.0), 0.0, why="NaN in torch"),
    "where(x > 0, sqrt x, 0)": at_zero(lambda x: torch.where(x > 0, torch.sqrt(x), 0.0), 0.0, why="NaN in torch"),
    "hypot(0, 0)": Kink(lambda x: torch.hypot(x[0], x[1]), [0.0, 0.0], [0.0, 0.0], 0.0, "NaN in torch"),
    "atan2(0, 0)": Kink(lambda x: torch.atan2(x[0], x[1]), [0.0, 0.0], [0.0, 0.0], 0.0),
    "sinc": at_zero(torch.sinc, 0.0, -np.pi**2 / 3, why="torch's second derivative is 0"),
    "std of a constant": Kink(torch.std, [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], 0.0),
    "cdist of one point": Kink(lambda x: torch.cdist(x[None, :2], x[None, 2:]).sum(), [1.0, 2.0, 1.0, 2.0],
                               [0.0, 0.0, 0.0, 0.0], 0.0, "torch has no second derivative"),
    "huber at delta": at_zero(lambda x: F.huber_loss(x, torch.zeros_like(x)), 1.0, 1.0, where=1.0),
    "elu": at_zero(F.elu, 1.0),
    "leaky_relu": at_zero(F.leaky_relu, 0.01),
    "sign": at_zero(torch.sign, 0.0),
    "round": at_zero(torch.round, 0.0, where=0.5),
    "floor": at_zero(torch.floor, 0.0, where=1.0),
}


@pytest.mark.parametrize("name", KINKS)
def test_stated_values(name: str) -> None:
    kink = KINKS[name]
    x = torch.tensor(kink.point, dtype=torch.float64)
    np.testing.assert_array_equal(func.grad(kink.f)(x).numpy(), kink.gradient)
    np.testing.assert_allclose(func.hessian(kink.f)(x).numpy(), kink.matrix, rtol=1e-14, atol=0)


# in columns computed one by one, the undefined derivative in the exponent meets a tangent of zero
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", sorted(KINKS.keys() - {"x**y at (-1, 2)"}))
def test_every_composition_gives_them(name: str, strategy: str) -> None:
    kink = KINKS[name]
    x = torch.tensor(kink.point, dtype=torch.float64)
    found = hesse.function(kink.f).hessian(x, strategy=strategy)
    np.testing.assert_allclose(found.numpy(), kink.matrix, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", [n for n, k in KINKS.items() if not k.torch_differs])
def test_torch_gives_them(name: str) -> None:
    kink = KINKS[name]
    x = torch.tensor(kink.point, dtype=torch.float64)
    np.testing.assert_array_equal(torch.func.grad(kink.f)(x).numpy(force=True), kink.gradient)
    np.testing.assert_array_equal(torch.func.hessian(kink.f)(x).numpy(force=True), kink.matrix)


@pytest.mark.parametrize("name", [n for n, k in KINKS.items() if k.torch_differs])
def test_torch_still_differs(name: str) -> None:
    """A row that says so must not outlive the difference."""
    kink = KINKS[name]
    x = torch.tensor(kink.point, dtype=torch.float64)
    try:
        theirs = torch.func.hessian(kink.f)(x).numpy(force=True)
    except (NotImplementedError, RuntimeError):
        return
    gradient = torch.func.grad(kink.f)(x).numpy(force=True)
    agrees = np.array_equal(theirs, kink.matrix, equal_nan=True)
    assert not (agrees and np.array_equal(gradient, kink.gradient, equal_nan=True))

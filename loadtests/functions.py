"""The functions under load, and what makes an answer right: NumPy evaluates the same formula, no engine does.

A Hessian H at x is checked along a random direction v, new at every request: v'Hv is the second derivative of
t -> f(x + t v), which five values of f give to about eight digits. A wrong entry anywhere shows, for no entry of v is
zero.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import scipy.special
from numpy.typing import NDArray

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

import hesse  # noqa: E402

scenarios: Any = importlib.import_module("scenarios")  # the tests' folder is not installed

Array = NDArray[Any]
Value = Callable[[Array], float]
STEP = 1e-3  # of the direction, whose entries are as large as those of x
TOLERANCE = 1e-7  # beside the sum of all |v_i H_ij v_j|
ROUNDING = 1e-8  # of the difference quotient, beside |f|: 64/12 eps / STEP^2
STENCIL = np.array([-1.0, 16.0, -30.0, 16.0, -1.0]) / 12.0


@dataclass(frozen=True, slots=True)
class Load:
    """A function as requests carry it, where it is asked, and its value by NumPy.

    Attributes:
        reference: the member `function` of a request.
    """

    name: str
    reference: dict[str, Any]
    center: Array
    value: Value

    def point(self, rng: np.random.Generator) -> Array:
        """A point near the center, never the same twice."""
        moved: Array = self.center + 0.01 * self.scale * rng.standard_normal(self.center.size)
        return moved

    @property
    def scale(self) -> Array:
        return np.maximum(np.abs(self.center), 0.05)

    def direction(self, rng: np.random.Generator) -> Array:
        signs: Array = self.scale * rng.choice([-1.0, 1.0], self.center.size)
        return signs


def fault(load: Load, x: Array, v: Array, hessian: Array) -> str | None:
    """What is wrong with the Hessian, or None."""
    if hessian.shape != (x.size, x.size):
        return f"shape {hessian.shape}"
    if not np.allclose(hessian, hessian.T, rtol=1e-9, atol=1e-9 * np.abs(hessian).max()):
        return "not symmetric"
    return _along(load, x, v, float(v @ hessian @ v), float(np.abs(v) @ np.abs(hessian) @ np.abs(v)))


def product_fault(load: Load, x: Array, v: Array, output: float, product: Array) -> str | None:
    """What is wrong with f(x) and Hv, or None."""
    if product.shape != x.shape:
        return f"shape {product.shape}"
    if abs(output - load.value(x)) > 1e-9 * max(1.0, abs(output)):
        return "wrong value"
    return _along(load, x, v, float(v @ product), float(np.abs(v) @ np.abs(product)))


def _along(load: Load, x: Array, v: Array, found: float, size: float) -> str | None:
    values = np.array([load.value(x + k * STEP * v) for k in (-2.0, -1.0, 0.0, 1.0, 2.0)])
    expected = float(STENCIL @ values) / STEP**2
    if abs(found - expected) <= TOLERANCE * size + ROUNDING * float(np.abs(values).max()):
        return None
    return f"v'Hv is {found:.9g}, should be {expected:.9g}"


# ---- the functions ---------------------------------------------------------------------------------------------------
def _scan(step: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any) -> tuple[Any, Array]:
    outputs = []
    for row in zip(*xs, strict=True) if isinstance(xs, tuple) else xs:
        init, output = step(init, row)
        outputs.append(output)
    return init, np.array(outputs)


def numpy_library() -> Any:
    return scenarios.Library(
        np, scipy.special.erf, scipy.special.gammaln, scipy.special.logsumexp,
        lambda a, b: scipy.linalg.solve_triangular(a, b, lower=True), _scan, np.asarray,
    )


def _of_scenario(name: str) -> Load:
    scenario = scenarios.SCENARIOS[name]
    value = scenario.at(numpy_library())
    graph = hesse.function(scenario.at(scenarios.hesse_library())).graph(scenario.point)
    return Load(name, {"graph": graph}, scenario.point, lambda x: float(value(x)))


def scenario_loads() -> list[Load]:
    """Every scenario of the tests, as a graph."""
    return [_of_scenario(name) for name in scenarios.SCENARIOS]


FORMULAS: dict[str, tuple[str, Value, Array]] = {
    "rosenbrock": ("sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)",
                   lambda x: float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)),
                   np.linspace(-1.0, 1.5, 10)),
    "waves": ("sum(sin(x) * exp(-x**2 / 8)) * sum(cos(x))",
              lambda x: float(np.sum(np.sin(x) * np.exp(-(x**2) / 8.0)) * np.sum(np.cos(x))),
              np.linspace(-2.0, 2.0, 8)),
    "entropy": ("log(sum(exp(x))) + 0.5*sum(x**2)/4",
                lambda x: float(np.log(np.sum(np.exp(x))) + 0.125 * np.sum(x**2)), np.linspace(0.1, 2.0, 6)),
}


def formula_loads() -> list[Load]:
    """Formulas as a person types them."""
    return [Load(name, {"expression": text, "inputs": ["x"]}, center, value)
            for name, (text, value, center) in FORMULAS.items()]


LARGE = 2_000
LARGE_EXPRESSION = "sum(x)**4 + sum(x**3)"  # H = 12 (sum x)^2 11' + 6 diag(x)


def large_fault(x: Array, hessian: Array) -> str | None:
    """What is wrong with the Hessian of `LARGE_EXPRESSION`; every entry is looked at."""
    if hessian.shape != (x.size, x.size):
        return f"shape {hessian.shape}"
    every = 12.0 * x.sum() ** 2
    rest = hessian - every
    rest.flat[:: x.size + 1] -= 6.0 * x
    worst = float(np.abs(rest).max())
    return None if worst <= 1e-9 * abs(every) else f"an entry is off by {worst:.3g}"

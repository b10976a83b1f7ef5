"""Functions that people really write trace unchanged and agree with JAX in value, gradient and Hessian."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hesse
from oracles import Array, peer
from scenarios import SCENARIOS, Scenario, hesse_library, jax_library

jax: Any = peer("jax")
every_scenario = pytest.mark.parametrize("name", SCENARIOS)


def close(ours: Any, theirs: Any, scenario: Scenario) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=scenario.tolerance * np.abs(theirs).max())


@every_scenario
@pytest.mark.skipif(jax is None, reason="JAX is compared with; it is an optional peer")
def test_as_jax_has_it(name: str) -> None:
    scenario = SCENARIOS[name]
    ours, library = hesse.function(scenario.at(hesse_library())), jax_library()
    assert library is not None
    with jax.enable_x64(True):
        theirs, x = scenario.at(library), jax.numpy.asarray(scenario.point)
        close(ours(scenario.point), theirs(x), scenario)
        close(ours.grad(scenario.point), jax.grad(theirs)(x), scenario)
        close(ours.hessian(scenario.point), jax.hessian(theirs)(x), scenario)


@every_scenario
def test_gradient_by_central_differences(name: str) -> None:
    """No rule of any library: (f(x + h e) - f(x - h e)) / 2h, whose error is about h^2."""
    scenario = SCENARIOS[name]
    f = hesse.function(scenario.at(hesse_library()))
    x, h = scenario.point, 1e-5
    steps = h * np.eye(x.size)
    differences = np.array([(float(f(x + e)) - float(f(x - e))) / (2 * h) for e in steps])
    gradient: Array = f.grad(x)
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-6 * np.abs(gradient).max())


@every_scenario
def test_products_are_those_with_the_hessian(name: str) -> None:
    scenario = SCENARIOS[name]
    f = hesse.function(scenario.at(hesse_library()))
    v = np.linspace(-1.0, 1.0, scenario.point.size)
    hessian = f.hessian(scenario.point)
    close(hessian, hessian.T, scenario)
    value, product = f.hvp(scenario.point, v)
    close(value, f(scenario.point), scenario)
    close(product, hessian @ v, scenario)
    close(f.vhp(scenario.point, v)[1], v @ hessian, scenario)

"""Third and fourth derivatives, by every nesting of modes, against mpmath along directions and among each other.

    sum_ijkl T_ijkl v_i v_j v_k v_l = d^4/dt^4 f(x + t v) at t = 0
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import hesse
import hesse.numpy as xp
from hesse import func

X = np.array([0.4, -0.7, 1.1])
DIRECTIONS = (np.array([1.0, 0.5, -0.25]), np.array([0.3, -1.0, 2.0]))
W = np.array([[0.5, -1.0, 0.25], [1.5, 0.3, -0.6]])
S = np.array([[2.0, 0.3, 0.1], [0.3, 3.0, -0.2], [0.1, -0.2, 1.5]])


def dot(a: Any, b: Any) -> Any:
    return sum([p * q for p, q in zip(a, b, strict=True)])


def softmax_reference(x: list[Any]) -> Any:
    total = sum([mp.exp(v) for v in x])
    return sum([mp.exp(v) / total * (k + 1) ** 2 for k, v in enumerate(x)])


def network_reference(x: list[Any]) -> Any:
    return sum([mp.tanh(dot(row, x)) ** 2 for row in W.tolist()])


def loop_reference(x: list[Any]) -> Any:
    c = x[0]
    for _ in range(4):
        c = mp.sin(c) * x[1] + c * x[2]
    return c


def logdet_reference(x: list[Any]) -> Any:
    m = mp.matrix(S.tolist())
    for k in range(3):
        m[k, k] += x[k] ** 2
    return mp.log(mp.det(m))


def softmax(x: Any) -> Any:
    e = xp.exp(x)
    return xp.sum(e / xp.sum(e) * np.array([1.0, 4.0, 9.0]))


def loop(x: Any) -> Any:
    return hesse.fori_loop(0, 4, lambda i, c: xp.sin(c) * x[1] + c * x[2], x[0])


# name -> (function, the same on a list of mpf, point)
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[list[Any]], Any], Any]] = {
    "powers": (lambda x: xp.sum(x**4) * x[0] + xp.prod(x),
               lambda x: sum([v**4 for v in x]) * x[0] + x[0] * x[1] * x[2], X),
    "a product with one zero": (lambda x: xp.prod(x) * xp.sum(x), lambda x: x[0] * x[1] * x[2] * sum(x),
                                np.array([0.0, 2.0, 3.0])),
    "a product with two zeros": (lambda x: xp.prod(x * x + x), lambda x: mp.fprod([v * v + v for v in x]),
                                 np.array([0.0, 2.0, 0.0])),
    "a norm": (lambda x: xp.linalg.vector_norm(x), lambda x: mp.sqrt(dot(x, x)), X),
    "a softmax": (softmax, softmax_reference, X),
    "a network": (lambda x: xp.sum(xp.tanh(W @ x) ** 2), network_reference, X),
    "a loop": (loop, loop_reference, X),
    "a log-determinant": (lambda x: xp.linalg.slogdet(S + xp.diag(x**2))[1], logdet_reference, X),
    "a quotient of exponentials": (lambda x: xp.exp(x[0] * x[1]) / (1.0 + xp.exp(x[2])),
                                   lambda x: mp.exp(x[0] * x[1]) / (1 + mp.exp(x[2])), X),
}
MODES = {"f": func.jacfwd, "r": func.jacrev}


def derivative(function: Any, modes: str) -> Any:
    """The Jacobian of the Jacobian ..., innermost mode last."""
    for mode in reversed(modes):
        function = MODES[mode](function)
    return function


def along(name: str, v: Any, order: int) -> float:
    _, reference, x = FUNCTIONS[name]
    with mp.workdps(50):
        point, direction = [mp.mpf(float(p)) for p in x], [mp.mpf(float(d)) for d in v]
        line = lambda t: reference([p + t * d for p, d in zip(point, direction, strict=True)])  # noqa: E731
        return float(mp.diff(line, 0, order))


def contracted(tensor: Any, v: Any) -> float:
    for _ in range(tensor.ndim):
        tensor = tensor @ v
    return float(tensor)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("modes", ["fr", "rr", "ffr", "rrr", "frf", "ffff", "rrrr", "frfr", "rfrf"])
def test_tensors_by_modes(name: str, modes: str) -> None:
    function, _, x = FUNCTIONS[name]
    tensor = derivative(function, modes)(x)
    order = len(modes)
    assert tensor.shape == (3,) * order
    scale = np.abs(tensor).max()
    for permutation in itertools.permutations(range(order)):
        np.testing.assert_allclose(tensor.transpose(permutation), tensor, rtol=1e-9, atol=1e-10 * scale)
    for v in DIRECTIONS:
        wanted = along(name, v, order)
        assert contracted(tensor, v) == pytest.approx(wanted, rel=1e-9, abs=1e-9 * max(1.0, scale))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_of_a_hessian(name: str) -> None:
    function, _, x = FUNCTIONS[name]
    tensor = func.hessian(func.hessian(function))(x)
    np.testing.assert_allclose(tensor, derivative(function, "frfr")(x), rtol=1e-9, atol=1e-9 * np.abs(tensor).max())
    for v in DIRECTIONS:
        assert contracted(tensor, v) == pytest.approx(along(name, v, 4), rel=1e-9, abs=1e-9 * np.abs(tensor).max())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_products_with_the_third_derivative(name: str) -> None:
    function, _, x = FUNCTIONS[name]
    v, w = DIRECTIONS
    third = derivative(function, "ffr")(x)
    hessian = func.hessian(function)
    scale = np.abs(third).max()
    np.testing.assert_allclose(func.jvp(hessian, (x,), (v,))[1], third @ v, rtol=1e-9, atol=1e-10 * scale)
    pulled = func.vjp(hessian, x)[1](np.outer(w, v))[0]
    np.testing.assert_allclose(pulled, np.einsum("ijk,i,j", third, w, v), rtol=1e-9, atol=1e-10 * scale)
    moved = func.jvp(lambda z: func.jvp(func.grad(function), (z,), (v,))[1], (x,), (w,))[1]
    np.testing.assert_allclose(moved, np.einsum("ijk,j,k", third, v, w), rtol=1e-9, atol=1e-10 * scale)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_taylor_coefficients(name: str) -> None:
    function, _, x = FUNCTIONS[name]
    for v in DIRECTIONS:
        found = func.taylor(function, x, v, 5)
        wanted = [along(name, v, k) / float(mp.factorial(k)) for k in range(6)]
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-11 * np.abs(wanted).max())


@pytest.mark.parametrize(("f", "derivatives"), [
    (np.sin, [np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin]),
    (np.exp, [np.exp] * 4),
    (lambda x: x**5, [lambda x: 5 * x**4, lambda x: 20 * x**3, lambda x: 60 * x**2, lambda x: 120 * x]),
    (np.log, [lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3, lambda x: -6 / x**4]),
])
def test_gradients_of_gradients(f: Any, derivatives: list[Any]) -> None:
    x, g = np.array(0.8), f
    for wanted in derivatives:
        g = func.grad(g)
        np.testing.assert_allclose(g(x), wanted(x), rtol=1e-13)
        np.testing.assert_allclose(func.vmap(g)(np.array([0.5, 0.8])), wanted(np.array([0.5, 0.8])), rtol=1e-13)


def test_against_jax() -> None:
    jax = pytest.importorskip("jax", reason="JAX is compared with; it is an optional peer")
    jnp = jax.numpy

    def f(np_: Any) -> Any:
        return lambda x: np_.sum(np_.tanh(W @ x) ** 3) * np_.exp(x[0]) + np_.linalg.norm(x)

    with jax.enable_x64(True):  # its fourth order takes 40 s to compile
        third = np.asarray(jax.jacfwd(jax.hessian(f(jnp)))(X))
    np.testing.assert_allclose(func.jacrev(func.hessian(f(np)))(X), third, rtol=1e-9, atol=1e-10)

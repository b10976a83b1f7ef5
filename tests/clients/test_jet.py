"""`func.jet` and `func.taylor`: coefficients to order 10 against mpmath, closed forms, and nested derivatives."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import hesse
import hesse.numpy as xp
from hesse import func
from hesse_engine.frontends.trace import Trace
from hesse_engine.transforms.taylor import taylor as propagate

ORDER = 10
A = np.array([[3.0, 1.0, 0.0], [1.0, 4.0, 1.0], [0.0, 1.0, 5.0]])
B = np.array([[1.0, 0.2, 0.0], [0.2, 1.0, 0.3], [0.0, 0.3, 2.0]])
Pair = namedtuple("Pair", "a b")


def matrix(x: Any) -> Any:
    return mp.matrix(A.tolist()) + x * mp.matrix(B.tolist())


def iterated(x: Any) -> Any:
    c = x
    for _ in range(5):
        c = mp.sin(c) * x + c / (1 + c * c)
    return c


def maximum_of(x: Any) -> Any:
    return max(x, mp.exp(x), x * x)


def softmax_of(x: Any) -> Any:
    return mp.exp(x * x) / (mp.exp(x) + mp.exp(x * x) + mp.exp(2 * x))


# name -> (function of a scalar, the same in mpmath, point)
SCALARS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float]] = {
    "exp": (xp.exp, mp.exp, 0.3),
    "expm1": (xp.expm1, mp.expm1, 0.3),
    "log": (xp.log, mp.log, 1.3),
    "log1p": (xp.log1p, mp.log1p, 0.4),
    "sin": (xp.sin, mp.sin, 0.3),
    "tan": (xp.tan, mp.tan, 0.3),
    "tanh": (xp.tanh, mp.tanh, 0.4),
    "sqrt": (xp.sqrt, mp.sqrt, 1.3),
    "sigmoid": (xp.sigmoid, lambda x: 1 / (1 + mp.exp(-x)), 0.4),
    "softplus": (xp.softplus, lambda x: mp.log1p(mp.exp(x)), 0.2),
    "a real power": (lambda x: x**2.5, lambda x: x**2.5, 1.2),
    "a negative power": (lambda x: x**-3, lambda x: x**-3, 1.2),
    "a power of itself": (lambda x: x**x, lambda x: x**x, 1.2),
    "a cube at 0": (lambda x: x**3, lambda x: x**3, 0.0),
    "a quotient": (lambda x: xp.sin(x) / (1 + x**2), lambda x: mp.sin(x) / (1 + x**2), 0.5),
    "a composition": (lambda x: xp.exp(-(x**2) / 2) / xp.sqrt(1 + x * x),
                      lambda x: mp.exp(-(x**2) / 2) / mp.sqrt(1 + x * x), 0.7),
    "a product with zeros": (lambda x: xp.prod(xp.stack([x, x * x, xp.cos(x)])), lambda x: x**3 * mp.cos(x), 0.0),
    "a cumulative product": (
        lambda x: xp.cumulative_prod(xp.stack([x, 1 + x, x * x]))[2], lambda x: x**3 * (1 + x), 0.3),
    "a norm": (lambda x: xp.linalg.vector_norm(xp.stack([x, xp.exp(x), 1 + x])),
               lambda x: mp.sqrt(x * x + mp.exp(2 * x) + (1 + x) ** 2), 0.3),
    "a softmax": (lambda x: (lambda e: (e / e.sum())[1])(xp.exp(xp.stack([x, x * x, 2 * x]))), softmax_of, 0.3),
    "a maximum": (lambda x: xp.max(xp.stack([x, xp.exp(x), x * x])), maximum_of, 0.3),
    "a branch of where": (lambda x: xp.where(x > 0, xp.log(x), x**2), lambda x: x**2, -0.3),
    "a log-determinant": (lambda x: xp.linalg.slogdet(A + x * B)[1], lambda x: mp.log(mp.det(matrix(x))), 0.2),
    "an inverse": (lambda x: xp.linalg.inv(A + xp.sin(x) * B)[0, 2], lambda x: (matrix(mp.sin(x)) ** -1)[0, 2], 0.2),
    "a linear system": (lambda x: xp.linalg.solve(A + xp.sin(x) * B, xp.stack([x, x * x, 1 + 0 * x])).sum(),
                        lambda x: sum(mp.lu_solve(matrix(mp.sin(x)), mp.matrix([x, x * x, 1]))), 0.2),
    "a Cholesky factor": (lambda x: xp.linalg.cholesky(A + x * x * B)[2, 1],
                          lambda x: mp.cholesky(matrix(x * x))[2, 1], 0.2),
    "a loop": (lambda x: hesse.scan(lambda c, _: (xp.sin(c) * x + c / (1 + c * c), None), x, None, length=5)[0],
               iterated, 0.6),
}


@pytest.mark.parametrize("name", SCALARS)
def test_coefficients_to_order_ten(name: str) -> None:
    function, reference, x = SCALARS[name]
    with mp.workdps(60):
        wanted = np.array([float(c) for c in mp.taylor(reference, mp.mpf(x), ORDER)])
    found = func.taylor(function, np.array(x), np.array(1.0), ORDER)
    assert [c.shape for c in found] == [()] * (ORDER + 1)
    np.testing.assert_allclose(found, wanted, rtol=2e-13, atol=2e-14 * np.abs(wanted).max())


def test_derivatives_are_factorials_of_the_coefficients() -> None:
    x = np.array([0.3, 1.2])
    y, terms = func.jet(np.sin, (x,), ([np.ones(2), *[np.zeros(2)] * 9],))
    np.testing.assert_allclose(y, np.sin(x), rtol=1e-15)
    assert len(terms) == 10
    for k, term in enumerate(terms, start=1):
        np.testing.assert_allclose(term, np.sin(x + k * np.pi / 2), rtol=1e-12, atol=1e-14)


def test_factorials_are_exact() -> None:
    # x(t) = t^20 of x**1: y_20 = 20! / 20! * 20!, which a factorial by way of lgamma would miss
    series = [np.zeros(()) for _ in range(19)]
    _, terms = func.jet(lambda x: x * 1.0, (np.array(0.0),), ([*series, np.array(float(math.factorial(20)))],))
    assert terms[-1] == float(math.factorial(20))


def test_a_curve_of_several_arguments() -> None:
    # x(t) = 1 + 2 t + t^2, y(t) = 3 - t:  x y = 3 + 5 t + t^2 - t^3
    x, y = np.array(1.0), np.array(3.0)
    value, terms = func.jet(lambda x, y: x * y, (x, y), ([np.array(2.0), np.array(2.0), np.array(0.0)],
                                                         [np.array(-1.0), np.array(0.0), np.array(0.0)]))
    assert value == 3.0
    np.testing.assert_allclose(terms, [5.0, 2.0, -6.0], rtol=0, atol=0)


def test_against_jax() -> None:
    jet = pytest.importorskip("jax.experimental.jet", reason="JAX is compared with; it is an optional peer")
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    x, terms = np.array([0.3, 0.8]), [np.array([1.0, -0.5]), np.array([0.2, 0.4]), np.array([-1.0, 0.3])]
    with jax.enable_x64(True):
        wanted = jet.jet(lambda x: jnp.exp(jnp.sin(x)) * x[0], (x,), (terms,))
    found = func.jet(lambda x: xp.exp(xp.sin(x)) * x[0], (x,), (terms,))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-13)
    for a, b in zip(found[1], wanted[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_trees_in_and_out() -> None:
    at = {"p": Pair(np.array([0.5, 1.0]), np.array(2.0))}
    along = {"p": Pair(np.array([1.0, 0.0]), np.array(1.0))}
    found = func.taylor(lambda t: {"s": (t["p"].a * t["p"].b).sum(), "n": [t["p"].b ** 2]}, at, along, 3)
    # (0.5 + t + 1) (2 + t) and (2 + t)^2
    np.testing.assert_allclose([c["s"] for c in found], [3.0, 3.5, 1.0, 0.0], atol=1e-15)
    np.testing.assert_allclose([c["n"][0] for c in found], [4.0, 4.0, 1.0, 0.0], atol=1e-15)


def test_float32_stays_float32() -> None:
    found = func.taylor(lambda x: xp.exp(x) * x, np.array([0.5, 1.0], np.float32), np.ones(2, np.float32), 4)
    assert {c.dtype for c in found} == {np.dtype(np.float32)}


def test_it_nests_in_transforms_and_they_in_it() -> None:
    x, v = np.array([0.4, -0.3]), np.array([1.0, 2.0])

    def f(z: Any) -> Any:
        return xp.exp(z[0] * z[1]) + xp.sin(z).sum()

    second = func.taylor(f, x, v, 2)[2]
    np.testing.assert_allclose(2 * second, v @ func.hessian(f)(x) @ v, rtol=1e-13)
    third = func.grad(lambda z: func.taylor(f, z, v, 2)[2])(x)
    nested = func.grad(lambda z: func.jvp(lambda u: func.jvp(f, (u,), (v,))[1], (z,), (v,))[1] / 2)(x)
    np.testing.assert_allclose(third, nested, rtol=1e-12)
    points = np.stack([x, 2 * x, -x])
    many = func.vmap(lambda z: func.taylor(f, z, v, 3)[3])(points)
    np.testing.assert_allclose(many, [func.taylor(f, p, v, 3)[3] for p in points], rtol=1e-13)
    along = func.taylor(lambda z: func.grad(f)(z), x, v, 3)[1]
    np.testing.assert_allclose(along, func.hessian(f)(x) @ v, rtol=1e-13)


def test_the_cost_grows_with_the_square_of_the_order() -> None:
    def nodes(order: int) -> int:
        trace = Trace()
        x = trace.input(np.array(0.3), "x")
        with trace:
            y = xp.exp(xp.sin(x) * x)
        propagate([y.node], {x.node: [trace.constant(1.0).node]}, order)
        return len(trace.builder.nodes)

    assert nodes(32) < 5 * nodes(16)  # nested tangents would multiply it by 2^16


def test_a_long_chain_does_not_recurse() -> None:
    trace = Trace()
    x = trace.input(np.array(1.0), "x")
    y = x
    with trace:
        for _ in range(20_000):
            y = y * 1.0001
    found = propagate([y.node], {x.node: [trace.constant(1.0).node]}, 2)
    assert [len(row) for row in found] == [3]


ERRORS: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "no tuples": (RuntimeError, "one entry for each argument", lambda: func.jet(np.sin, np.ones(2), np.ones(2))),
    "no list of terms": (RuntimeError, "list of derivatives", lambda: func.jet(np.sin, (np.ones(2),), (np.ones(2),))),
    "other lengths": (RuntimeError, "inconsistent lengths",
                      lambda: func.jet(lambda x, y: x * y, (np.ones(2),) * 2, ([np.ones(2)], []))),
    "another shape": (RuntimeError, "a term has shape", lambda: func.jet(np.sin, (np.ones(2),), ([np.ones(3)],))),
    "another nesting": (RuntimeError, "a term nests as", lambda: func.taylor(np.sin, np.ones(2), (np.ones(2),), 2)),
    "a negative order": (ValueError, "order must not be negative",
                         lambda: func.taylor(np.sin, np.ones(2), np.ones(2), -1)),
    "a fraction of an order": (TypeError, "order must be an integer",
                               lambda: func.taylor(np.sin, np.ones(2), np.ones(2), 1.5)),
    "integers": (RuntimeError, "floating point", lambda: func.taylor(lambda x: x * 2, np.arange(2), np.arange(2), 1)),
    "no tensor": (RuntimeError, "only tensors", lambda: func.taylor(lambda x: "x", np.ones(2), np.ones(2), 1)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    kind, text, call = ERRORS[name]
    with pytest.raises(kind, match=text) as found:
        call()
    assert isinstance(found.value, hesse.HesseError)

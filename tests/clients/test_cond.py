"""`hesse.cond`: eager and traced, its derivative that of the branch taken, under vmap and inside loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.numpy as xp
from hesse import func


def safe_log(x: Any) -> Any:
    return hesse.cond(x > 0.0, xp.log, lambda z: z**2, x)


def test_eager_calls_one_function_only() -> None:
    called = []
    found = hesse.cond(np.array(1.0) > 0, lambda x: called.append("t") or x, lambda x: called.append("f") or -x, 3.0)
    assert (found, called) == (3.0, ["t"])
    assert hesse.cond(0, lambda: 1, lambda: 2) == 2


@pytest.mark.parametrize("x", [0.7, -0.7, 0.0])
def test_derivatives_are_those_of_the_branch_taken(x: float) -> None:
    at = np.array(x)
    wanted = [np.log(x), 1 / x, -1 / x**2, 2 / x**3] if x > 0 else [x**2, 2 * x, 2.0, 0.0]
    function, found = safe_log, []
    for _ in range(4):
        found.append(hesse.function(function)(at))
        function = func.grad(function)
    np.testing.assert_allclose(found, wanted, rtol=1e-13)
    for strategy in ("forward-over-reverse", "reverse-over-reverse", "reverse-over-forward", "forward-over-forward"):
        outer, inner = strategy.split("-over-")
        modes = {"forward": func.jacfwd, "reverse": func.jacrev}
        np.testing.assert_allclose(modes[outer](modes[inner](safe_log))(at), wanted[2], rtol=1e-13)


def test_no_nan_of_the_other_branch() -> None:
    def f(x: Any) -> Any:
        total = xp.sum(x**2)
        return hesse.cond(total > 0.0, lambda z: xp.sqrt(z) * 3.0, lambda z: z * 5.0, total)

    np.testing.assert_array_equal(func.grad(f)(np.zeros(2)), np.zeros(2))
    np.testing.assert_array_equal(func.hessian(f)(np.zeros(2)), 10.0 * np.eye(2))


def test_a_branch_is_not_frozen() -> None:
    g = hesse.function(safe_log)
    assert g(np.array(2.0)) == pytest.approx(np.log(2.0))
    assert g(np.array(-2.0)) == 4.0
    assert g.id(np.array(2.0)) == g.id(np.array(-2.0))


def test_each_example_chooses() -> None:
    x = np.array([0.5, -2.0, 3.0, 0.0])
    np.testing.assert_allclose(func.vmap(safe_log)(x), [np.log(0.5), 4.0, np.log(3.0), 0.0], rtol=1e-15)
    np.testing.assert_allclose(func.vmap(func.grad(safe_log))(x), [2.0, -4.0, 1 / 3, 0.0], rtol=1e-15)
    slope = func.grad(lambda z: func.vmap(safe_log)(z).sum())(x)
    np.testing.assert_allclose(slope, [2.0, -4.0, 1 / 3, 0.0], rtol=1e-15)


def test_trees() -> None:
    def f(x: Any) -> Any:
        found = hesse.cond(x.sum() > 0, lambda z: {"a": z, "b": (z.sum(), 1.0, None)},
                           lambda z: {"a": -z, "b": (0.0 * z.sum(), 2.0, None)}, x)
        assert found["b"][2] is None
        return (found["a"] * found["b"][1]).sum() + found["b"][0]

    np.testing.assert_array_equal(func.grad(f)(np.array([1.0, 2.0])), [2.0, 2.0])
    np.testing.assert_array_equal(func.grad(f)(np.array([-1.0, -2.0])), [-2.0, -2.0])


def test_inside_a_loop() -> None:
    def f(x: Any) -> Any:
        return hesse.fori_loop(0, 6, lambda i, c: hesse.cond(c > 1.0, lambda z: z * 0.5, lambda z: z * 3.0, c), x)

    # 0.8 -> 2.4 -> 1.2 -> 0.6 -> 1.8 -> 0.9 -> 2.7: three times 3, three times a half
    assert hesse.function(f)(np.array(0.8)) == pytest.approx(2.7)
    assert func.grad(f)(np.array(0.8)) == pytest.approx(3.375)


@pytest.mark.parametrize(("a", "b", "dtype"), [
    (lambda x: x, lambda x: 1.0, np.float32),
    (lambda x: 1, lambda x: x, np.float32),
    (lambda x: x, lambda x: xp.astype(x, np.float64), np.float64),
    (lambda x: 1, lambda x: 2, np.int64),
    (lambda x: True, lambda x: False, np.bool_),
])
def test_dtypes(a: Callable[..., Any], b: Callable[..., Any], dtype: Any) -> None:
    g = hesse.function(lambda x: hesse.cond(x > 0, a, b, x))
    assert g(np.array(1.0, np.float32)).dtype == dtype
    assert g(np.array(-1.0, np.float32)).dtype == dtype


ERRORS: dict[str, tuple[type[Exception], str, Callable[[Any], Any]]] = {
    "no function": (TypeError, "true_fn must be a function", lambda x: hesse.cond(x[0] > 0, 1.0, xp.sin, x)),
    "a vector": (TypeError, r"predicate has shape \[2\]", lambda x: hesse.cond(x > 0, xp.sin, xp.cos, x)),
    "other nestings": (RuntimeError, "both must nest alike", lambda x: hesse.cond(x[0] > 0, lambda z: (z,), xp.cos, x)),
    "other shapes": (RuntimeError, "both must be alike", lambda x: hesse.cond(x[0] > 0, xp.sum, xp.cos, x)),
    "a string": (TypeError, "false_fn returns a str", lambda x: hesse.cond(x[0] > 0, xp.cos, lambda z: "x", x)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name: str) -> None:
    kind, text, call = ERRORS[name]
    with pytest.raises(kind, match=text) as found:
        hesse.function(lambda x: call(x) * 1.0)(np.ones(2))
    assert isinstance(found.value, hesse.HesseError)


def test_a_vector_is_refused_outside_too() -> None:
    with pytest.raises(TypeError, match="must be a scalar"):
        hesse.cond(np.ones(2) > 0, np.sin, np.cos, np.ones(2))

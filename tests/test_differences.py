"""Rows of docs/differences-from-torch.md that need no torch to be shown."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hesse
import hesse.numpy as xp
from hesse import functional, special

STRATEGIES = ("forward-over-reverse", "reverse-over-reverse", "forward-over-forward", "reverse-over-forward")
AT_ZERO = np.array([0.0, 1.0])
CUT = {"float": float, "int": int, "numpy": np.asarray}

# f, the point, its Hessian by hand
VALUES: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "log, not taken": (lambda x: xp.sum(xp.where(x > 0, xp.log(x), 0.0)), AT_ZERO, [[0, 0], [0, -1]]),
    "sqrt, not taken": (lambda x: xp.sum(xp.where(x > 0, xp.sqrt(x), 0.0)), AT_ZERO, [[0, 0], [0, -0.25]]),
    "structural zeros": (lambda x: (x**3).sum(), np.array([np.inf, 1.0]), [[np.inf, 0], [0, 6]]),
    "norm at 0": (lambda x: xp.linalg.norm(x), np.zeros(2), [[0, 0], [0, 0]]),
    "hypot": (lambda x: xp.hypot(x[0], x[1]), np.zeros(2), [[0, 0], [0, 0]]),
    "xlogy": (lambda x: xp.sum(special.xlogy(x, x)), AT_ZERO, [[0, 0], [0, 1]]),
    "singular, not taken": (lambda x: xp.where(x[0] > 1, xp.linalg.slogdet(xp.outer(x, x))[1], (x**2).sum()), AT_ZERO,
                            [[2, 0], [0, 2]]),
    "0**0": (lambda x: x[0] ** x[1], np.zeros(2), [[0, 0], [0, 0]]),
}


@pytest.mark.parametrize("name", VALUES)
def test_hessian(name: str) -> None:
    f, x, expected = VALUES[name]
    np.testing.assert_array_equal(functional.hessian(f, x), expected)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["norm at 0", "0**0"])
def test_every_strategy_gives_the_same_subgradient(name: str, strategy: str) -> None:
    f, x, expected = VALUES[name]
    np.testing.assert_array_equal(hesse.function(f).hessian(x, strategy=strategy), expected)


def third(create_graph: bool) -> Any:
    return functional.jacobian(
        lambda x: functional.hessian(lambda y: (y**3).sum(), x, create_graph=create_graph), np.ones(2)
    )


def test_detaching_warns_with_the_name_of_the_flag() -> None:
    with pytest.warns(hesse.DetachedWarning, match="create_graph"):
        assert not third(create_graph=False).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert third(create_graph=True)[0, 0, 0] == 6.0


@pytest.mark.parametrize("flags", [{}, {"create_graph": True}, {"vectorize": True}])
def test_flags_do_not_change_values(flags: dict[str, bool]) -> None:
    found = functional.hessian(lambda x: (x**3).sum(), AT_ZERO, **flags)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, np.diag(6 * AT_ZERO))


def test_a_reused_function_takes_the_branch_of_its_inputs() -> None:
    g = hesse.function(lambda x: (x**2).sum() if x.sum() > 0 else (x**3).sum())
    for x, expected in ((1.0, 2.0), (-1.0, -6.0), (2.0, 2.0)):
        np.testing.assert_array_equal(g.hessian(np.array([x])), [[expected]])


@pytest.mark.parametrize("name", CUT)
def test_a_cut_graph_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="would cut the graph") as caught:
        functional.hessian(lambda x: CUT[name](x.sum()), AT_ZERO)
    assert caught.value.code == "cut-graph"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("device", "words"), [("cpu:1", "threads=1"), ("cuda", "available: 'cpu'")])
def test_devices_are_not_counts(device: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        hesse.function(lambda x: x.sum()).hessian(AT_ZERO, device=device)


def test_an_input_is_not_assigned_to() -> None:
    def f(x: Any) -> Any:
        x[0] = 1.0
        return x.sum()

    x = np.ones(2)
    with pytest.raises(TypeError, match="copy") as caught:
        functional.hessian(f, x)
    assert caught.value.code == "cut-graph"  # type: ignore[attr-defined]


def test_repeated_eigenvalues_are_said_to_be_repeated() -> None:
    with pytest.raises(hesse.HesseError) as caught:
        functional.hessian(lambda x: xp.linalg.eigh(xp.reshape(x, (2, 2)))[1][0, 0] ** 4, np.eye(2).ravel())
    assert caught.value.code == "repeated-eigenvalues"
    found = functional.hessian(lambda x: xp.sum(xp.linalg.eigvalsh(xp.reshape(x, (2, 2))) ** 2), np.eye(2).ravel())
    np.testing.assert_allclose(found[0, 0], 2.0)


def test_derivatives_where_torch_offers_none() -> None:
    np.testing.assert_allclose(functional.hessian(lambda x: special.gammainc(2.0, x).sum(), np.array([1.5])),
                               [[np.exp(-1.5) * (1.0 - 1.5)]])
    with pytest.raises(hesse.HesseError, match="gammainc"):
        functional.hessian(lambda x: special.gammainc(x, 1.5).sum(), np.array([2.0]))

"""Verification passes what is right, in every layout, and sees what is wrong: a result that was tampered with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend.verification import verifier
from hesse_engine.compute import Options, compute, prepare
from hesse_engine.errors import HesseError
from hesse_engine.frontends.expression import parse
from hesse_engine.ir.graph import Array, Graph
from hesse_engine.result import Result, SparseMatrix

N = 30
SCALAR = "sum(sin(x[1:] * x[:-1]) * exp(x[1:])) + sum(log(x)) + exp(sum(y * x) / 10)"
CHAIN = "sum(sin(x[1:] * x[:-1]) * exp(x[1:])) + sum(log(x))"
MANY = "sin(x[0] * y) * concatenate([x[1:], y[:1]])"


def graph_of(expression: str, dtype: str = "float64") -> Graph:
    names = [name for name in "xy" if name in expression.replace("exp", "")]
    return parse(expression, [(name, (N,), np.dtype(dtype)) for name in names])


def points(graph: Graph) -> list[Array]:
    rng = np.random.default_rng(5)
    return [(rng.random(N) + 0.2).astype(n.dtype) for n in graph.inputs]


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dense": ("hessian", SCALAR, {}),
    "dense of one input": ("hessian", SCALAR, {"argnums": 0}),
    "sweep": ("hessian", SCALAR, {"strategy": "forward-over-reverse"}),
    "func": ("hessian", SCALAR, {"api": "func", "argnums": (0, 1)}),
    "csr": ("hessian", CHAIN, {"layout": "csr"}),
    "coo": ("hessian", SCALAR, {"layout": "coo"}),
    "packed": ("hessian", SCALAR, {"layout": "packed"}),
    "rows": ("hessian", SCALAR, {"rows": (3, -1, 3)}),
    "rows and columns": ("hessian", SCALAR, {"rows": (3, 40), "columns": (50, 2, -1)}),
    "rows of csr": ("hessian", CHAIN, {"rows": (3, 4, 29), "layout": "csr"}),
    "triple": ("value_grad_hessian", SCALAR, {}),
    "jacobian": ("jacobian", MANY, {}),
    "jacobian, csr": ("jacobian", MANY, {"layout": "csr", "argnums": 1}),
    "jacobian, columns": ("jacobian", MANY, {"columns": (0, 1, 59)}),
    "hvp": ("hvp", SCALAR, {}),
    "vhp": ("vhp", CHAIN, {}),
}


def vectors(operation: str, graph: Graph) -> list[Array] | None:
    if operation not in ("hvp", "vhp"):
        return None
    return [np.linspace(-1.0, 2.0, N).astype(n.dtype) for n in graph.inputs]


@pytest.mark.parametrize("case", CASES)
def test_what_is_right_passes(case: str) -> None:
    operation, expression, options = CASES[case]
    graph = graph_of(expression)
    found = compute(graph, operation, points(graph), vectors(operation, graph), Options(**options, verify=True))
    report = found.verification
    assert report is not None
    assert report["suspicious"] == []
    assert report["directional_residual"] < 1e-12
    assert report["difference_residual"] < 1e-7
    assert report["difference_error"] < 1e-4
    assert ("symmetry_defect" in report) == (operation in ("hessian", "value_grad_hessian") and "rows" not in options)
    assert report.get("symmetry_defect", 0.0) < 1e-13
    if operation != "jacobian":
        assert report["slope_residual"] < 1e-7


def tampered(value: Any, at: int, factor: float) -> Any:
    """`value` with the element `at` of its first array changed by `factor` times its largest."""
    if isinstance(value, SparseMatrix):
        return replace(value, data=tampered(value.data, at, factor))
    if isinstance(value, list):
        return [tampered(value[0], at, factor), *value[1:]]
    found = value.copy()
    flat = found.reshape(-1)
    flat[at] += factor * np.abs(flat).max()
    return found


@pytest.mark.parametrize("factor", [1.0, 1e-4])
@pytest.mark.parametrize("case", CASES)
def test_one_wrong_element_is_seen(case: str, factor: float) -> None:
    """The checker is given a matrix one element of which is off by a ten-thousandth of the largest."""
    operation, expression, options = CASES[case]
    graph = graph_of(expression)
    prepared = prepare(graph, operation, Options(**options))
    arrays, v = points(graph), vectors(operation, graph)
    result = prepared(arrays, v)
    check = verifier(prepared.problem, prepared.row)
    assert check(result, arrays, v or [])["suspicious"] == []
    wrong = Result(tampered(result.value, 1, factor), result.output, result.aux, {}, result.gradient)
    assert "directional_residual" in check(wrong, arrays, v or [])["suspicious"]


def test_an_asymmetric_hessian_is_seen() -> None:
    graph = graph_of(SCALAR)
    for layout in ("dense", "csr"):
        prepared = prepare(graph, "hessian", Options(layout=layout))
        result = prepared(points(graph))
        check = verifier(prepared.problem, prepared.row)
        report = check(Result(tampered(result.value, 1, 1e-3)), points(graph), [])
        assert "symmetry_defect" in report["suspicious"]
        assert 2e-4 < report["symmetry_defect"] < 2e-3


def test_a_wrong_gradient_is_seen() -> None:
    graph = graph_of(SCALAR)
    prepared = prepare(graph, "value_grad_hessian")
    result = prepared(points(graph))
    check = verifier(prepared.problem, prepared.row)
    wrong = replace(result, gradient=[result.gradient[0] * 1.001, result.gradient[1]])
    assert check(wrong, points(graph), [])["suspicious"] == ["slope_residual"]


def test_a_nan_is_seen() -> None:
    graph = parse("sum(x**1.5)", [("x", (3,), np.dtype("float64"))])
    report = compute(graph, "hessian", [np.array([1.0, 0.0, 2.0])], options=Options(verify=True)).verification
    assert report is not None
    assert "directional_residual" in report["suspicious"]


def test_single_precision_has_limits_of_its_own() -> None:
    graph = graph_of(SCALAR, "float32")
    report = compute(graph, "hessian", points(graph), options=Options(verify=True)).verification
    assert report is not None
    assert report["suspicious"] == []
    assert 1e-9 < report["directional_residual"] < 1e-5


def test_the_same_inputs_give_the_same_numbers() -> None:
    graph = graph_of(SCALAR)
    prepared = prepare(graph, "hessian", Options(verify=True, tier="reference"))
    first, again = prepared(points(graph)).verification, prepared(points(graph)).verification
    other = prepared([x * 1.1 for x in points(graph)]).verification
    assert first == again != other


def test_a_linear_function_has_nothing_to_hide() -> None:
    graph = parse("sum(x * 3)", [("x", (5,), np.dtype("float64"))])
    report = compute(graph, "hessian", [np.ones(5)], options=Options(verify=True)).verification
    assert report is not None
    assert report["suspicious"] == []
    assert report["directional_residual"] == 0.0


@pytest.mark.parametrize(("operation", "options"), [
    ("grad", {}), ("hessian_diag", {}), ("laplacian", {}), ("jvp", {}),
    ("hessian", {"layout": "diag"}), ("hessian", {"batch": 3}), ("hvp", {"tangents": 2}),
])
def test_what_cannot_be_verified_is_said(operation: str, options: dict[str, Any]) -> None:
    with pytest.raises(HesseError, match="verify") as caught:
        prepare(graph_of(SCALAR), operation, Options(**options, verify=True))
    assert (caught.value.code, caught.value.pointer) == ("bad-option", "/options/verify")


def test_a_hessian_of_several_outputs_cannot() -> None:
    graph = graph_of(MANY)
    with pytest.raises(HesseError, match="scalar") as caught:
        compute(graph, "hessian", points(graph), options=Options(api="func", verify=True))
    assert caught.value.code == "bad-option"
    weighted = compute(graph, "hessian", points(graph), weights=[np.ones(N)], options=Options(verify=True))
    assert weighted.verification is not None
    assert weighted.verification["suspicious"] == []

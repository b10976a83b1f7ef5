"""Blocks of rows are the rows of the whole matrix, whatever the operation, the choice and the block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hesse_engine.compute import Options, compute
from hesse_engine.errors import HesseError
from hesse_engine.frontends.expression import parse
from hesse_engine.ir.graph import Graph
from hesse_engine.row_blocks import RowBlocks, prepare_rows

N = 23
RNG = np.random.default_rng(7)
SCALAR = "sum(sin(x) * x) * exp(sum(x * y) / 20) + sum(x) * sum(y**3)"
TALL = "x[0] * sin(concatenate([x, x * x, x + y, y]))"


def graph_of(expression: str, dtypes: tuple[str, str] = ("float64", "float64")) -> Graph:
    return parse(expression, [("x", (N,), np.dtype(dtypes[0])), ("y", (N,), np.dtype(dtypes[1]))])


def points(dtypes: tuple[str, str] = ("float64", "float64")) -> list[Any]:
    return [(RNG.random(N) + 0.1).astype(d) for d in dtypes]


def in_blocks(blocks: RowBlocks, inputs: list[Any], height: int, weights: Any = None) -> Any:
    m = blocks.shape[0]
    found = [blocks(inputs, at, min(at + height, m), weights) for at in range(0, m, height)]
    return np.concatenate(found) if found else np.zeros(blocks.shape, blocks.dtype)


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "hessian": ("hessian", SCALAR, {}),
    "hessian of one input": ("hessian", SCALAR, {"argnums": 1}),
    "hessian, rows": ("hessian", SCALAR, {"rows": (3, -1, 3, 40)}),
    "hessian, rows and columns": ("hessian", SCALAR, {"rows": (30, 2), "columns": (45, 0, -2)}),
    "hessian, no rows": ("hessian", SCALAR, {"rows": ()}),
    "hessian, reverse": ("hessian", SCALAR, {"strategy": "reverse-over-reverse"}),
    "hessian, forward": ("hessian", SCALAR, {"strategy": "forward-over-forward"}),
    "hessian of several outputs": ("hessian", TALL, {"api": "func", "argnums": (0, 1)}),
    "jacobian": ("jacobian", TALL, {}),
    "jacobian, forward": ("jacobian", TALL, {"strategy": "forward"}),
    "jacobian, reverse": ("jacobian", TALL, {"strategy": "reverse"}),
    "jacobian, rows and columns": ("jacobian", TALL, {"rows": (80, 0), "columns": (5, 5, -1)}),
    "jacobian, forward rows": ("jacobian", TALL, {"strategy": "forward", "rows": (80, 0), "columns": (5, 30)}),
    "jacobian, func": ("jacobian", TALL, {"api": "func", "argnums": (1, 0)}),
}


@pytest.mark.parametrize("height", [1, 5, 1000])
@pytest.mark.parametrize("case", CASES)
def test_blocks_are_rows_of_the_whole(case: str, height: int) -> None:
    operation, expression, options = CASES[case]
    graph, inputs = graph_of(expression), points()
    blocks = prepare_rows(graph, operation, Options(**options))
    m = blocks.shape[0]
    whole = {"rows": tuple(range(m)), **options}  # the selection of everything, as one matrix
    wanted = compute(graph, operation, inputs, options=Options(**whole)).value
    found = in_blocks(blocks, inputs, height)
    assert found.shape == wanted.shape == blocks.shape
    assert found.dtype == wanted.dtype == blocks.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-11)


def test_a_closed_form() -> None:
    """f = exp(c' x): H = f c c'."""
    graph = parse("exp(sum(c * x))", [("c", (300,), np.dtype("float64")), ("x", (300,), np.dtype("float64"))])
    c, x = np.linspace(-1, 1, 300), RNG.random(300) / 100
    blocks = prepare_rows(graph, "hessian", Options(argnums=1), block_bytes=300 * 8 * 7)
    assert blocks.height == 7
    found = np.concatenate([blocks([c, x], at, min(at + 7, 300)) for at in range(0, 300, 7)])
    np.testing.assert_allclose(found, np.exp(c @ x) * np.outer(c, c), rtol=1e-13)


@pytest.mark.parametrize("api", ["functional", "func"])
@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float32", "float64")])
def test_dtypes_are_those_of_chosen_rows(dtypes: tuple[str, str], api: str) -> None:
    for operation, expression in (("hessian", SCALAR), ("jacobian", TALL)):
        graph, inputs = graph_of(expression, dtypes), points(dtypes)
        options = Options(api=api, argnums=(0, 1))
        blocks = prepare_rows(graph, operation, options)
        found = blocks(inputs, 0, blocks.shape[0])
        wanted = compute(graph, operation, inputs, options=replace(options, rows=tuple(range(blocks.shape[0])))).value
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


def test_weights() -> None:
    graph, inputs = graph_of(TALL), points()
    weights = [RNG.random(4 * N)]
    blocks = prepare_rows(graph, "hessian", Options(weighted=True))
    wanted = compute(graph, "hessian", inputs, weights=weights, options=Options(rows=tuple(range(2 * N)))).value
    np.testing.assert_allclose(in_blocks(blocks, inputs, 9, weights), wanted, rtol=1e-11, atol=1e-12)


def test_a_tall_jacobian_goes_by_columns() -> None:
    """10 columns are fewer passes than 4000 rows; a wide one goes by rows."""
    dtype = np.dtype("float64")
    tall = parse("sin(sum(x) * y)", [("x", (10,), dtype), ("y", (4000,), dtype)])
    assert prepare_rows(tall, "jacobian", Options(argnums=0)).strategy.startswith("forward")
    wide = parse("sin(x[:5] * sum(x))", [("x", (4000,), dtype)])
    assert prepare_rows(wide, "jacobian").strategy.startswith("reverse")


def test_blocks_keep_to_the_budget() -> None:
    n, budget = 2000, 4 << 20
    graph = parse("exp(sum(x * x) / 2000)", [("x", (n,), np.dtype("float64"))])
    blocks = prepare_rows(graph, "hessian", Options(max_memory_bytes=budget))
    assert blocks.shape == (n, n)
    assert n * n * 8 > 7 * budget
    assert 2 * blocks.height * n * 8 < blocks.predicted_bytes <= budget
    assert blocks.describe()["blocks"] == -(-n // blocks.height) > 1
    with pytest.raises(HesseError) as caught:
        prepare_rows(graph, "hessian", Options(max_memory_bytes=n * 8))
    assert caught.value.code == "over-memory-budget"


@pytest.mark.parametrize(("operation", "options", "code"), [
    ("hvp", {}, "bad-option"),
    ("value_grad_hessian", {}, "bad-option"),
    ("nothing", {}, "bad-option"),
    ("hessian", {"layout": "csr"}, "bad-option"),
    ("hessian", {"batch": 2}, "bad-option"),
    ("hessian", {"aux": 1}, "bad-option"),
    ("hessian", {"verify": True}, "bad-option"),
    ("hessian", {"rows": (46,)}, "bad-rows"),
    ("hessian", {"columns": (-47,)}, "bad-columns"),
])
def test_what_has_no_blocks_of_rows(operation: str, options: dict[str, Any], code: str) -> None:
    with pytest.raises(HesseError) as caught:
        prepare_rows(graph_of(SCALAR), operation, Options(**options))
    assert caught.value.code == code


def test_a_row_that_is_not_finite_is_named() -> None:
    graph = parse("sum(x**1.5)", [("x", (40,), np.dtype("float64"))])
    x = np.ones(40)
    x[33] = 0.0
    blocks = prepare_rows(graph, "hessian", Options(nonfinite="error"))
    with pytest.raises(HesseError, match=r"at index \[30, 33\]") as caught:
        blocks([x], 30, 40)
    assert caught.value.code == "nonfinite-result"

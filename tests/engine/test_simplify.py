"""Simplification: exact (bit for bit, on special values too), and as effective as claimed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphs import graph_of, op
from hesse_engine.backend import reference
from hesse_engine.ir.check import check
from hesse_engine.ir.graph import Graph, Node
from hesse_engine.ir.show import text
from hesse_engine.ir.walk import reachable
from hesse_engine.simplify.passes import FOLD_ELEMENTS, PASSES, fold_constants, simplify
from hesse_engine.simplify.rules import RULES

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1e308, -1e308])


def bits(array: Any) -> bytes:
    """The bytes of an array, all NaNs made alike."""
    array = np.array(array)
    array[np.isnan(array)] = np.nan
    return array.tobytes()


def same_values(graph: Graph, other: Graph, *inputs: Any) -> None:
    for a, b in zip(
        reference.run(graph.outputs, dict(zip(graph.inputs, inputs, strict=True))),
        reference.run(other.outputs, dict(zip(other.inputs, inputs, strict=True))),
        strict=True,
    ):
        assert bits(a) == bits(b)


# (function of two nodes, number of nodes left besides the inputs)
EXACT: dict[str, tuple[Callable[[Node, Node], Any], int]] = {
    "x*1": (lambda x, y: x * 1.0, 0),
    "1*x": (lambda x, y: 1.0 * x, 0),
    "x*-1": (lambda x, y: x * -1.0, 1),
    "x/1": (lambda x, y: x / 1.0, 0),
    "x*x": (lambda x, y: x * x, 1),
    "(-x)*y": (lambda x, y: (-x) * y, 2),
    "(-x)*(-y)": (lambda x, y: (-x) * (-y), 1),
    "(-x)/y": (lambda x, y: (-x) / y, 2),
    "x+(-y)": (lambda x, y: x + (-y), 1),
    "(-x)+y": (lambda x, y: (-x) + y, 1),
    "x-(-y)": (lambda x, y: x - (-y), 1),
    "-(-x)": (lambda x, y: op("negative", op("negative", x)), 0),
    "x+x": (lambda x, y: x + x, 4),
    "square(-x)": (lambda x, y: op("square", -x), 1),
    "cos(-x)": (lambda x, y: op("cos", -x), 1),
    "abs(-x)": (lambda x, y: op("abs", -x), 1),
    "where(c,x,x)": (lambda x, y: op("where", x > y, x, x), 0),
    "slice of slice": (lambda x, y: op("slice", op("slice", x, start=(1,), step=(2,), count=(5,)), start=(3,),
                                       step=(-1,), count=(2,)), 1),
    "slice of unslice": (lambda x, y: op("slice", op("unslice", x, shape=(40,), start=(2,), step=(3,)), start=(2,),
                                         step=(3,), count=(12,)), 0),
    "constants fold": (lambda x, y: x * (y.builder.constant(2.0) * 3.0 - 1.0), 4),
    "common expressions": (lambda x, y: op("sin", x * y) + op("sin", x * y), 6),
}


@pytest.mark.parametrize("name", EXACT)
def test_rules_are_exact_and_effective(name: str) -> None:
    f, left = EXACT[name]
    graph = graph_of(f, SPECIAL.shape, SPECIAL.shape)
    simple = simplify(graph)
    check(simple)
    for shift in range(3):
        same_values(graph, simple, SPECIAL, np.roll(SPECIAL, shift))
    assert len([n for n in reachable(simple.outputs) if n.op != "input"]) == left, text(simple)


INEXACT: dict[str, Callable[[Node], Node]] = {
    "x+0 keeps the sign of zero": lambda x: x + 0.0,
    "0-x keeps the sign of zero": lambda x: 0.0 - x,
    "x*0 keeps NaN": lambda x: x * 0.0,
    "x-x keeps NaN": lambda x: x - x,
    "x/x keeps NaN": lambda x: x / x,
}


@pytest.mark.parametrize("name", INEXACT)
def test_what_is_not_exact_is_left_alone(name: str) -> None:
    graph = graph_of(INEXACT[name], SPECIAL.shape)
    same_values(graph, simplify(graph), SPECIAL)


def test_random_graphs_keep_their_values() -> None:
    rng = np.random.default_rng(1)
    unary = ["negative", "square", "abs", "cos", "sin", "exp", "tanh", "sigmoid"]
    binary = ["add", "subtract", "multiply", "divide", "maximum"]
    for _ in range(60):

        def f(x: Node, y: Node) -> Node:
            pool: list[Any] = [x, y, x.builder.full(x.shape, 1.0, x.dtype), x.builder.full(x.shape, -1.0, x.dtype)]
            for _ in range(25):
                a, b = (pool[rng.integers(len(pool))] for _ in range(2))
                if rng.random() < 0.4:
                    pool.append(op(unary[rng.integers(len(unary))], a))
                else:
                    pool.append(op(binary[rng.integers(len(binary))], a, b))
            return op("sum", op("stack", *pool[-5:]), axis=0)

        graph = graph_of(f, SPECIAL.shape, SPECIAL.shape)
        simple = simplify(graph)
        check(simple)
        same_values(graph, simple, SPECIAL, np.roll(SPECIAL, 5))


def test_folding_has_a_budget() -> None:
    side = int(FOLD_ELEMENTS**0.5) + 1

    def f(x: Node) -> Node:
        a = x.builder.constant(np.ones((side, 2)))
        return op("sum", op("matmul", a, op("transpose", a))) * x

    graph = graph_of(f, ())
    assert any(n.op == "contract" for n in reachable(fold_constants(graph.outputs)))


def test_guards_are_simplified_with_the_outputs() -> None:
    graph = graph_of(lambda x: x * 1.0, ())
    guarded = Graph(graph.inputs, graph.outputs, ((graph.inputs[0] * 1.0 > 0.0, True),))
    simple = simplify(guarded)
    assert simple.guards[0][0].args[0] is simple.inputs[0]


def test_the_tables_name_what_exists() -> None:
    from hesse_engine.ir.rows import ROWS

    assert set(RULES) <= set(ROWS)
    assert list(PASSES) == ["fold-constants", "exact-rules", "pass-factors-by"]

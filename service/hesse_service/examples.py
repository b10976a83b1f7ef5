"""Requests shown in the OpenAPI document. Each one works when posted; tests post them all."""

from __future__ import annotations

from typing import Any

CUBE = {"expression": "sum(x**3 + 4*x - 10)", "inputs": ["x"]}
PRODUCT = {"expression": "sum(x**2 * y)", "inputs": ["x", "y"]}
ROSENBROCK = {"expression": "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)", "inputs": ["x"]}
QUADRATIC: dict[str, Any] = {
    "graph": {
        "format": "hesse-graph/1",
        "inputs": [{"name": "x", "shape": [2], "dtype": "float64"}],
        "constants": [{"shape": [2, 2], "dtype": "float64", "data": [2.0, 1.0, 1.0, 3.0]}],
        "nodes": [
            {"id": "image", "op": "matmul", "args": [{"constant": 0}, "x"]},
            {"id": "products", "op": "multiply", "args": ["x", "image"]},
            {"id": "y", "op": "sum", "args": ["products"]},
        ],
        "outputs": ["y"],
    }
}
POINT = {"shape": [3], "dtype": "float64", "data": [1.0, 2.0, 3.0]}
PAIR = {"shape": [2], "dtype": "float64", "data": [1.0, -1.0]}


def _example(summary: str, **value: Any) -> dict[str, Any]:
    return {"summary": summary, "value": value}


SCALARS = {
    "formula": _example("A formula", function=CUBE, inputs=[POINT]),
    "graph": _example("A graph", function=QUADRATIC, inputs=[PAIR]),
    "two": _example(
        "Two inputs: the result nests", function=PRODUCT, inputs=[PAIR, [3.0, 4.0]], options={"argnums": [0, 1]}
    ),
}
PRODUCTS = {
    "formula": _example("A formula", function=CUBE, inputs=[POINT], v=[[1.0, 0.0, 0.0]]),
    "graph": _example("A graph", function=QUADRATIC, inputs=[PAIR], v=PAIR),
}
VECTORS = {"vector": _example("A vector of outputs", function={"expression": "sin(x)"}, inputs=[[0.0, 0.5]])}

OPERATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "value": {**SCALARS, **VECTORS},
    "grad": SCALARS,
    "jacobian": {**SCALARS, **VECTORS},
    "hessian": {
        **SCALARS,
        "rosenbrock": _example(
            "Rosenbrock's function, at most two columns at a time",
            function=ROSENBROCK,
            inputs=[{"data": [1.0, 1.0, 1.0, 1.0]}],
            options={"chunk_size": 2},
        ),
        "infinite": _example(
            "Infinities are strings",
            function=CUBE,
            inputs=[{"shape": [3], "dtype": "float64", "data": [1.0, 2.0, "Infinity"]}],
        ),
    },
    "jvp": PRODUCTS,
    "vjp": {"formula": _example("A formula", function=CUBE, inputs=[POINT], v=2.0)},
    "hvp": PRODUCTS,
    "vhp": PRODUCTS,
}

PLANS = {
    "hessian": _example(
        "What a Hessian would cost",
        operation="hessian",
        function=ROSENBROCK,
        inputs=[{"shape": [1000], "dtype": "float64"}],
    ),
}
FUNCTIONS = {
    "formula": _example(
        "A formula and the shapes of its inputs",
        function=ROSENBROCK,
        inputs=[{"name": "x", "shape": [10], "dtype": "float64"}],
    ),
    "graph": _example("A graph", function=QUADRATIC),
}

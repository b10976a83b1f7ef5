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

SECONDS: dict[str, Any] = {
    **SCALARS,
    "lagrangian": _example(
        "Weights: the Hessian of a Lagrangian",
        function={"expression": "x**2 * x[::-1]"},
        inputs=[[1.0, 2.0]],
        weights=[[0.5, -1.0]],
    ),
    "batched": _example(
        "A batch of points", function=CUBE, inputs=[[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]], options={"batched": True}
    ),
}
MANY = {
    "many": _example(
        "Two vectors at once",
        function=CUBE,
        inputs=[POINT],
        v=[[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]],
        options={"many": True},
    ),
}

OPERATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "value": {**SCALARS, **VECTORS},
    "grad": SCALARS,
    "jacobian": {
        **SCALARS,
        **VECTORS,
        "sparse": _example(
            "Coordinates of the entries", function={"expression": "sin(x)"}, inputs=[[0.0, 0.5]],
            options={"layout": "coo"},
        ),
    },
    "hessian": {
        **SECONDS,
        "sparse": _example(
            "Compressed sparse rows", function=ROSENBROCK, inputs=[[1.0, 1.0, 1.0, 1.0]], options={"layout": "csr"}
        ),
        "columns": _example(
            "Two of its columns", function=ROSENBROCK, inputs=[[1.0, 1.0, 1.0, 1.0]], options={"columns": [0, 3]}
        ),
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
    "hessian_diag": SECONDS,
    "laplacian": SECONDS,
    "value_grad_hessian": {
        **SECONDS,
        "packed": _example("The upper triangle", function=CUBE, inputs=[POINT], options={"layout": "packed"}),
    },
    "jvp": {**PRODUCTS, **MANY},
    "vjp": {"formula": _example("A formula", function=CUBE, inputs=[POINT], v=2.0)},
    "hvp": {**PRODUCTS, **MANY},
    "vhp": {**PRODUCTS, **MANY},
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

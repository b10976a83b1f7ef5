"""Every operation over a socket, by formula, graph and id, against closed forms."""

from __future__ import annotations

from typing import Any

import httpx2
import numpy as np
import pytest

from hesse_engine.derivatives import DERIVATIVES
from serving import call, register, tensor

# f(x) = sum(x^3 + 4x - 10): the same function three ways
FORMULA = {"expression": "sum(x**3 + 4*x - 10)", "inputs": ["x"]}
GRAPH: dict[str, Any] = {
    "format": "hesse-graph/1",
    "inputs": [{"name": "x", "shape": [3], "dtype": "float64"}],
    "constants": [{"shape": [], "dtype": "float64", "data": [10.0]}],
    "nodes": [
        {"id": "y", "op": "sum", "args": ["terms"]},
        {"id": "terms", "op": "subtract", "args": ["both", {"constant": 0}]},
        {"id": "both", "op": "add", "args": ["cubes", "lines"]},
        {"id": "cubes", "op": "power", "args": ["x", 3]},
        {"id": "lines", "op": "multiply", "args": [4, "x"]},
    ],
    "outputs": ["y"],
}
X = np.array([1.0, 2.0, -0.5])
V = np.array([1.0, -2.0, 3.0])
F = float((X**3 + 4 * X - 10).sum())
CLOSED: dict[str, tuple[Any, Any]] = {  # v, result
    "value": (None, F),
    "grad": (None, 3 * X**2 + 4),
    "jacobian": (None, 3 * X**2 + 4),
    "hessian": (None, np.diag(6 * X)),
    "hessian_diag": (None, 6 * X),
    "laplacian": (None, float(6 * X.sum())),
    "value_grad_hessian": (None, (F, 3 * X**2 + 4, np.diag(6 * X))),
    "jvp": ([V.tolist()], (F, float((3 * X**2 + 4) @ V))),
    "vjp": (2.0, (F, 2 * (3 * X**2 + 4))),
    "hvp": ([V.tolist()], (F, 6 * X * V)),
    "vhp": ([V.tolist()], (F, 6 * X * V)),
}


def assert_close(got: Any, want: Any) -> None:
    if isinstance(want, tuple):
        names = ("output", "product") if len(want) == 2 else ("value", "gradient", "hessian")
        assert set(got) == set(names)
        for name, part in zip(names, want, strict=True):
            assert_close(got[name], part)
    else:
        array = tensor(got)
        assert array.shape == np.shape(want)
        np.testing.assert_allclose(array, want, rtol=1e-14)


def test_the_table_is_complete() -> None:
    assert set(CLOSED) == set(DERIVATIVES)


@pytest.mark.parametrize("way", ["formula", "graph", "id"])
@pytest.mark.parametrize("operation", CLOSED)
def test_operation(client: httpx2.Client, operation: str, way: str) -> None:
    v, want = CLOSED[operation]
    function = {"formula": FORMULA, "graph": {"graph": GRAPH}}.get(way) or {
        "id": register(client, function={"graph": GRAPH})
    }
    body: dict[str, Any] = {"function": function, "inputs": [X.tolist()]}
    if v is not None:
        body["v"] = v
    answer = call(client, operation, **body)
    assert_close(answer["result"], want)
    assert answer["stats"]["tier"] in ("reference", "vm")
    assert answer["stats"]["operation"] == operation


@pytest.mark.parametrize("given", [
    [[1.0, 2.0], [3.0, 4.0]],
    {"data": [[1.0, 2.0], [3.0, 4.0]]},
    {"shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]},
    {"shape": [2, 2], "dtype": "float64", "data": [1, 2, 3, 4]},
    {"shape": [2, 2], "dtype": "float64", "data": [[1, 2], [3, 4]]},
])
def test_data_nested_or_flat(client: httpx2.Client, given: Any) -> None:
    got = call(client, "hessian", function={"expression": "sum(x**3)"}, inputs=[given])["result"]
    assert got["shape"] == [2, 2, 2, 2]
    np.testing.assert_array_equal(tensor(got).reshape(4, 4), np.diag([6.0, 12.0, 18.0, 24.0]))


@pytest.mark.parametrize("v", [
    [[1.0, 0.0, 2.0]], [1.0, 0.0, 2.0], {"data": [1.0, 0.0, 2.0]}, [{"data": [1.0, 0.0, 2.0]}],
])
def test_v_one_or_many(client: httpx2.Client, v: Any) -> None:
    got = call(client, "hvp", function=FORMULA, inputs=[X.tolist()], v=v)["result"]["product"]
    np.testing.assert_array_equal(tensor(got), 6 * X * [1.0, 0.0, 2.0])


def test_several_inputs_nest(client: httpx2.Client) -> None:
    body: dict[str, Any] = {"function": {"expression": "sum(2*x**2 + 3*y**2)", "inputs": ["x", "y"]},
                            "inputs": [[1.0, 2.0], [3.0, 4.0]]}
    blocks = call(client, "hessian", **body)["result"]
    want = [[4 * np.eye(2), np.zeros((2, 2))], [np.zeros((2, 2)), 6 * np.eye(2)]]
    for row, wanted in zip(blocks, want, strict=True):
        for block, array in zip(row, wanted, strict=True):
            np.testing.assert_array_equal(tensor(block), array)
    one = call(client, "hessian", **body, options={"argnums": 1})["result"]
    np.testing.assert_array_equal(tensor(one), 6 * np.eye(2))
    product = call(client, "vhp", **body, v=[[0.0, 0.0], [1.0, 1.0]])["result"]["product"]
    np.testing.assert_array_equal([tensor(p) for p in product], [[0.0, 0.0], [6.0, 6.0]])
    bare = call(client, "hessian", **body, options={"api": "func"})["result"]
    np.testing.assert_array_equal(tensor(bare), 4 * np.eye(2))


def test_auxiliary_outputs(client: httpx2.Client) -> None:
    graph = {**GRAPH, "outputs": ["y", "cubes"]}
    answer = call(client, "grad", function={"graph": graph}, inputs=[X.tolist()], options={"aux": 1})
    assert_close(answer["result"], 3 * X**2 + 4)
    (aux,) = answer["aux"]
    np.testing.assert_array_equal(tensor(aux), X**3)


def test_float32_stays_float32(client: httpx2.Client) -> None:
    x = np.array([0.1, 1e-38, 3.0], dtype=np.float32)
    answer = call(client, "grad", function={"expression": "sum(x**2)"},
                  inputs=[{"dtype": "float32", "data": x.tolist()}])
    assert answer["result"]["dtype"] == "float32"
    np.testing.assert_array_equal(tensor(answer["result"]), 2 * x)


def test_a_tensor_without_dtype_takes_that_of_the_graph(client: httpx2.Client) -> None:
    graph = {"format": "hesse-graph/1", "inputs": [{"name": "x", "shape": [2], "dtype": "float32"}],
             "nodes": [{"id": "y", "op": "sum", "args": ["x"]}], "outputs": ["y"]}
    assert call(client, "grad", function={"graph": graph}, inputs=[[1.0, 2.0]])["result"]["dtype"] == "float32"


def test_every_bit_survives(client: httpx2.Client) -> None:
    bits = np.random.default_rng(7).integers(0, 2**64, 4000, dtype=np.uint64)
    special = np.array([0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1, 1e23])
    x = np.concatenate([special, bits.view(np.float64)])
    x[np.isnan(x)] = np.nan
    names = {np.inf: "Infinity", -np.inf: "-Infinity"}
    data = ["NaN" if v != v else names.get(v, v) for v in x.tolist()]
    answer = call(client, "value", function={"expression": "x"}, inputs=[{"shape": [x.size], "data": data}])
    np.testing.assert_array_equal(tensor(answer["result"]).view(np.uint64), x.view(np.uint64))


def test_non_finite_answers(client: httpx2.Client) -> None:
    answer = call(client, "value", function={"expression": "x*x"}, inputs=[[1e200, "NaN", "-Infinity", -2.0]])
    assert answer["result"]["data"] == ["Infinity", "NaN", "Infinity", 4.0]


def test_empty_tensors(client: httpx2.Client) -> None:
    answer = call(client, "grad", function={"expression": "sum(x**2)"}, inputs=[{"shape": [0], "data": []}])
    assert answer["result"] == {"shape": [0], "dtype": "float64", "data": []}


def test_large_bodies_and_answers(client: httpx2.Client) -> None:
    x = np.linspace(-1.0, 1.0, 100_000)
    answer = call(client, "grad", function={"expression": "sum(x**3)"}, inputs=[x.tolist()])
    np.testing.assert_allclose(tensor(answer["result"]), 3 * x**2, rtol=1e-14)


def test_options_reach_the_engine(client: httpx2.Client) -> None:
    options = {"api": "functional", "argnums": 0, "chunk_size": 2, "device": "cpu", "threads": 1, "strategy": "auto",
               "layout": "dense", "preallocate": False, "tier": "reference"}
    answer = call(client, "hessian", function=FORMULA, inputs=[X.tolist()], options=options)
    assert answer["stats"]["tier"] == "reference"
    assert answer["stats"]["threads"] == 1
    np.testing.assert_array_equal(tensor(answer["result"]), np.diag(6 * X))


def test_the_vm_answers_when_warm(warm_client: httpx2.Client) -> None:
    answer = call(warm_client, "hessian", function=FORMULA, inputs=[X.tolist()], options={"tier": "vm"})
    assert answer["stats"]["tier"] == "vm"
    np.testing.assert_allclose(tensor(answer["result"]), np.diag(6 * X), rtol=1e-14)

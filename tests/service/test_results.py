"""Layouts, weights, batches and many vectors on the wire, against closed forms; and what is refused."""

from __future__ import annotations

from typing import Any

import httpx2
import numpy as np
import pytest

from serving import call, register, tensor

X = np.array([1.0, 2.0, -0.5])
CUBE = {"expression": "sum(x**3 + 4*x - 10)", "inputs": ["x"]}
CHAIN = {"expression": "sum(x[1:]**2 * x[:-1])", "inputs": ["x"]}
PARTS = {"expression": "x**3"}
H = np.array([[0.0, 2 * X[1], 0.0], [2 * X[1], 2 * X[0], 2 * X[2]], [0.0, 2 * X[2], 2 * X[1]]])
ENTRIES = np.array([[0, 1], [1, 0], [1, 1], [1, 2], [2, 1], [2, 2]])


def ask(client: httpx2.Client, operation: str, **body: Any) -> Any:
    return call(client, operation, **body)["result"]


@pytest.mark.parametrize("layout", ["csr", "coo"])
def test_sparse_matrices(client: httpx2.Client, layout: str) -> None:
    got = ask(client, "hessian", function=CHAIN, inputs=[X.tolist()], options={"layout": layout})
    rows, columns = ENTRIES.T
    assert (got["layout"], got["shape"], got["dtype"]) == (layout, [3, 3], "float64")
    assert got["indices"] == columns.tolist()
    assert got["indptr"] == [0, 1, 4, 6] if layout == "csr" else got["rows"] == rows.tolist()
    assert set(got) == {"layout", "shape", "dtype", "indices", "data", "indptr" if layout == "csr" else "rows"}
    np.testing.assert_allclose(got["data"], H[rows, columns], rtol=1e-14)


def test_flat_layouts(client: httpx2.Client) -> None:
    body: dict[str, Any] = {"function": CHAIN, "inputs": [X.tolist()]}
    packed = tensor(ask(client, "hessian", **body, options={"layout": "packed"}))
    np.testing.assert_allclose(packed, H[np.triu_indices(3)], rtol=1e-14)
    line = tensor(ask(client, "hessian", **body, options={"layout": "diag"}))
    np.testing.assert_allclose(line, H.diagonal(), rtol=1e-14)
    part = tensor(ask(client, "hessian", **body, options={"rows": [1, 2], "columns": [-1]}))
    np.testing.assert_allclose(part, H[1:, 2:], rtol=1e-14)


def test_infinities_in_a_sparse_matrix_are_strings(client: httpx2.Client) -> None:
    got = ask(client, "hessian", function={"expression": "sum(x**3)"}, inputs=[["Infinity", 1.0]],
              options={"layout": "csr"})
    assert got["data"] == ["Infinity", 6.0]


def test_weights_make_one_function_of_several(client: httpx2.Client) -> None:
    w = [2.0, 3.0, -1.0]
    body: dict[str, Any] = {"function": PARTS, "inputs": [X.tolist()], "weights": [w]}
    np.testing.assert_allclose(tensor(ask(client, "hessian", **body)), np.diag(6 * X * w), rtol=1e-14)
    np.testing.assert_allclose(tensor(ask(client, "laplacian", **body)), (6 * X * w).sum(), rtol=1e-14)
    product = ask(client, "hvp", **body, v=[[1.0, 1.0, 1.0]])["product"]
    np.testing.assert_allclose(tensor(product), 6 * X * w, rtol=1e-14)


@pytest.mark.parametrize("way", ["formula", "id"])
def test_batches_of_any_size(client: httpx2.Client, way: str) -> None:
    function = CUBE if way == "formula" else {"id": register(client, function=CUBE, inputs=[{"shape": [3]}])}
    for count in (0, 1, 5):
        points = np.arange(3.0 * count).reshape(count, 3)
        sent = {"shape": [count, 3], "dtype": "float64", "data": points.ravel().tolist()}
        got = tensor(ask(client, "hessian", function=function, inputs=[sent], options={"batched": True}))
        wanted = np.zeros((count, 3, 3))
        wanted[:, range(3), range(3)] = 6 * points
        np.testing.assert_allclose(got, wanted, rtol=1e-14)
        triple = ask(client, "value_grad_hessian", function=function, inputs=[sent], options={"batched": True})
        np.testing.assert_allclose(tensor(triple["value"]), (points**3 + 4 * points - 10).sum(1), rtol=1e-14)
    one = ask(client, "hessian", function=function, inputs=[X.tolist()])
    np.testing.assert_array_equal(tensor(one), np.diag(6 * X))


def test_many_vectors(client: httpx2.Client) -> None:
    v = [[1.0, 0.0, 0.0], [1.0, 2.0, 3.0]]
    body: dict[str, Any] = {"function": CUBE, "inputs": [X.tolist()], "options": {"many": True}}
    for sent in ([v], [{"shape": [2, 3], "data": v}], {"shape": [2, 3], "data": [1.0, 0.0, 0.0, 1.0, 2.0, 3.0]}):
        got = ask(client, "hvp", **body, v=sent)
        np.testing.assert_allclose(tensor(got["product"]), 6 * X * v, rtol=1e-14)
        assert got["output"]["shape"] == []
    both = ask(client, "vhp", function=CUBE, inputs=[[X.tolist(), X.tolist()]], v=[[v, v]],
               options={"many": True, "batched": True})
    np.testing.assert_allclose(tensor(both["product"]), [6 * X * v] * 2, rtol=1e-14)


def test_a_plan_of_a_batch(client: httpx2.Client) -> None:
    answer = client.post("/v1/plan", json={"operation": "hessian", "function": CUBE, "options": {"batched": True},
                                           "inputs": [{"name": "x", "shape": [1000, 3]}]}).json()
    assert answer["plan"]["result_bytes"] == 1000 * 9 * 8
    sparse = client.post("/v1/plan", json={"operation": "hessian", "function": PARTS, "inputs": [{"shape": [3]}],
                                           "options": {"weighted": True, "layout": "csr"}}).json()
    assert sparse["plan"]["strategy"] == "direct-assembly"


NAMED = {"graph": {"format": "hesse-graph/1", "inputs": [{"name": "x", "shape": [2], "dtype": "float64"}],
                   "nodes": [{"id": "total", "op": "sum", "args": ["logs"]},
                             {"id": "logs", "op": "log", "args": ["x"]}],
                   "outputs": ["total"]}}


def test_the_node_is_named_as_it_was_sent(client: httpx2.Client) -> None:
    body: dict[str, Any] = {"function": NAMED, "inputs": [[1.0, 0.0]], "options": {"nonfinite": "error"}}
    answer = client.post("/v1/hessian", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], problem["node"]) == ("nonfinite-result", "logs")
    assert "node logs (log) is -Infinity at index [1]" in problem["detail"]
    body["function"] = {"id": register(client, function=NAMED)}
    assert client.post("/v1/hessian", json=body).json()["node"] == "n0"  # as GET /v1/functions/{id} names it


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("hessian", {"options": {"layout": "bsr"}}, "bad-layout", "/options/layout"),
    ("value", {"options": {"layout": "csr"}}, "bad-layout", "/options/layout"),
    ("jacobian", {"options": {"layout": "packed"}}, "bad-layout", "/options/layout"),
    ("hessian", {"options": {"layout": "csr", "batched": True}, "inputs": [[[1.0]]]}, "bad-layout", "/options/layout"),
    ("hessian", {"options": {"rows": [3]}}, "bad-rows", "/options/rows"),
    ("hessian", {"options": {"columns": [-4]}}, "bad-columns", "/options/columns"),
    ("hessian", {"options": {"rows": [0.5]}}, "bad-request", "/options/rows/0"),
    ("hvp", {"options": {"rows": [0]}, "v": [[1.0, 1.0, 1.0]]}, "bad-option", "/options/rows"),
    ("hessian", {"options": {"chunk_size": 0}}, "bad-chunk-size", "/options/chunk_size"),
    ("hessian", {"options": {"device": "tpu"}}, "device-absent", "/options/device"),
    ("hessian", {"weights": [1.0, 2.0]}, "bad-weights", "/weights/0"),
    ("hessian", {"weights": [[1.0], [2.0]]}, "bad-weights", "/weights"),
    ("grad", {"weights": [1.0]}, "bad-weights", "/weights"),
    ("hessian", {"options": {"many": True}}, "bad-v", "/v"),
    ("hvp", {"options": {"many": True}, "v": 1.0}, "bad-v", "/v"),
    ("hvp", {"options": {"many": True}, "v": {"shape": [2, 2], "data": [1, 2, 3, 4]}}, "bad-v", "/v"),
    ("hessian", {"options": {"batched": True}, "inputs": [2.0]}, "wrong-inputs", "/inputs/0"),
    ("hessian", {"options": {"batched": True}, "inputs": []}, "wrong-inputs", "/inputs/0"),
    ("hessian", {"options": {"nonfinite": "warn"}}, "bad-option", "/options/nonfinite"),
    ("hessian", {"options": {"batched": 3}}, "bad-request", "/options/batched"),
]


@pytest.mark.parametrize(("operation", "body", "code", "pointer"), REFUSED, ids=str)
def test_refusals(client: httpx2.Client, operation: str, body: dict[str, Any], code: str, pointer: str) -> None:
    answer = client.post(f"/v1/{operation}", json={"function": CUBE, "inputs": [X.tolist()], **body})
    problem = answer.json()
    assert (problem["code"], problem.get("pointer")) == (code, pointer), problem
    assert answer.status_code == 422

"""Bad input: each row gets its status and code, is not echoed, and the next request is answered."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from hesse_engine.errors import CODES, STATUS
from hesse_service.schemas import ByExpression, ByGraph, ById, CallRequest, OptionsModel, Signature

MARK = "Zq7xMARKERzq7x"
GOOD = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
S = {"expression": "sum(x**2)"}


def graph(
    nodes: list[Any] | None = None, inputs: Any = None, outputs: Any = ("y",), constants: Any = (), **members: Any
) -> dict[str, Any]:
    """A request with a graph over x of two elements."""
    made = {
        "format": "hesse-graph/1",
        "inputs": [{"name": "x", "shape": [2], "dtype": "float64"}] if inputs is None else inputs,
        "nodes": [{"id": "y", "op": "sum", "args": ["x"]}] if nodes is None else nodes,
        "outputs": list(outputs),
        "constants": list(constants),
        **members,
    }
    return {"function": {"graph": made}, "inputs": [[1.0, 2.0]]}


def call(function: Any = S, inputs: Any = ((1.0, 2.0),), **members: Any) -> dict[str, Any]:
    return {"function": function, "inputs": inputs, **members}


def node(**members: Any) -> list[Any]:
    return [{"id": "y", "op": "sum", "args": ["x"], **members}]


def scalar(op: str, *args: Any, **attrs: Any) -> list[Any]:
    return [{"id": "u", "op": op, "args": list(args), "attrs": attrs}, {"id": "y", "op": "sum", "args": ["u"]}]


# name, operation, body (bytes are sent as they are), status, code, pointer (None: not looked at)
ROWS: list[tuple[str, str, Any, int, str, str | None]] = [
    # ---- JSON
    ("empty body", "hessian", b"", 400, "malformed-json", None),
    ("no JSON", "hessian", f"hello {MARK}".encode(), 400, "malformed-json", None),
    ("truncated", "hessian", json.dumps(GOOD).encode()[:-9], 400, "malformed-json", None),
    ("trailing comma", "hessian", b'{"a": 1,}', 400, "malformed-json", None),
    ("two values", "hessian", b"{} {}", 400, "malformed-json", None),
    ("single quotes", "hessian", f"{{'{MARK}': 1}}".encode(), 400, "malformed-json", None),
    ("NaN token", "hessian", b'{"inputs": [[NaN]]}', 400, "non-finite-token", None),
    ("Infinity token", "hessian", b'{"inputs": [[Infinity]]}', 400, "non-finite-token", None),
    ("-Infinity token", "hessian", b'{"inputs": [[-Infinity]]}', 400, "non-finite-token", None),
    ("invalid UTF-8", "hessian", b'{"a": "\xff\xfe"}', 400, "malformed-json", None),
    ("UTF-16", "hessian", json.dumps(GOOD).encode("utf-16"), 400, "malformed-json", None),
    ("lone surrogate", "hessian", b'{"a": "\\ud800"}', 400, "malformed-json", None),
    ("byte order mark", "hessian", b"\xef\xbb\xbf{}", 400, "malformed-json", None),
    ("deep nesting", "hessian", b"[" * 100_000, 400, "malformed-json", None),
    ("deep closed nesting", "hessian", b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 400, "malformed-json", None),
    ("huge integer", "hessian", b'{"a": ' + b"9" * 10_000 + b"}", 400, "malformed-json", None),
    ("control character", "hessian", b'{"a": "\x01"}', 400, "malformed-json", None),
    # ---- the request
    ("a list", "hessian", [MARK], 422, "bad-request", ""),
    ("a string", "hessian", MARK, 422, "bad-request", ""),
    ("null", "hessian", None, 422, "bad-request", ""),
    ("no function", "hessian", {"inputs": [[1.0]]}, 422, "bad-request", "/function"),
    ("no inputs", "hessian", {"function": S}, 422, "bad-request", "/inputs"),
    ("unknown member", "hessian", {**GOOD, "extra": MARK}, 422, "bad-request", "/extra"),
    ("strange member", "hessian", {**GOOD, f"{MARK}/../~ {MARK}": 1}, 422, "bad-request", ""),
    ("function a string", "hessian", call(MARK), 422, "bad-request", "/function"),
    ("function empty", "hessian", call({}), 422, "bad-request", None),
    ("graph and formula", "hessian", call({"graph": {}, "expression": MARK}), 422, "bad-request",
     "/function/expression"),
    ("expression a number", "hessian", call({"expression": 7}), 422, "bad-request", "/function/expression"),
    ("expression empty", "hessian", call({"expression": ""}), 422, "bad-request", "/function/expression"),
    ("expression too long", "hessian", call({"expression": "x+" * 50_000 + "x"}), 422, "bad-request",
     "/function/expression"),
    ("bad input name", "hessian", call({"expression": "x", "inputs": [f"{MARK} x"]}), 422, "bad-request",
     "/function/inputs/0"),
    ("id no digest", "hessian", call({"id": MARK}), 422, "bad-request", "/function/id"),
    ("id upper case", "hessian", call({"id": "A" * 64}), 422, "bad-request", "/function/id"),
    ("unknown id", "hessian", call({"id": "0" * 64}), 404, "unknown-function", "/function/id"),
    ("inputs an object", "hessian", call(inputs={"x": MARK}), 422, "bad-request", "/inputs"),
    ("too few inputs", "hessian", call({"expression": "sum(x*y)", "inputs": ["x", "y"]}), 422, "wrong-inputs",
     "/inputs"),
    ("too many inputs", "hessian", call(inputs=[[1.0], [2.0]]), 422, "wrong-inputs", "/inputs"),
    ("no inputs given", "hessian", call(inputs=[]), 422, "wrong-inputs", "/inputs"),
    ("graph, too many inputs", "hessian", {**graph(), "inputs": [[1.0, 2.0]] * 2}, 422, "wrong-inputs", "/inputs"),
    ("graph, other shape", "hessian", {**graph(), "inputs": [[1.0, 2.0, 3.0]]}, 422, "wrong-inputs", "/inputs/0"),
    ("graph, other dtype", "hessian", {**graph(), "inputs": [{"dtype": "float32", "data": [1.0, 2.0]}]}, 422,
     "wrong-inputs", "/inputs/0"),
    # ---- tensors
    ("tensor a string", "hessian", call(inputs=[MARK]), 422, "bad-tensor", None),
    ("tensor null", "hessian", call(inputs=[None]), 422, "bad-tensor", None),
    ("tensor without data", "hessian", call(inputs=[{"shape": [2]}]), 422, "bad-tensor", "/inputs/0"),
    ("tensor with more", "hessian", call(inputs=[{"data": [1.0], "strides": MARK}]), 422, "bad-tensor", "/inputs/0"),
    ("shape too large", "hessian", call(inputs=[{"shape": [3], "data": [1.0, 2.0]}]), 422, "bad-tensor", None),
    ("shape too small", "hessian", call(inputs=[{"shape": [1], "data": [1.0, 2.0]}]), 422, "bad-tensor", None),
    ("shape 1e12", "hessian", call(inputs=[{"shape": [10**6, 10**6], "data": [1.0]}]), 413, "too-many-elements", None),
    ("shape negative", "hessian", call(inputs=[{"shape": [-2], "data": [1.0, 2.0]}]), 422, "bad-tensor", None),
    ("shape of floats", "hessian", call(inputs=[{"shape": [2.0], "data": [1.0, 2.0]}]), 422, "bad-tensor", None),
    ("shape of booleans", "hessian", call(inputs=[{"shape": [True], "data": [1.0]}]), 422, "bad-tensor", None),
    ("rank too high", "hessian", call(inputs=[{"shape": [1] * 40, "data": [1.0]}]), 413, "rank-too-high", None),
    ("ragged", "hessian", call(inputs=[[[1.0, 2.0], [3.0]]]), 422, "bad-tensor", "/inputs/0/data"),
    ("mixed depth", "hessian", call(inputs=[[[1.0], 2.0]]), 422, "bad-tensor", None),
    ("data of strings", "hessian", call(inputs=[[1.0, MARK]]), 422, "bad-tensor", None),
    ("data with null", "hessian", call(inputs=[[1.0, None]]), 422, "bad-tensor", None),
    ("data with booleans", "hessian", call(inputs=[[1.0, True]]), 422, "bad-tensor", None),
    ("data with objects", "hessian", call(inputs=[[1.0, {MARK: 1}]]), 422, "bad-tensor", None),
    ("number overflows", "hessian", b'{"function":{"expression":"x"},"inputs":[[1e400]]}', 422, "bad-tensor", None),
    ("float32 overflows", "hessian", call(inputs=[{"dtype": "float32", "data": [1e300]}]), 422, "bad-tensor", None),
    ("int8 overflows", "value", call(inputs=[{"dtype": "int8", "data": [300]}]), 422, "bad-tensor", None),
    ("unknown dtype", "hessian", call(inputs=[{"dtype": MARK, "data": [1.0]}]), 422, "bad-tensor", "/inputs/0/dtype"),
    ("object dtype", "hessian", call(inputs=[{"dtype": "object", "data": [1.0]}]), 422, "bad-tensor", None),
    ("complex", "hessian", call(inputs=[{"dtype": "complex128", "data": [1.0]}]), 422, "unsupported-complex", None),
    ("integers", "hessian", call(inputs=[{"dtype": "int64", "data": [1, 2]}]), 422, "not-floating", None),
    # ---- the graph
    ("no format", "hessian", call({"graph": {"nodes": [], MARK: 1}}), 422, "graph-format", "/function/graph"),
    ("other format", "hessian", graph(format=MARK), 422, "graph-format", None),
    ("graph a list", "hessian", call({"graph": [MARK]}), 422, "graph-format", None),
    ("unknown graph member", "hessian", graph(code=MARK), 422, "graph-format", None),
    ("nodes an object", "hessian", {**graph(), "function": {"graph": {"format": "hesse-graph/1", "inputs": [],
                                                                      "nodes": {}, "outputs": []}}},
     422, "graph-format", "/function/graph/nodes"),
    ("no outputs", "hessian", graph(outputs=()), 422, "no-outputs", "/function/graph/outputs"),
    ("no graph inputs", "hessian", {**graph(inputs=[]), "inputs": []}, 422, "graph-format", None),
    ("unknown op", "hessian", graph(node(op=MARK)), 422, "unknown-op", "/function/graph/nodes/0/op"),
    ("op that runs code", "hessian", graph(node(op="__import__")), 422, "unknown-op", None),
    ("op a number", "hessian", graph(node(op=3)), 422, "unknown-op", None),
    ("unknown attribute", "hessian", graph(node(attrs={"evil": MARK})), 422, "bad-attribute", None),
    ("attribute an object", "hessian", graph(node(attrs={"axis": {MARK: 1}})), 422, "bad-attribute", None),
    ("axis out of range", "hessian", graph(node(attrs={"axis": [7]})), 422, "bad-attribute", None),
    ("cycle", "hessian", graph([{"id": "a", "op": "sin", "args": ["b"]}, {"id": "b", "op": "sin", "args": ["a"]},
                                {"id": "y", "op": "sum", "args": ["b"]}]), 422, "graph-cycle", None),
    ("cycle of one", "hessian", graph([{"id": "y", "op": "sin", "args": ["y"]}]), 422, "graph-cycle", None),
    ("dangling id", "hessian", graph(node(args=[MARK])), 422, "dangling-id", "/function/graph/nodes/0/args/0"),
    ("dangling output", "hessian", graph(outputs=[MARK]), 422, "dangling-id", "/function/graph/outputs/0"),
    ("dangling constant", "hessian", graph(node(args=[{"constant": 3}])), 422, "dangling-id", None),
    ("duplicate id", "hessian", graph(node() + node()), 422, "duplicate-id", "/function/graph/nodes/1/id"),
    ("id of an input", "hessian", graph([{"id": "x", "op": "sin", "args": ["x"]}]), 422, "duplicate-id", None),
    ("two inputs of a name", "hessian", graph(inputs=[{"name": "x", "shape": [2]}] * 2), 422, "duplicate-id", None),
    ("strange id", "hessian", graph([{"id": f"../{MARK}", "op": "sin", "args": ["x"]}]), 422, "graph-format", None),
    ("too few operands", "hessian", graph(scalar("add", "x")), 422, "wrong-arity", None),
    ("too many operands", "hessian", graph(scalar("sin", "x", "x")), 422, "wrong-arity", None),
    ("shapes differ", "hessian", graph(scalar("add", "x", {"constant": 0}), constants=[[1.0, 2.0, 3.0]]), 422,
     "shape-mismatch", None),
    ("reshape too large", "hessian", graph(scalar("reshape", "x", shape=[3])), 422, "shape-mismatch", None),
    ("reshape negative", "hessian", graph(scalar("reshape", "x", shape=[-5])), 422, "shape-mismatch", None),
    ("broadcast to 1e12", "hessian", graph(scalar("broadcast_to", "x", shape=[10**6, 10**6, 2])), 413,
     "too-many-elements", None),
    ("graph input of 1e12", "hessian", graph(inputs=[{"name": "x", "shape": [10**6, 10**6]}]), 413, "too-many-elements",
     None),
    ("graph rank too high", "hessian", graph(scalar("reshape", "x", shape=[2] + [1] * 40)), 413, "rank-too-high", None),
    ("too many nodes", "hessian", graph([{"id": f"n{k}", "op": "sin", "args": ["x"]} for k in range(100_001)]), 413,
     "too-many-nodes", "/function/graph/nodes"),
    ("literal overflows", "hessian", graph(scalar("multiply", "x", int("9" * 400))), 422, "constant-overflow", None),
    ("literal infinite", "hessian", json.dumps(graph(scalar("multiply", "x", 7777))).replace("7777", "1e999").encode(),
     422, "constant-overflow", "/function/graph/nodes/0/args/1"),
    ("constant index out of range", "hessian", graph(scalar("take", "x", {"constant": 0}, axis=0), constants=[
        {"shape": [1], "dtype": "int64", "data": [5]}]), 422, "index-out-of-range", None),
    ("computed index out of range", "value", {**graph(scalar("take", "x", "i", axis=0), inputs=[
        {"name": "x", "shape": [2]}, {"name": "i", "shape": [1], "dtype": "int64"}]), "inputs": [[1.0, 2.0], [9]]}, 422,
     "index-out-of-range", None),
    ("guard no boolean", "hessian", graph(guards=[{"node": "y", "value": True}]), 422, "dtype-mismatch", None),
    ("guard fails", "hessian", graph([{"id": "c", "op": "greater", "args": ["y", 100.0]}, *node()],
                                     guards=[{"node": "c", "value": True}]), 409, "graph-point-specific", "/inputs"),
    # ---- formulas
    ("formula syntax", "hessian", call({"expression": "sum(x 3)"}), 422, "expression-syntax", "/function/expression"),
    ("formula unclosed", "hessian", call({"expression": "sum(x"}), 422, "expression-syntax", None),
    ("formula with code", "hessian", call({"expression": f"__import__('{MARK}').system('id')"}), 422, "unknown-name",
     None),
    ("formula, attribute", "hessian", call({"expression": "sum(x.__class__)"}), 422, "unknown-name", None),
    ("formula, assignment", "hessian", call({"expression": f"x = '{MARK}'"}), 422, "expression-syntax", None),
    ("formula, lambda", "hessian", call({"expression": f"lambda x: '{MARK}'"}), 422, "unknown-name", None),
    ("formula, unknown name", "hessian", call({"expression": "sum(x + zebra)"}), 422, "unknown-name", None),
    ("formula, unknown function", "hessian", call({"expression": "zebra(x)"}), 422, "unknown-name", None),
    ("formula, long name", "hessian", call({"expression": "z" * 60_000}), 422, "unknown-name", None),
    ("formula, deep", "hessian", call({"expression": "(" * 30_000 + "x" + ")" * 30_000}), 422, "not-scalar", None),
    ("formula, deep and open", "hessian", call({"expression": "(" * 30_000}), 422, "expression-syntax", None),
    ("formula, huge power", "hessian", call({"expression": "sum(x * 9**9**9**9)"}), 422, "constant-overflow", None),
    ("formula, huge literal", "hessian", call({"expression": "sum(x * 1e999)"}), 422, "constant-overflow", None),
    ("formula, index out of range", "hessian", call({"expression": "x[7]"}), 422, "index-out-of-range", None),
    ("formula, shapes differ", "hessian", call({"expression": "sum(x * y)", "inputs": ["x", "y"]},
                                               [[1.0, 2.0], [1.0] * 3]), 422, "shape-mismatch", None),
    # ---- the function and v
    ("vector function", "hessian", call({"expression": "x**2"}), 422, "not-scalar", "/function"),
    ("vector function, grad", "grad", call({"expression": "x**2"}), 422, "not-scalar", "/function"),
    ("vector function, func", "grad", call({"expression": "x**2"}, options={"api": "func"}), 422, "not-scalar",
     "/function"),
    ("v missing", "hvp", call(), 422, "bad-v", "/v"),
    ("v too long", "hvp", call(v=[[1.0, 2.0, 3.0]]), 422, "bad-v", "/v"),
    ("v too many", "hvp", call(v=[[1.0, 2.0], [1.0, 2.0]]), 422, "bad-v", "/v"),
    ("v a string", "vhp", call(v=MARK), 422, "bad-tensor", None),
    ("v of strings", "vhp", call(v=[[MARK, MARK]]), 422, "bad-tensor", None),
    ("v where none belongs", "hessian", call(v=[[1.0, 2.0]]), 422, "bad-v", "/v"),
    ("independent, strict", "hessian", call({"expression": "sum(x)"}, options={"strict": True}), 422, "independent",
     None),
    # ---- options
    ("options a list", "hessian", call(options=[MARK]), 422, "bad-request", "/options"),
    ("unknown option", "hessian", call(options={"speed": MARK}), 422, "bad-request", "/options/speed"),
    ("unknown api", "hessian", call(options={"api": MARK}), 422, "bad-option", "/options/api"),
    ("chunk size 0", "hessian", call(options={"chunk_size": 0}), 422, "bad-chunk-size", "/options/chunk_size"),
    ("chunk size negative", "hessian", call(options={"chunk_size": -1}), 422, "bad-chunk-size", "/options/chunk_size"),
    ("chunk size no integer", "hessian", call(options={"chunk_size": 1.5}), 422, "bad-request", "/options/chunk_size"),
    ("argnums out of range", "hessian", call(options={"argnums": 3}), 422, "bad-argnums", "/options/argnums"),
    ("argnums twice", "hessian", call(options={"argnums": [0, 0]}), 422, "bad-argnums", "/options/argnums"),
    ("argnums empty", "hessian", call(options={"argnums": []}), 422, "bad-argnums", "/options/argnums"),
    ("argnums a boolean", "hessian", call(options={"argnums": True}), 422, "bad-request", "/options/argnums"),
    ("unknown device", "hessian", call(options={"device": MARK}), 422, "bad-device", "/options/device"),
    ("absent device", "hessian", call(options={"device": "cuda:0"}), 422, "device-absent", "/options/device"),
    ("cpu index", "hessian", call(options={"device": "cpu:3"}), 422, "device-absent", "/options/device"),
    ("threads 0", "hessian", call(options={"threads": 0}), 422, "bad-option", None),
    ("threads too many", "hessian", call(options={"threads": 1000}), 422, "bad-option", "/options/threads"),
    ("unknown strategy", "hessian", call(options={"strategy": MARK}), 422, "bad-option", "/options/strategy"),
    ("unknown layout", "hessian", call(options={"layout": MARK}), 422, "bad-layout", "/options/layout"),
    ("negative aux", "hessian", call(options={"aux": -1}), 422, "bad-option", "/options/aux"),
    ("aux takes all", "hessian", call(options={"aux": 1}), 422, "bad-option", "/options/aux"),
    ("deadline 0", "hessian", call(options={"deadline_s": 0}), 422, "bad-request", "/options/deadline_s"),
    ("deadline infinite", "hessian", json.dumps(call(options={"deadline_s": 7})).replace("7}", "1e999}").encode(), 422,
     "bad-request", "/options/deadline_s"),
    ("memory budget", "hessian", call(options={"max_memory_bytes": 10}), 413, "over-memory-budget", None),
    ("server's memory budget", "hessian", call({"expression": "sum(x**4)"}, [[1.0] * 100_000]), 413,
     "over-memory-budget", None),
    # ---- other routes
    ("unknown operation", "inverse", GOOD, 404, "unknown-operation", None),
    ("plan of unknown operation", "plan", {"operation": MARK, "function": S, "inputs": [{"shape": [2]}]}, 404,
     "unknown-operation", "/operation"),
    ("plan without shapes", "plan", {"operation": "hessian", "function": S}, 422, "bad-request", "/inputs"),
    ("plan of negative shape", "plan", {"operation": "hessian", "function": S, "inputs": [{"shape": [-1]}]}, 422,
     "bad-request", "/inputs/0/shape/0"),
    ("plan of data", "plan", {"operation": "hessian", "function": S, "inputs": [{"shape": [1], "data": [1.0]}]}, 422,
     "bad-request", "/inputs/0/data"),
    ("plan of 1e12", "plan", {"operation": "hessian", "function": S, "inputs": [{"shape": [10**12]}]}, 413,
     "too-many-elements", None),
]


@pytest.mark.parametrize(("operation", "body", "status", "code", "pointer"), [r[1:] for r in ROWS],
                         ids=[r[0] for r in ROWS])
def test_bad_input(
    client: httpx2.Client, operation: str, body: Any, status: int, code: str, pointer: str | None
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = client.post(f"/v1/{operation}", content=content, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    assert_problem(response, code)
    if pointer is not None:
        assert response.json().get("pointer", "") == pointer
    good = client.post("/v1/hessian", json=GOOD)
    assert good.json()["result"]["data"] == [2.0, 0.0, 0.0, 2.0]


def assert_problem(response: httpx2.Response, code: str) -> None:
    """RFC 9457 members, a declared code, nothing of the payload."""
    assert response.headers["content-type"] == "application/problem+json"
    members = response.json()
    assert members["code"] == code
    assert members["code"] in CODES
    assert members["status"] == response.status_code == STATUS[code]
    assert members["type"] == f"urn:hesse:problem:{code}"
    assert members["title"]
    assert members["detail"]
    assert members["retryable"] is (response.status_code in (429, 503, 504))
    assert members["request_id"] == response.headers["x-request-id"]
    assert MARK not in response.text
    assert len(response.content) < 2_000


REGISTRATIONS: list[tuple[str, Any, int, str, str | None]] = [
    ("nothing", {}, 422, "bad-request", "/function"),
    ("by id", {"function": {"id": "0" * 64}}, 422, "bad-request", None),
    ("formula without inputs", {"function": S}, 422, "bad-request", "/inputs"),
    ("formula, other names", {"function": {"expression": "sum(a)", "inputs": ["a"]},
                              "inputs": [{"name": "b", "shape": [1]}]}, 422, "wrong-inputs", "/inputs"),
    ("bad name", {"function": S, "inputs": [{"name": f"../{MARK}", "shape": [1]}]}, 422, "bad-request",
     "/inputs/0/name"),
    ("unknown dtype", {"function": S, "inputs": [{"name": "x", "shape": [1], "dtype": MARK}]}, 422, "bad-tensor",
     "/inputs/0/dtype"),
    ("graph, other inputs", {**graph(), "inputs": [{"name": "x", "shape": [3]}]}, 422, "wrong-inputs", "/inputs"),
    ("graph with a cycle", {"function": graph([{"id": "y", "op": "sin", "args": ["y"]}])["function"]}, 422,
     "graph-cycle", None),
]


@pytest.mark.parametrize(("body", "status", "code", "pointer"), [r[1:] for r in REGISTRATIONS],
                         ids=[r[0] for r in REGISTRATIONS])
def test_bad_registration(client: httpx2.Client, body: Any, status: int, code: str, pointer: str | None) -> None:
    response = client.put("/v1/functions", json=body)
    assert response.status_code == status, response.text
    assert_problem(response, code)
    if pointer is not None:
        assert response.json()["pointer"] == pointer


def test_a_fault_in_the_graph_names_its_node(client: httpx2.Client) -> None:
    response = client.post("/v1/hessian", json=graph(scalar("reshape", "x", shape=[3])))
    assert response.json()["node"] == "u"
    assert response.json()["pointer"].startswith("/function/graph/nodes/0")


def test_torch_words_are_kept(client: httpx2.Client) -> None:
    response = client.post("/v1/hessian", json=call({"expression": "x**2"}))
    want = "The Tensor returned by the function given to hessian should contain a single element"
    assert response.json()["detail"] == want


@pytest.mark.parametrize(("operation", "body", "near", "known"), [
    ("hessian", call(options={"chunksize": 1}), "chunk_size", OptionsModel),
    ("hessian", call(options={MARK + " ": 1}), None, OptionsModel),
    ("hessian", call(options={"chunk_size" * 100: 1}), None, OptionsModel),
    ("hessian", {**GOOD, "option": {}}, "options", CallRequest),
    ("hessian", call({"expression": "sum(x)", "input": ["x"]}), "inputs", ByExpression),
    ("hessian", call({"graph": {}, "graphs": 1}), "graph", ByGraph),
    ("hessian", call({"id": "0" * 64, "ids": 1}), "id", ById),
    ("plan", {"operation": "hessian", "function": S, "inputs": [{"shapes": [2], "shape": [2]}]}, "shape", Signature),
])
def test_what_an_object_may_have_is_named(
    client: httpx2.Client, operation: str, body: Any, near: str | None, known: type[BaseModel]
) -> None:
    response = client.post(f"/v1/{operation}", json=body)
    assert response.status_code == 422
    assert_problem(response, "bad-request")
    wanted = f"A member of this object is not known.{'' if near is None else f' Did you mean {near}?'} Its members are "
    assert response.json()["detail"] == f"{wanted}{', '.join(known.model_fields)}."

"""The graph format: round trips, identity, and every refusal with its place."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import numpy as np
import pytest

from graphs import graph_of, op
from hesse_engine.backend import reference
from hesse_engine.errors import HesseError
from hesse_engine.ir.check import check
from hesse_engine.ir.graph import Graph, Limits
from hesse_engine.ir.show import graph_id, text
from hesse_engine.ir.wire import graph_from_json, graph_to_json

CUBE: dict[str, Any] = {
    "format": "hesse-graph/1",
    "inputs": [{"name": "x", "shape": [3], "dtype": "float64"}],
    "constants": [{"data": [1, 2, 3]}],
    "nodes": [
        {"id": "y", "op": "sum", "args": ["b"], "attrs": {"axis": [0]}},
        {"id": "a", "op": "multiply", "args": ["x", {"constant": 0}]},
        {"id": "b", "op": "power", "args": ["a", 3]},
    ],
    "outputs": ["y"],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """CUBE with the member at a slash-separated path replaced; `value` of Ellipsis removes it."""
    body = copy.deepcopy(CUBE)
    *parents, last = path.split("/")
    place: Any = body
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    key = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return body


def value_of(graph: Graph, *inputs: Any) -> list[Any]:
    return reference.run(graph.outputs, dict(zip(graph.inputs, inputs, strict=True)))


GRAPHS = {
    "scalars": lambda: graph_of(lambda x: op("sum", 2.0 * op("sin", x) + 0.1), (4,)),
    "signed zero": lambda: graph_of(lambda x: x * -0.0 + op("where", x > 0.0, x, float("inf")), (2,)),
    "attributes": lambda: graph_of(
        lambda x: op("slice", op("flip", x), start=(1, 0), step=(1, 2), count=(2, 2)), (3, 4)),
    "products": lambda: graph_of(lambda x, y: op("einsum", x, y, subscripts="ij,jk->ki"), (2, 3), (3, 5)),
    "gather": lambda: graph_of(lambda x: op("take", x, np.array([2, 0, -1])), (3,)),
    "two outputs": lambda: graph_of(lambda x: (op("exp", x), op("max", x)), (3,)),
    "an input as output": lambda: graph_of(lambda x, y: (y, x), (2,), (3,)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_round_trip_keeps_identity_and_value(name: str) -> None:
    graph = GRAPHS[name]()
    check(graph)
    body = json.loads(json.dumps(graph_to_json(graph), allow_nan=False))
    back = graph_from_json(body)
    check(back)
    assert text(back) == text(graph)
    inputs = [np.random.default_rng(0).normal(size=n.shape) for n in graph.inputs]
    for a, b in zip(value_of(graph, *inputs), value_of(back, *inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_identity_ignores_ids_and_order_but_not_meaning() -> None:
    base = graph_id(graph_from_json(CUBE))
    assert len(base) == 64
    reordered = changed("nodes", [CUBE["nodes"][1], CUBE["nodes"][2], CUBE["nodes"][0]])
    renamed = json.loads(json.dumps(CUBE).replace('"b"', '"product"'))
    assert graph_id(graph_from_json(reordered)) == base
    assert graph_id(graph_from_json(renamed)) == base
    for path, value in [("nodes/2/args/1", 4), ("constants/0/data", [1, 2, 4]), ("inputs/0/dtype", "float32"),
                        ("inputs/0/name", "z")]:
        body = changed(path, value)
        if value == "z":
            body["nodes"][1]["args"][0] = "z"
        assert graph_id(graph_from_json(body)) != base


def test_literals_adopt_the_dtype() -> None:
    body = changed("inputs/0/dtype", "float32")
    body["constants"][0]["dtype"] = "float32"
    assert graph_from_json(body).outputs[0].dtype == np.float32


def test_guards_travel() -> None:
    body = changed("guards", [{"node": "c", "value": True}])
    body["nodes"].append({"id": "c", "op": "greater", "args": ["y", 0]})
    graph = graph_from_json(body)
    assert graph.guards[0][1] is True
    again = graph_from_json(json.loads(json.dumps(graph_to_json(graph))))
    assert graph_id(again) == graph_id(graph)
    assert graph_id(graph) != graph_id(graph_from_json(CUBE))


REFUSALS = [
    ("format", "hesse-graph/2", "graph-format", ""),
    ("extra", 1, "graph-format", ""),
    ("inputs", [], "graph-format", "/inputs"),
    ("inputs", {}, "graph-format", "/inputs"),
    ("nodes", None, "graph-format", "/nodes"),
    ("outputs", [], "no-outputs", "/outputs"),
    ("outputs", ["nowhere"], "dangling-id", "/outputs/0"),
    ("outputs", [3], "graph-format", "/outputs/0"),
    ("inputs/0/shape", [-1], "bad-tensor", "/inputs/0/shape"),
    ("inputs/0/shape", [10**15], "too-many-elements", "/inputs/0/shape"),
    ("inputs/0/dtype", "complex64", "unsupported-complex", "/inputs/0/dtype"),
    ("inputs/0/dtype", "object", "bad-tensor", "/inputs/0/dtype"),
    ("inputs/0/name", "../x", "graph-format", "/inputs/0/name"),
    ("inputs/0/name", ..., "graph-format", "/inputs/0/name"),
    ("nodes/0/op", "summ", "unknown-op", "/nodes/0/op"),
    ("nodes/0/op", "input", "unknown-op", "/nodes/0/op"),
    ("nodes/0/op", 7, "unknown-op", "/nodes/0/op"),
    ("nodes/0/id", "a", "duplicate-id", "/nodes/1/id"),
    ("nodes/0/id", "x", "duplicate-id", "/nodes/0/id"),
    ("nodes/0/id", 5, "graph-format", "/nodes/0/id"),
    ("nodes/0/args", ["nope"], "dangling-id", "/nodes/0/args/0"),
    ("nodes/0/args", [{"constant": 9}], "dangling-id", "/nodes/0/args/0"),
    ("nodes/0/args", [{"constant": -1}], "dangling-id", "/nodes/0/args/0"),
    ("nodes/0/args", [None], "graph-format", "/nodes/0/args/0"),
    ("nodes/0/args", [True], "graph-format", "/nodes/0/args/0"),
    ("nodes/0/args", ["b", "b"], "wrong-arity", "/nodes/0"),
    ("nodes/0/args", [], "wrong-arity", "/nodes/0"),
    ("nodes/0/attrs", {"axis": [5]}, "bad-attribute", "/nodes/0"),
    ("nodes/0/attrs", {"axes": [0]}, "bad-attribute", "/nodes/0/attrs"),
    ("nodes/0/attrs", {"axis": [0.5]}, "bad-attribute", "/nodes/0/attrs/axis"),
    ("nodes/0/attrs", {"axis": {"a": 1}}, "bad-attribute", "/nodes/0/attrs/axis"),
    ("nodes/0/attrs", {"axis": [0] * 70_000}, "attribute-too-large", "/nodes/0/attrs/axis"),
    ("nodes/0/attrs", [], "graph-format", "/nodes/0"),
    ("nodes/1/args", ["x", "b"], "graph-cycle", "/nodes/"),
    ("nodes/1/args", ["a", "x"], "graph-cycle", "/nodes/"),
    ("nodes/1", {"id": "a", "op": "matmul", "args": ["x", {"constant": 0}, 1]}, "wrong-arity", "/nodes/1"),
    ("constants/0", {"data": [1, 2]}, "shape-mismatch", "/nodes/1"),
    ("constants/0", {"data": [1, "x", 3]}, "bad-tensor", "/constants/0/data/1"),
    ("constants/0/data", [], "shape-mismatch", "/nodes/1"),
    ("nodes/1", {"id": "a", "op": "take", "args": ["x", {"constant": 0}]}, "dtype-mismatch", "/nodes/1"),
    ("nodes/1", {"id": "a", "op": "broadcast_to", "args": ["x"], "attrs": {"shape": [10**6, 10**6, 3]}},
     "too-many-elements", "/nodes/1"),
    ("nodes/1", {"id": "a", "op": "reshape", "args": ["x"], "attrs": {"shape": "3"}}, "bad-attribute", "/nodes/1"),
    ("nodes/1", {"id": "a", "op": "einsum", "args": ["x"], "attrs": {"subscripts": "i->\u0130"}}, "bad-attribute",
     "/nodes/1"),
    ("guards", [{"node": "y", "value": True}], "dtype-mismatch", "/guards/0"),
    ("guards", [{"node": "y"}], "graph-format", "/guards/0"),
]


@pytest.mark.parametrize(("path", "value", "code", "pointer"), REFUSALS, ids=[f"{p}-{c}" for p, _, c, _ in REFUSALS])
def test_refusals_name_the_place(path: str, value: Any, code: str, pointer: str) -> None:
    with pytest.raises(HesseError) as caught:
        graph_from_json(changed(path, value), pointer="/function/graph")
    assert caught.value.code == code, caught.value
    assert (caught.value.pointer or "").startswith("/function/graph" + pointer)


def test_out_of_range_constant_index() -> None:
    body = changed("nodes/1", {"id": "a", "op": "take", "args": ["x", {"constant": 0}]})
    body["constants"] = [{"dtype": "int64", "data": [0, 3]}]
    with pytest.raises(HesseError) as caught:
        graph_from_json(body)
    assert caught.value.code == "index-out-of-range"
    assert caught.value.node == "a"


def test_node_limits() -> None:
    names = ["x", *[f"n{k}" for k in range(200)]]
    body = changed("nodes", [{"id": b, "op": "sin", "args": [a]} for a, b in itertools.pairwise(names)])
    body["outputs"] = ["n199"]
    with pytest.raises(HesseError) as caught:
        graph_from_json(body, limits=Limits(nodes=100))
    assert caught.value.code == "too-many-nodes"
    body["nodes"] = body["nodes"] * 600
    with pytest.raises(HesseError) as caught:
        graph_from_json(body)
    assert caught.value.code == "too-many-nodes"


def test_a_long_chain_does_not_recurse() -> None:
    count = 50_000
    body = changed("nodes", [{"id": f"n{k}", "op": "sin", "args": ["x" if k == 0 else f"n{k - 1}"]}
                             for k in reversed(range(count))])
    body["outputs"] = [f"n{count - 1}"]
    graph = graph_from_json(body)
    assert len(graph_id(graph)) == 64
    assert len(graph_to_json(graph)["nodes"]) == count

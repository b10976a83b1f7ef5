"""Hostile crowds: what is harmless once, as often as a body may hold it."""

from __future__ import annotations

from typing import Any

from hostile_row import CANARY, GOOD, Family, Row, call, graph, node, summed

_crowd = Family("crowd")
BAD, FORMAT = "422 bad-request", "422 graph-format"
SUM = node("y", "sum", "x")
MILLION = 1_000_000


def _distinct(count: int = 200_000) -> dict[str, int]:
    return {f"{CANARY} {k}": k for k in range(count)}


def _options(**members: Any) -> dict[str, Any]:
    return {**GOOD, "options": members}


ROWS: list[Row] = [
    _crowd.row("2M empty lists", lambda: b"[" + b"[]," * 1_999_900 + b"1]", BAD),
    _crowd.row("1M members", lambda: b"{" + b",".join([b'"%x":1' % k for k in range(MILLION)]) + b"}", BAD),
    _crowd.row("members of the options", lambda: _options(**_distinct()), BAD),
    _crowd.row("members of a function", lambda: call({**GOOD["function"], **_distinct()}), BAD),
    _crowd.row("members of a tensor", lambda: call(inputs=[{"data": [1.0, 2.0], **_distinct()}]), "422 bad-tensor"),
    _crowd.row("members of a graph", lambda: graph([SUM], **_distinct()), FORMAT),
    _crowd.row("members of a node", lambda: graph([{**SUM, **_distinct()}]), FORMAT),
    _crowd.row("members of an input", lambda: graph([SUM], [{"name": "x", "shape": [2], **_distinct()}]), FORMAT),
    _crowd.row("attributes", lambda: graph([{**SUM, "attrs": _distinct()}]), "422 bad-attribute"),
    _crowd.row("axes", lambda: graph([{**SUM, "attrs": {"axis": [0] * MILLION}}]), "413 attribute-too-large"),
    _crowd.row("arguments", lambda: graph([{**SUM, "args": ["x"] * MILLION}]), "413 too-many-nodes"),
    _crowd.row("parts of a concat", lambda: graph(summed("concat", *["x"] * MILLION, axis=0)), "413 too-many-nodes"),
    _crowd.row("fewer parts of a concat", lambda: graph(summed("concat", *["x"] * 99_999, axis=0)),
               "413 too-many-nodes | 413 over-memory-budget"),
    _crowd.row("outputs", lambda: graph([SUM], outputs=["y"] * MILLION), "413 too-many-nodes"),
    _crowd.row("guards", lambda: graph([SUM], guards=[{"node": "y", "value": 1.0}] * 500_000), "413 too-many-nodes"),
    _crowd.row("constants", lambda: graph([SUM], constants=[1.0] * MILLION), "413 too-many-nodes"),
    _crowd.row("attributes of no row", lambda: graph([{**SUM, "attrs": {f"a{k}": 1 for k in range(MILLION)}}]),
               "422 bad-attribute"),
    _crowd.row("arguments of all nodes",
               lambda: graph([{**SUM, "id": f"n{k}", "args": ["x"] * 99_000} for k in range(30)]),
               "413 too-many-nodes"),
    _crowd.row("4000 outputs without v", lambda: graph([SUM], outputs=["x"] * 4_000), "422 bad-v", path="/v1/vjp"),
    _crowd.row("operands of einsum",
               lambda: call({"expression": f"einsum('{','.join(['a'] * 2000)}->', {','.join(['x'] * 2000)})"}),
               "422 wrong-arity | 422 expression-syntax"),
    _crowd.row("inputs", lambda: call(inputs=[[1.0]] * MILLION), BAD),
    _crowd.row("names", lambda: call({"expression": "sum(x)", "inputs": ["x"] * MILLION}), BAD),
    _crowd.row("names that are numbers", lambda: call({"expression": "sum(x)", "inputs": [1] * MILLION}), BAD),
    _crowd.row("rows that are strings", lambda: _options(rows=["1"] * MILLION), BAD),
    _crowd.row("rows out of range", lambda: _options(rows=[7] * MILLION), "422 bad-rows"),
    _crowd.row("columns that are lists", lambda: _options(columns=[[]] * MILLION), BAD),
    _crowd.row("argnums that are strings", lambda: _options(argnums=["1"] * MILLION), BAD),
    _crowd.row("argnums", lambda: _options(argnums=[0] * MILLION), "422 bad-argnums"),
    _crowd.row("shape", lambda: call(inputs=[{"data": [1.0], "shape": ["1"] * MILLION}]), "422 bad-tensor"),
    _crowd.row("vectors that are numbers", lambda: {**GOOD, "v": [1.0] * MILLION}, "422 bad-v", path="/v1/hvp"),
    _crowd.row("signatures", lambda: {"function": GOOD["function"], "inputs": [{"shape": ["2"]}] * 500_000}, BAD,
               path="/v1/functions", method="PUT"),
    _crowd.row("axes of a signature",
               lambda: {"function": GOOD["function"], "inputs": [{"shape": ["2"] * MILLION}]}, BAD,
               path="/v1/functions", method="PUT"),
]

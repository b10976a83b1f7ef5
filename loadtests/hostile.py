"""A few requests that must be refused, each with its status and code. tests/service/hostile.py has the long list."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

CUBE = {"expression": "sum(x**3)", "inputs": ["x"]}


@dataclass(frozen=True, slots=True)
class Refused:
    name: str
    body: bytes
    status: int
    code: str
    path: str = "/v1/hessian"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)


def _call(**members: object) -> bytes:
    return json.dumps({"function": CUBE, "inputs": [[1.0, 2.0]], **members}).encode()


HOSTILE = (
    Refused("truncated JSON", _call()[:-5], 400, "malformed-json"),
    Refused("bare NaN", _call().replace(b"2.0", b"NaN"), 400, "non-finite-token"),
    Refused("nested 50,000 deep", b"[" * 50_000 + b"]" * 50_000, 400, "malformed-json"),
    Refused("no such member", _call(surprise=1), 422, "bad-request"),
    Refused("1e12 elements", _call(inputs=[{"shape": [10**6, 10**6], "dtype": "float64", "data": [1.0]}]), 413,
            "too-many-elements"),
    Refused("negative length", _call(inputs=[{"shape": [-1], "dtype": "float64", "data": [1.0]}]), 422, "bad-tensor"),
    Refused("rank 40", _call(inputs=[{"shape": [1] * 40, "dtype": "float64", "data": [1.0]}]), 413, "rank-too-high"),
    Refused("unknown id", _call(function={"id": "0" * 64}), 404, "unknown-function"),
    Refused("code in a formula", _call(function={"expression": "__import__('os').system('true')", "inputs": ["x"]}),
            422, "unknown-name"),
    Refused("unknown operation", _call(), 404, "unknown-operation", path="/v1/exploit"),
    Refused("no such path", b"", 404, "not-found", path="/v1/functions/../../etc/passwd", method="GET"),
    Refused("wrong method", b"", 405, "method-not-allowed", method="GET"),
    Refused("a web page's request", _call(), 403, "cross-origin", headers={"Origin": "http://evil.example"}),
    Refused("XML", b"<x/>", 415, "unsupported-media-type", headers={"Content-Type": "text/xml"}),
)

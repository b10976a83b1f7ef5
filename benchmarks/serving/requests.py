"""Requests as bytes, different at every call: no answer can come from a cache."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import httpx2

from benchmarks.serving.generator import Next
from benchmarks.serving.servers import Server

EXPRESSION = "sum(100*(x[1:] - x[:-1]**2)**2 + (1 - x[:-1])**2)"
LARGE_EXPRESSION = "sum(x)**4 + sum(x**3)"
JSON, FRAME = b"application/json", b"application/octet-stream"
POOL = 512


def registered(server: Server, expression: str, size: int) -> str:
    """The id of the function of a vector of `size` elements."""
    signature = [{"name": "x", "shape": [size], "dtype": "float64"}]
    body = {"function": {"expression": expression, "inputs": ["x"]}, "inputs": signature}
    return str(httpx2.put(f"{server.url}/v1/functions", json=body, timeout=60).raise_for_status().json()["id"])


def _bodies(name: str, size: int) -> Iterator[bytes]:
    """Calls of the function at points of which the first coordinate counts up and the others are drawn."""
    drawn = random.Random(1)
    tails = ["".join([f",{drawn.uniform(-2.0, 2.0)!r}" for _ in range(size - 1)]).encode() for _ in range(POOL)]
    head = b'{"function":{"id":"%b"},"inputs":[{"shape":[%d],"dtype":"float64","data":[' % (name.encode(), size)
    for k in itertools.count():
        yield b"%b1.%09d%b]}]}" % (head, k, tails[k % POOL])


def calls(server: Server, path: str, name: str, size: int, accept: bytes = JSON) -> Next:
    """The next request to `path`, ready to be sent."""
    head = b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nAccept: %b\r\nContent-Length: " % (
        path.encode(), server.host.encode(), accept)
    bodies = _bodies(name, size)

    def following() -> bytes:
        body = next(bodies)
        return b"%b%d\r\n\r\n%b" % (head, len(body), body)

    return following


def probe(server: Server, path: str = "/livez") -> Next:
    request = b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path.encode(), server.host.encode())
    return lambda: request

"""What a row of the hostile table is: bytes on a connection, and the answers that are right."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

CANARY = "Zq7xCANARYzq7x"  # stands in payloads; no answer may repeat it
GOOD: dict[str, Any] = {"function": {"expression": "sum(x**2)"}, "inputs": [[1.0, 2.0]]}
JSON = "application/json"
Piece = bytes | float


@dataclass(frozen=True, slots=True)
class Row:
    """One hostile input.

    Attributes:
        family: what it attacks.
        name: unique in its family.
        pieces: makes what is sent: bytes, and pauses [s] between them.
        answers: what is right: "422 bad-tensor" (status and code), "200", or "closed" (no answer at all).
        needs: what the OpenAPI document must have for the row to run: a path, a media type or a header.
        stops: whether the client goes away without reading.
    """

    family: str
    name: str
    pieces: Callable[[], Iterable[Piece]]
    answers: frozenset[str]
    needs: tuple[str, ...] = ()
    stops: bool = False

    @property
    def label(self) -> str:
        return f"{self.family}: {self.name}"


def one_of(answers: str) -> frozenset[str]:
    """`"422 bad-tensor | 200"` as a set."""
    return frozenset([a.strip() for a in answers.split("|")])


def head(method: str, path: str, headers: Iterable[str], length: int | None) -> bytes:
    """A request's head."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def written(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@dataclass(frozen=True, slots=True)
class Family:
    """Makes rows of one family."""

    name: str
    needs: tuple[str, ...] = ()

    def row(self, name: str, body: Any, answers: str, path: str = "/v1/hessian", method: str = "POST",
            headers: Iterable[str] = (), media: str | None = JSON) -> Row:
        """A request with a body: a JSON value, bytes, or a function that makes one of them."""
        added = (*headers, *(() if media is None else (f"Content-Type: {media}",)))

        def pieces() -> Iterable[Piece]:
            content = written(body() if callable(body) else body)
            return [head(method, path, added, len(content)) + content]

        return Row(self.name, name, pieces, one_of(answers), self.needs)

    def bare(self, name: str, method: str, path: str, answers: str, headers: Iterable[str] = ()) -> Row:
        """A request without a body."""
        return Row(self.name, name, lambda: [head(method, path, headers, None)], one_of(answers), self.needs)

    def raw(self, name: str, sent: bytes | Callable[[], Iterable[Piece]], answers: str, stops: bool = False) -> Row:
        """Bytes on the socket."""
        made: Callable[[], Iterable[Piece]] = (lambda: [sent]) if isinstance(sent, bytes) else sent
        return Row(self.name, name, made, one_of(answers), self.needs, stops)


def call(function: Any = None, inputs: Any = ((1.0, 2.0),), **members: Any) -> dict[str, Any]:
    """A call of sum(x**2) unless told otherwise."""
    return {"function": GOOD["function"] if function is None else function, "inputs": inputs, **members}


def formula(text: str, *inputs: Any, **members: Any) -> dict[str, Any]:
    """A call of a formula over x (and y, z) at `inputs`, by default x of two elements."""
    given = list(inputs) or [[1.0, 2.0]]
    return {"function": {"expression": text, "inputs": list("xyz"[: len(given)])}, "inputs": given, **members}


def graph(nodes: Any, inputs: Any = None, outputs: Any = ("y",), at: Any = None, **members: Any) -> dict[str, Any]:
    """A call of a graph over x of two elements."""
    document = {
        "format": "hesse-graph/1",
        "inputs": [{"name": "x", "shape": [2], "dtype": "float64"}] if inputs is None else inputs,
        "nodes": nodes,
        "outputs": list(outputs) if isinstance(outputs, tuple) else outputs,
        **members,
    }
    return {"function": {"graph": document}, "inputs": [[1.0, 2.0]] if at is None else at}


def node(name: str, op: str, *args: Any, **attrs: Any) -> dict[str, Any]:
    return {"id": name, "op": op, "args": list(args), "attrs": attrs}


def summed(op: str, *args: Any, **attrs: Any) -> list[dict[str, Any]]:
    """y = sum(op(...))."""
    return [node("u", op, *args, **attrs), node("y", "sum", "u")]

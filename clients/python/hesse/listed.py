"""The functions that a service keeps for the key of a client: listed, described, forgotten. Pure, as `protocol` is."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from hesse.errors import TransportError
from hesse.protocol import Reply, Request, Step, exchange, read
from hesse_engine.errors import InputError

ID = re.compile(r"[0-9a-f]{64}")
PAGE = 100


@dataclass(frozen=True, slots=True)
class Argument:
    """An input or an output of a registered function; outputs have no name."""

    shape: tuple[int, ...]
    dtype: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class RegisteredFunction:
    """A function that the service keeps.

    Attributes:
        id: SHA-256 of the canonical graph.
        inputs, outputs: what it takes and gives.
        bytes: size of its graph; 0 where it was not asked for.
        created, used: times, RFC 3339.
        graph: the graph as it travels; None in a list.
    """

    id: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    bytes: int = 0
    created: str = ""
    used: str = ""
    graph: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Functions, and the path of the next page."""

    functions: tuple[RegisteredFunction, ...]
    next: str | None


Conversation = Generator[Step, Reply | TransportError | None, Any]


def converse_page(path: str | None, retries: int) -> Conversation:
    """One page; the first where no path is given."""
    reply = yield from exchange(Request("GET", path or f"/v1/functions?limit={PAGE}", b""), retries)
    return read(reply, _page)


def converse_describe(name: str, retries: int) -> Conversation:
    """One function with its graph."""
    reply = yield from exchange(Request("GET", f"/v1/functions/{_checked(name)}", b""), retries)
    return read(reply, _function)


def converse_forget(name: str, retries: int) -> Conversation:
    yield from exchange(Request("DELETE", f"/v1/functions/{_checked(name)}", b""), retries)


def _checked(name: str) -> str:
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise InputError("bad-option", "An id of a function is the 64 hexadecimal digits that the service gave it.")
    return name


def _page(value: Any) -> Page:
    following = value["next"]
    # a path, never a URL: the key goes to no other host
    if following is not None and not following.startswith("/v1/functions?"):
        raise ValueError
    return Page(tuple([_function(found) for found in value["functions"]]), following)


def _function(value: Any) -> RegisteredFunction:
    graph = value["function"]["graph"] if "function" in value else None
    more = {name: value[name] for name in ("bytes", "created", "used") if name in value}
    taken, given = _arguments(value["inputs"]), _arguments(value["outputs"])
    return RegisteredFunction(value["id"], taken, given, graph=graph, **more)


def _arguments(values: Any) -> tuple[Argument, ...]:
    return tuple([Argument(tuple(v["shape"]), v["dtype"], v.get("name") or "") for v in values])

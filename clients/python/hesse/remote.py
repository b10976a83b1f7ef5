"""Where a service is, and how it is spoken to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hesse.protocol import Request, Wire, check_compression
from hesse_engine.errors import InputError, StateError

LOCAL = ":local:"
CONNECT_S, READ_S, RETRIES = 5.0, 600.0, 2


@dataclass(frozen=True, slots=True)
class Server:
    """Where a service is and how it is spoken to; `registered` are the functions that it was sent."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)  # the key is among them
    retries: int
    timeout: Any
    wire: Wire
    registered: set[str] = field(default_factory=set)

    def arguments(self, request: Request) -> dict[str, Any]:
        found = {"content": request.body, "headers": {**self.headers, **request.headers}}
        return found if self.timeout is None else {**found, "timeout": self.timeout}

    def url(self, request: Request) -> str:
        return self.base_url + request.path


def server_of(base_url: str, api_key: str | None, timeout: Any, retries: int, is_own: bool, wire: Wire) -> Server:
    import httpx2

    from hesse import __version__

    url = base_url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InputError("bad-option", f"The base URL must begin with http:// or https://, or be {LOCAL!r}; got "
                                       f"{base_url!r:.80}.")
    check_compression(wire.compression)
    headers = {**wire.headers, "User-Agent": f"hesse-python/{__version__}"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {_checked(api_key)}"
    if timeout is None and is_own:
        timeout = httpx2.Timeout(READ_S, connect=CONNECT_S)
    return Server(url, headers, retries, timeout, wire)


def _checked(api_key: str) -> str:
    """The key without the blanks around it; what else no header can carry is refused here, where it is not repeated."""
    found = api_key.strip()
    if not found or not found.isascii() or not found.isprintable() or " " in found:
        raise InputError("bad-option", "The API key is empty, or has characters that no key has.",
                         hint="Give it as `hesse keys add` printed it: hesse_<id>_<secret>.")
    return found


def setting(value: str | None, name: str, default: str | None) -> str | None:
    return value if value is not None else os.environ.get(name) or default


def shown(base_url: str) -> str:
    """The URL for eyes: without a password that stands in it."""
    return re.sub(r"(?<=//)[^/@]*@", "...@", base_url)


def keeps_nothing() -> StateError:
    return StateError("unknown-function", "The engine in this process keeps no functions by id.")

"""Request bodies, read within their limits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import Request

from hesse_engine.errors import InputError, LimitError, StateError
from hesse_service.exchange import header
from hesse_service.settings import Settings


class Disconnected(Exception):
    """The client went away; nobody will read an answer."""


@dataclass(frozen=True, slots=True)
class Body:
    """A request body as it came: in chunks, `length` bytes together."""

    chunks: list[bytes]
    length: int

    def joined(self) -> bytes:
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)

    def release(self) -> None:
        """Let go of the bytes: an error and the frames of its traceback hold each other, and with them the body."""
        self.chunks.clear()


async def read_body(request: Request, settings: Settings) -> Body:
    """The body, counted while it arrives: a chunked one states no length.

    Raises:
        LimitError: `body-too-large`.
        StateError: `body-timeout`.
        InputError: `malformed-json`, of an empty body.
        Disconnected: the client went away.
    """
    length = header(request, b"content-length", "0")
    if length.isdigit() and int(length) > settings.max_body_bytes:
        raise _too_large(settings.max_body_bytes)
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            body = await _chunks(request, settings.max_body_bytes)
    except TimeoutError:
        raise StateError("body-timeout", f"The body did not arrive within {settings.body_timeout_s:g} s.") from None
    if not body.length:
        raise InputError("malformed-json", "The body is empty.")
    return body


async def _chunks(request: Request, limit: int) -> Body:
    chunks: list[bytes] = []
    length = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        length += len(chunk)
        if length > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return Body(chunks, length)


def _too_large(limit: int) -> LimitError:
    return LimitError("body-too-large", f"The body is larger than {limit} bytes.")

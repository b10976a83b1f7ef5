"""Answers as HTTP responses."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hesse_service import segments
from hesse_service.evaluator import Answer
from hesse_service.exchange import DOCUMENT, JSON, Formats, accepted_of
from hesse_service.journal import server_timing
from hesse_service.media import VARY, Written, coded
from hesse_service.workers import Reply

STRIDE = 256 * 1024  # bytes handed to the server at a time: it copies them, and waits while the client is slow


def of_answer(answer: Answer) -> Response:
    """The response to what was computed here."""
    pieces = answer.pieces
    body = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
    stated = {"server-timing": server_timing(answer.seconds), **VARY, **answer.headers}
    return Ready(body, answer.media, [(k.lower().encode(), v.encode()) for k, v in stated.items()])


class Ready(Response):
    """A response with its headers as they are sent; to make them Starlette's way takes 8 us."""

    def __init__(self, body: bytes, media_type: str, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code, self.background, self.body = 200, None, body
        length = b"%d" % len(body)
        self.raw_headers = [(b"content-length", length), (b"content-type", media_type.encode()), *headers]


def of_reply(reply: Reply) -> Response:
    """The response to what a compute process answered."""
    headers = {"Server-Timing": server_timing(reply.seconds), **VARY, **reply.headers}
    if not reply.segment:
        return Response(reply.body, headers=headers, media_type=reply.media)
    return SegmentResponse(reply.segment, reply.length, headers, reply.media)


async def of_document(request: Request, document: bytes, least: int) -> Response:
    """The response that gives a JSON document, compressed where that was asked for.

    Args:
        least: bytes that are worth compressing.
    """
    formats: Formats = accepted_of(request, DOCUMENT)
    written = Written([document])
    if formats.answer_coding:
        written = await asyncio.to_thread(coded, written, formats, least)
    return Response(b"".join(written.pieces), headers={**VARY, **written.headers}, media_type=JSON)


class SegmentResponse(Response):
    """Sends a segment and gives it back, also where the client goes away before the first byte."""

    def __init__(self, name: str, length: int, headers: dict[str, str], media_type: str) -> None:
        self.name, self.length = name, length
        super().__init__(headers={**headers, "Content-Length": str(length)}, media_type=media_type)

    async def discard(self) -> None:
        """For a response that is not sent."""
        segments.KEPT.give(self.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            content = segments.KEPT.view(self.name, self.length)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for at in range(0, self.length, STRIDE):
                more = at + STRIDE < self.length
                await send({"type": "http.response.body", "body": content[at : at + STRIDE], "more_body": more})
                await asyncio.sleep(0)  # others have their turn, and the loop hears of a client that left
        finally:
            segments.KEPT.give(self.name)

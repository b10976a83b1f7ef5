"""Answers as HTTP responses."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from hesse_service import segments
from hesse_service.evaluator import Answer
from hesse_service.exchange import JSON
from hesse_service.journal import server_timing
from hesse_service.workers import Reply


def of_answer(answer: Answer) -> Response:
    """The response to what was computed here."""
    return Response(b"".join(answer.pieces), headers={"Server-Timing": server_timing(answer.seconds)}, media_type=JSON)


def of_reply(reply: Reply) -> Response:
    """The response to what a compute process answered."""
    headers = {"Server-Timing": server_timing(reply.seconds)}
    if not reply.segment:
        return Response(reply.body, headers=headers, media_type=JSON)
    return SegmentResponse(reply.segment, reply.length, headers, JSON)


class SegmentResponse(StreamingResponse):
    """Streams a segment and removes it, also where the client goes away before the first byte."""

    def __init__(self, name: str, length: int, headers: dict[str, str], media_type: str) -> None:
        super().__init__(
            segments.stream(name, length), headers={**headers, "Content-Length": str(length)}, media_type=media_type
        )
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            segments.remove(self.name)

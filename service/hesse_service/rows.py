"""A matrix in blocks of rows: computed one after the other while the client takes them, never whole in memory.

The answer is one binary frame. Its header says the shape, so its length is known before the first row is computed:

    Inference-Header-Content-Length: n
    n bytes {"result": {"shape": [m, k], "dtype": "float64", "parameters": {"binary_data_size": m k 8}}, "stats": ...}
    m k 8 bytes: the elements, little-endian, row-major
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field, replace

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hesse_engine.errors import HesseError, InputError, StateError
from hesse_engine.ir import frames
from hesse_service import codec, segments
from hesse_service.evaluator import RowsPlan
from hesse_service.exchange import FRAME, accepted_of
from hesse_service.journal import server_timing
from hesse_service.media import VARY
from hesse_service.workers import Reply, Work, Workers, deadline_exceeded

logger = logging.getLogger("hesse.service")

STRIDE = 1 << 20  # bytes handed to the server at a time
AGAIN_S = 0.25  # before a block that found the queue full asks again
FULL = ("busy", "too-many-requests")  # no room in the queue, for anybody or for this owner
TRIES = 2  # of a block whose process died


def header_of(plan: RowsPlan) -> bytes:
    """The JSON at the head of the frame."""
    size = plan.shape[0] * plan.row_bytes
    result = {"shape": list(plan.shape), "dtype": plan.dtype, "parameters": {"binary_data_size": size}}
    return frames.padded(codec.encode({"result": result, "stats": plan.stats}))


@dataclass(slots=True)
class RowStream:
    """The rows of one matrix: `async for piece in stream.pieces()` gives their bytes, in order and once.

    Attributes:
        work: the call; its `left_s` is how long a block may take.
        on_progress: hears (done, total) rows.
        is_whole: nobody listens until the whole matrix is there: room is waited for from the first block on, all blocks
            together take no longer than `work.left_s`, and a failure midway is raised.
        done: rows that were given, of `plan.shape[0]`.
    """

    workers: Workers
    work: Work
    plan: RowsPlan
    on_progress: Callable[[int, int], None] | None = None
    is_whole: bool = False
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    _ahead: asyncio.Task[Reply] | None = None

    @property
    def length(self) -> int:
        return self.plan.shape[0] * self.plan.row_bytes

    @property
    def left_s(self) -> float:
        """How much longer the stream may take."""
        longest = self.workers.settings.stream_deadline_s
        if self.is_whole:
            longest = min(longest, self.work.left_s)
        return longest - (time.monotonic() - self.started)

    async def begin(self) -> None:
        """Compute the first block, so that what is wrong can still be told in an ordinary answer.

        Raises:
            HesseError: as the call would.
        """
        self._ahead = self._next(0)
        if self._ahead is not None:
            try:
                await asyncio.shield(self._ahead)
            except BaseException:
                await self.close()
                raise

    async def pieces(self) -> AsyncGenerator[bytes | memoryview]:
        """One block is sent while at most one more is computed or waits.

        Raises:
            HesseError: a later block failed, or `deadline-exceeded`.
        """
        try:
            while self._ahead is not None:
                reply, end = await self._ahead, min(self.done + self.plan.height, self.plan.shape[0])
                self._ahead = self._next(end)
                with _removed(reply):
                    for piece in _content(reply):
                        yield piece
                self.done = end
                if self.on_progress is not None:
                    self.on_progress(end, self.plan.shape[0])
        finally:
            await self.close()

    async def close(self) -> None:
        """End the block being computed, and forget one that nobody took."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        ahead.cancel()
        await asyncio.wait({ahead})
        if not ahead.cancelled() and ahead.exception() is None:
            with _removed(ahead.result()):
                pass

    def _next(self, start: int) -> asyncio.Task[Reply] | None:
        stop = min(start + self.plan.height, self.plan.shape[0])
        return asyncio.create_task(self._block(start, stop)) if start < stop else None

    async def _block(self, start: int, stop: int) -> Reply:
        """These rows; a full queue is waited for once the answer has begun, a process that died is replaced."""
        tries = 0
        while True:
            left_s = min(self.work.left_s, self.left_s)
            if left_s <= 0:
                raise deadline_exceeded()
            try:
                reply = await self.workers.run(replace(self.work, rows=(start, stop), left_s=left_s))
            except HesseError as error:
                tries += error.code == "worker-died"
                is_answered = start == 0 and not self.is_whole
                if is_answered or error.code not in (*FULL, "worker-died") or tries >= TRIES:
                    raise
                await asyncio.sleep(AGAIN_S)
                continue
            if reply.error is not None:
                raise reply.error
            return reply


@contextlib.contextmanager
def _removed(reply: Reply) -> Iterator[None]:
    try:
        yield
    finally:
        if reply.segment:
            segments.KEPT.give(reply.segment)


def _content(reply: Reply) -> Iterator[bytes | memoryview]:
    if not reply.segment:
        yield reply.body
        return
    content = segments.KEPT.view(reply.segment, reply.length)
    for at in range(0, reply.length, STRIDE):
        yield content[at : at + STRIDE]


def check_accepted(request: Request) -> None:
    """Raises `InputError` (`bad-option`) unless the client takes binary answers that are not compressed."""
    try:
        is_coded = accepted_of(request, (FRAME,)).is_coded
    except StateError:
        is_coded = True
    if is_coded:
        raise InputError("bad-option", "A streamed matrix is a binary answer, not compressed; the header Accept or "
                                       "Accept-Encoding leaves that out.",
                         hint=f"Send Accept: {FRAME}, or leave out options.stream.", pointer="/options/stream")


async def respond(stream: RowStream, planned: Reply) -> RowsResponse:
    """The response, once the first block is there."""
    await stream.begin()
    return RowsResponse(stream, {"Server-Timing": server_timing(planned.seconds), **VARY})


class RowsResponse(Response):
    """Sends a frame of rows. A client that leaves ends the computation; a failure midway ends the connection short."""

    def __init__(self, stream: RowStream, headers: dict[str, str]) -> None:
        self.stream, self.head = stream, header_of(stream.plan)
        super().__init__(None, media_type=FRAME, headers={
            **headers,
            "Content-Length": str(len(self.head) + stream.length),
            frames.LENGTH: str(len(self.head)),
        })

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending, gone = asyncio.create_task(self._send(send)), asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            await asyncio.wait({sending, gone})
            await self.stream.close()
        if not sending.cancelled():
            self._log_failure(sending)

    async def discard(self) -> None:
        """For a response that is not sent."""
        await self.stream.close()

    async def _send(self, send: Send) -> None:
        async with asyncio.timeout(self.stream.left_s), contextlib.aclosing(self.stream.pieces()) as pieces:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self.head, "more_body": True})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(0)  # as a whole matrix is sent: see SegmentResponse
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _log_failure(self, sending: asyncio.Task[None]) -> None:
        """The status is sent already: the log has the reason, the client a body shorter than its Content-Length."""
        error = sending.exception()
        if error is None:
            return
        if isinstance(error, TimeoutError):
            error = deadline_exceeded()
        if self.stream.is_whole or not isinstance(error, HesseError):
            raise error
        request_id, rows = self.stream.work.terms.request_id, self.stream.plan.shape[0]
        logger.error("request %s ended at row %d of %d: %s", request_id, self.stream.done, rows, error.code)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

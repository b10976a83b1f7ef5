"""One server process: it reads bodies, decides where a request is computed, and turns replies into responses."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from hesse_engine.errors import InputError, LimitError, StateError
from hesse_service import codec, segments
from hesse_service.evaluator import Answer, Evaluator, translate, unknown_function
from hesse_service.inline import Inline
from hesse_service.problems import request_id_of
from hesse_service.schemas import CallRequest
from hesse_service.settings import Settings
from hesse_service.telemetry import server_timing
from hesse_service.workers import Reply, Workers, deadline_exceeded, load_kernels, open_store

logger = logging.getLogger("hesse.service")

STORE = "functions.sqlite"
JSON = "application/json"


class Disconnected(Exception):
    """The client went away; nobody will read an answer."""


class _Warm:
    """Tells that the VM is loaded."""

    value = False


class Service:
    """The parts of one server process. Lives from `start` to `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._is_private = settings.data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="hesse-")) if settings.data_dir is None else settings.data_dir
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        store_path = self.data_dir / STORE
        self.store = open_store(settings, store_path)
        self.evaluator = Evaluator(settings, self.store)
        self.inline = Inline(self.evaluator)
        self.workers = Workers(settings, store_path)
        self.is_draining = False
        self._warm = _Warm()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.workers.start()
        self._tasks = [asyncio.create_task(self._warm_up()), asyncio.create_task(self.workers.mend())]

    async def _warm_up(self) -> None:
        """Load the VM here after a compute process did: then it comes from the disk cache, without compiling."""
        await self.workers.first_warm()
        await asyncio.to_thread(load_kernels, self.store.path, self._warm)

    @property
    def is_ready(self) -> bool:
        return self._warm.value and self.workers.is_warm and not self.is_draining

    async def close(self) -> None:
        self.is_draining = True
        for task in self._tasks:
            task.cancel()
        await self.workers.close()
        self.inline.close()
        self.store.close()
        if self._is_private:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    # ---- requests ---------------------------------------------------------------------------------------------------
    async def answer(self, kind: str, name: str, request: Request) -> Response:
        """Answer a request that carries a body: here if it is tiny, else in a compute process."""
        _check_headers(request, self.settings.max_body_bytes)
        chunks, length = await _read_body(request, self.settings)
        started, left_s = time.monotonic(), self.settings.deadline_s
        if length <= self.settings.inline_body_bytes:
            value = codec.parse(b"".join(chunks))
            if kind == "call":
                call = codec.validate(CallRequest, value)
                entry = self.inline.entry(name, call)
                if entry is not None:
                    return _response(self._run_inline(name, call, entry))
                left_s = min(left_s, call.options.deadline_s or left_s)
        left_s -= time.monotonic() - started
        if left_s <= 0:
            raise deadline_exceeded()
        running = self.workers.run(kind, name, chunks, length, left_s, request_id_of(request))
        reply = await _until_gone(request, running)
        if reply.error is not None:
            raise reply.error
        if reply.hot is not None:
            self.inline.promote(reply.hot)
        return _reply_response(reply)

    def _run_inline(self, name: str, call: CallRequest, entry: Any) -> Answer:
        try:
            return self.inline.answer(name, call, entry)
        except Exception as error:
            raise translate(error) or error from error

    async def document(self, name: str) -> bytes:
        return await asyncio.to_thread(self.evaluator.document, name)

    async def delete(self, name: str) -> None:
        if not await asyncio.to_thread(self.store.delete, name):
            raise unknown_function()


def _check_headers(request: Request, max_body_bytes: int) -> None:
    media, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower()
    if media.strip().lower() != JSON or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise StateError(
            "unsupported-media-type", "The body must be JSON in UTF-8.", hint=f"Send the header Content-Type: {JSON}."
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise StateError(
            "unsupported-media-type",
            "Compressed bodies are not accepted.",
            hint="Leave out the header Content-Encoding.",
        )
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > max_body_bytes:
        raise _too_large(max_body_bytes)


async def _read_body(request: Request, settings: Settings) -> tuple[list[bytes], int]:
    """The chunks of the body, counted while they arrive: a chunked body states no length."""
    chunks: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                chunk = message.get("body", b"")
                length += len(chunk)
                if length > settings.max_body_bytes:
                    raise _too_large(settings.max_body_bytes)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise StateError("body-timeout", f"The body did not arrive within {settings.body_timeout_s:g} s.") from None
    if not length:
        raise InputError("malformed-json", "The body is empty.")
    return chunks, length


def _too_large(limit: int) -> LimitError:
    return LimitError("body-too-large", f"The body is larger than {limit} bytes.")


async def _until_gone(request: Request, running: Coroutine[Any, Any, Reply]) -> Reply:
    """The reply; when the client goes away first, the computation is cancelled."""
    work = asyncio.create_task(running)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise Disconnected
    finally:
        gone.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(answer: Answer) -> Response:
    return Response(b"".join(answer.pieces), headers={"Server-Timing": server_timing(answer.seconds)}, media_type=JSON)


def _reply_response(reply: Reply) -> Response:
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

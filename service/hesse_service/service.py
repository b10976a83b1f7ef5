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
from starlette.responses import Response

from hesse_service import codec, responses, store_file
from hesse_service.bodies import Disconnected, read_body
from hesse_service.compute_process import load_kernels
from hesse_service.evaluator import Answer, Entry, Evaluator, translate, unknown_function
from hesse_service.exchange import ANYBODY, Terms, terms_of
from hesse_service.inline import Inline
from hesse_service.schemas import CallRequest
from hesse_service.settings import Settings
from hesse_service.workers import Reply, Work, Workers, deadline_exceeded

logger = logging.getLogger("hesse.service")


class Service:
    """The parts of one server process. Lives from `start` to `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._is_private = settings.data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="hesse-")) if settings.data_dir is None else settings.data_dir
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        store_path = self.data_dir / store_file.STORE
        store_file.repair(store_path)
        self.store = store_file.open_store(settings, store_path)
        self.evaluator = Evaluator(settings, self.store)
        self.inline = Inline(self.evaluator)
        self.workers = Workers(settings, store_path)
        self.is_draining = False
        self._is_warm = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.workers.start()
        self._tasks = [asyncio.create_task(self._warm_up()), asyncio.create_task(self.workers.mend())]

    async def _warm_up(self) -> None:
        """Load the VM here after a compute process did: then it comes from the disk cache, without compiling."""
        await self.workers.first_warm()
        await asyncio.to_thread(load_kernels)
        self._is_warm = True

    @property
    def is_ready(self) -> bool:
        return self._is_warm and self.workers.is_warm and not self.is_draining

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
        terms = terms_of(request)
        body = await read_body(request, self.settings)
        started, left_s = time.monotonic(), self.settings.deadline_s
        if body.length <= self.settings.inline_body_bytes:
            value = codec.parse(body.joined())
            if kind == "call":
                call = codec.validate(CallRequest, value)
                entry = self.inline.entry(name, call, terms)
                if entry is not None:
                    return responses.of_answer(self._run_inline(name, call, entry, terms))
                left_s = min(left_s, call.options.deadline_s or left_s)
        left_s -= time.monotonic() - started
        if left_s <= 0:
            raise deadline_exceeded()
        reply = await _until_gone(request, self.workers.run(Work(kind, name, body, terms, left_s)))
        if reply.error is not None:
            raise reply.error
        if reply.hot is not None:
            self.inline.promote(reply.hot)
        return responses.of_reply(reply)

    def _run_inline(self, name: str, call: CallRequest, entry: Entry, terms: Terms) -> Answer:
        try:
            return self.inline.answer(name, call, entry, terms)
        except Exception as error:
            raise translate(error) or error from error

    async def document(self, name: str, owner: str = ANYBODY) -> bytes:
        return await asyncio.to_thread(self.evaluator.document, name, owner)

    async def delete(self, name: str, owner: str = ANYBODY) -> None:
        if not await asyncio.to_thread(self.store.delete, owner, name):
            raise unknown_function()


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

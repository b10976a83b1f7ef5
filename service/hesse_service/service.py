"""One server process: it reads bodies, decides where a request is computed, and turns replies into responses."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response

from hesse_engine.errors import StateError
from hesse_service import codec, job_routes, media, metrics, responses, rows, store_file
from hesse_service.bodies import Body, Disconnected, read_body
from hesse_service.compute_process import load_kernels
from hesse_service.evaluator import Answer, Entry, Evaluator, translate, unknown_function
from hesse_service.exchange import ANYBODY, DOCUMENT, TENSORS, Terms, terms_of
from hesse_service.inline import Inline
from hesse_service.jobs import Jobs
from hesse_service.journal import Exchange, exchange_of
from hesse_service.lifecycle import Lifecycle, draining, end_children
from hesse_service.listing import listing
from hesse_service.memory import SELDOM, Trimmer
from hesse_service.preferences import preference_of
from hesse_service.quotas import Ledger
from hesse_service.schemas import CallRequest
from hesse_service.security import Keyring, owner_of, quota_of, require_operator
from hesse_service.settings import Settings
from hesse_service.workers import Reply, Work, Workers, deadline_exceeded

logger = logging.getLogger("hesse.service")

T = TypeVar("T")


class Service:
    """The parts of one server process. Lives from `start` to `close`."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle) -> None:
        self.settings, self.lifecycle = settings, lifecycle
        self._is_private = settings.data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="hesse-")) if settings.data_dir is None else settings.data_dir
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        store_path = self.data_dir / store_file.STORE
        store_file.repair(store_path)
        self.store = store_file.open_store(settings, store_path)
        self.evaluator = Evaluator(settings, self.store)
        self.keyring = None if settings.keys_file is None else Keyring(settings.keys_file)
        self.inline = Inline(self.evaluator)
        self.workers = Workers(settings, store_path, metrics.Processes())
        self.jobs = Jobs(settings, self.workers, self.data_dir)
        self._is_warm = False
        self._running: set[asyncio.Task[Any]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.workers.start()
        self.jobs.start()
        watches = (self._warm_up(), self.workers.mend(), Trimmer().keep())
        self._tasks = [asyncio.create_task(w) for w in watches]
        if self.keyring is not None:
            self._tasks.append(asyncio.create_task(self.keyring.watch()))

    async def _warm_up(self) -> None:
        """Load the VM here after a compute process did: then it comes from the disk cache, without compiling."""
        await self.workers.first_warm()
        await asyncio.to_thread(load_kernels)
        gc.set_threshold(*SELDOM)
        self._is_warm = True

    # ---- lifecycle --------------------------------------------------------------------------------------------------
    @property
    def is_warm(self) -> bool:
        return self._is_warm and self.workers.is_warm

    async def check_ready(self) -> None:
        """Returns where a load balancer may send requests here.

        Raises:
            StateError: `draining`, `not-ready` while the VM loads, `store-unavailable`.
        """
        if self.lifecycle.is_draining:
            raise draining()
        if not self.is_warm:
            raise StateError("not-ready", "The server is warming up: the slower interpreter answers until it is done.")
        await asyncio.to_thread(self.store.has, ANYBODY, "")

    async def drain(self) -> None:
        """Let running work finish for `drain_s`; what is left then ends with 503 `draining`. Jobs go back at once."""
        await self.jobs.release()
        if self._running:
            await asyncio.wait(self._running, timeout=self.settings.drain_s)
        for work in self._running:
            work.cancel()

    def guard_metrics(self, request: Request) -> None:
        """Raises `StateError` (`forbidden`) unless the sender may read the metrics."""
        require_operator(request)

    def abandon(self) -> None:
        """End what would outlive this process, without waiting for anything."""
        end_children()
        if self._is_private:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.jobs.close()
        await self.workers.close()
        self.inline.close()
        self.evaluator.close()
        if self._is_private:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    # ---- requests ---------------------------------------------------------------------------------------------------
    async def answer(self, kind: str, name: str, request: Request) -> Response:
        """Answer a request that carries a body: here if it is tiny, else in a compute process."""
        exchange = exchange_of(request.scope)
        offers = TENSORS if kind == "call" else DOCUMENT
        terms = terms_of(request, owner_of(request), quota_of(request), offers)
        exchange.owner = terms.owner
        preference = preference_of(request) if kind == "call" else None
        if preference is not None:
            job = await self.jobs.accept(name, request, terms)
            job = await self._until_gone(request, self.jobs.waited(job, preference.wait_s or 0.0))
            return await job_routes.accepted(self.jobs, job, preference, terms.request_id)
        body = await read_body(request, self.settings)
        try:
            return await self._answer(kind, name, request, terms, body)
        except BaseException:
            body.release()
            raise

    async def _answer(self, kind: str, name: str, request: Request, terms: Terms, body: Body) -> Response:
        exchange = exchange_of(request.scope)
        exchange.body_bytes, parsing = body.length, time.perf_counter()
        started, left_s = time.monotonic(), self.settings.deadline_s
        if terms.is_plain and body.length <= self.settings.inline_body_bytes:
            with self.evaluator.meter.bill(terms.quota):
                value = media.read(body.joined(), terms, self.settings, tuple)
                call = codec.validate(CallRequest, value) if kind == "call" else None
                entry = None if call is None else self.inline.entry(name, call, terms)
            if call is not None:
                if entry is not None:
                    exchange.place = "inline"
                    read_s = time.perf_counter() - parsing
                    answer = self._run_inline(name, call, entry, terms)
                    _note(exchange, answer, read_s)
                    return responses.of_answer(answer)
                left_s = min(left_s, call.options.deadline_s or left_s)
        left_s -= time.monotonic() - started
        if left_s <= 0:
            raise deadline_exceeded()
        exchange.place, read_s = "process", time.perf_counter() - parsing
        work = Work(kind, name, body, terms, left_s)
        reply = await self._until_gone(request, self.workers.run(work))
        _note(exchange, reply, read_s)
        if reply.error is not None:
            raise reply.error
        if reply.plan is not None:
            rows.check_accepted(request)
            stream = rows.RowStream(self.workers, work, reply.plan)
            return await self._until_gone(request, rows.respond(stream, reply))
        if reply.hot is not None:
            self.inline.promote(reply.hot)
        return responses.of_reply(reply)

    def _run_inline(self, name: str, call: CallRequest, entry: Entry, terms: Terms) -> Answer:
        try:
            return self.inline.answer(name, call, entry, terms)
        except Exception as error:
            raise translate(error) or error from error

    @property
    def ledger(self) -> Ledger | None:
        """The quotas; None where no keys are asked for."""
        return self.evaluator.meter.ledger

    async def functions(self, limit: int, place: tuple[float, str], owner: str) -> tuple[bytes, str | None]:
        return await asyncio.to_thread(listing, self.store, owner, limit, place)

    async def _until_gone(self, request: Request, running: Coroutine[Any, Any, T]) -> T:
        """What `running` gives. It is cancelled when the client goes away first, or draining takes too long."""
        work = asyncio.create_task(running)
        gone = asyncio.create_task(_gone(request))
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.cancelled():
                raise draining()
            if work.done():
                return work.result()
            raise Disconnected
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    async def document(self, name: str, owner: str = ANYBODY) -> bytes:
        return await asyncio.to_thread(self.evaluator.document, name, owner)

    async def delete(self, name: str, owner: str = ANYBODY) -> None:
        is_known = await asyncio.to_thread(self.store.delete, owner, name)
        self.inline.forget(owner, name)
        if not is_known:
            raise unknown_function()


def _note(exchange: Exchange, made: Answer | Reply, read_s: float) -> None:
    """Complete the times of an answer, and note them in its record. Reading the JSON here belongs to `decode`."""
    seconds = exchange.seconds = made.seconds
    seconds["decode"] = seconds.get("decode", 0.0) + read_s
    seconds["total"] = exchange.elapsed()
    exchange.outline = made.outline


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

"""Long work: requests that are accepted, computed when there is room, and asked for later.

Each server process takes jobs from the queue that all of them share and runs them in its compute processes, fewer at a
time than it has, so that requests which somebody waits for find room. A job that is interrupted goes back to the queue.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fastapi import Request
from pydantic import TypeAdapter
from starlette.responses import Response

from hesse_engine.errors import HesseError, LimitError, StateError
from hesse_service import codec, job_results, media, responses, rows
from hesse_service.bodies import Body, read_body
from hesse_service.evaluator import internal, translate
from hesse_service.exchange import Terms
from hesse_service.job_leases import own_name
from hesse_service.job_store import LEASE_S, Application, Job, JobStore
from hesse_service.preferences import idempotency_key
from hesse_service.schemas import CallRequest
from hesse_service.settings import Settings
from hesse_service.workers import Reply, Work, Workers

logger = logging.getLogger("hesse.service")

STORE, FOLDER = "jobs.sqlite", "jobs"
POLL_S = 0.2  # how soon a process notices what another did
FIRST_POLL_S = 0.02
LONGEST_SWEEP_S = 30.0
PROGRESS_STEPS = 100  # events of progress, at most, of one attempt
TERMS = TypeAdapter(Terms)
UNMARKED = {"owner", "request_id", "traceparent", "quota"}  # terms that may differ where a request is repeated
INTERRUPTED = ("worker-died", "store-unavailable", "shared-memory-full")  # not the job's fault: it is tried again
P = ParamSpec("P")
T = TypeVar("T")


class Jobs:
    """The jobs of one server process, and its share in those of all. Lives from `start` to `close`."""

    def __init__(self, settings: Settings, workers: Workers, data_dir: Path) -> None:
        self.settings, self.workers = settings, workers
        self.store = JobStore(data_dir / STORE, data_dir / FOLDER, settings, own_name())
        self._capacity = settings.jobs_at_once or max(1, settings.compute_processes - 1)
        self._running: dict[str, asyncio.Task[None]] = {}  # by lease
        self._accepting: set[tuple[str, str]] = set()
        self._thread = ThreadPoolExecutor(1, "hesse-jobs")  # in order: an event never overtakes the one before
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.is_released = False  # nothing is run here any more

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._take()), asyncio.create_task(self._tend())]

    async def close(self) -> None:
        """Return what runs here to the queue, and stop."""
        await self.release()
        self._thread.shutdown()
        self.store.close()

    async def release(self) -> None:
        """Return what runs here to the queue and take no more; it was no attempt. Streams of events end."""
        self.is_released = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        running, self._running = dict(self._running), {}
        for task in running.values():
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)
        for lease in running:
            try:
                await self.stored(self.store.requeue, lease, None)
            except HesseError as error:
                logger.error("a job stays leased until this process is seen to be gone: %s", error.__cause__)

    async def stored(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A call of the store, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args, **kwargs))

    # ---- requests ---------------------------------------------------------------------------------------------------
    async def accept(
        self, operation: str, request: Request, terms: Terms
    ) -> Job:
        """The job of a request.

        Raises:
            StateError: `idempotency-running`, `idempotency-conflict`, `too-many-jobs`, `store-unavailable`.
            InputError: `bad-header`; and what a request that is small enough to be read at once has wrong.
        """
        key = idempotency_key(request)
        with self._first(terms.owner, key):
            body = await read_body(request, self.settings)
            try:
                job = await self._add(request, operation, terms, body, key)
            except Exception:  # not where this is cancelled: the thread of the store may be reading the body
                body.release()
                raise
        self._wake.set()
        return job

    async def _add(self, request: Request, operation: str, terms: Terms, body: Body, key: str | None) -> Job:
        if terms.is_plain and body.length <= self.settings.inline_body_bytes:
            call = codec.validate(CallRequest, media.read(body.joined(), terms, self.settings, tuple))
            if call.options.stream:
                rows.check_accepted(request)
        return await self.stored(lambda: self.store.add(_application(operation, terms, body, key)))

    @contextmanager
    def _first(self, owner: str, key: str | None) -> Iterator[None]:
        """Hold the key while its request arrives."""
        if key is None:
            yield
            return
        if (owner, key) in self._accepting:
            raise StateError("idempotency-running", "The first request with this Idempotency-Key is still arriving.",
                             hint="Try again later.")
        self._accepting.add((owner, key))
        try:
            yield
        finally:
            self._accepting.discard((owner, key))

    async def waited(self, job: Job, seconds: float) -> Job:
        """The job when it is finished, `seconds` are over, or nothing is run here any more."""
        end, pause = time.monotonic() + seconds, FIRST_POLL_S
        while not (job.is_finished or self.is_released) and time.monotonic() < end:
            await asyncio.sleep(min(pause, max(0.0, end - time.monotonic())))
            pause = min(2 * pause, POLL_S)
            job = await self.found(job.owner, job.id)
        return job

    async def found(self, owner: str, name: str) -> Job:
        """The owner's job.

        Raises:
            StateError: `unknown-job`.
        """
        job = await self.stored(self.store.get, owner, name)
        if job is None:
            raise unknown_job()
        return job

    async def end(self, owner: str, name: str) -> Job | None:
        """Cancel a job, at once where it runs here; None where it was finished and is now removed."""
        before = await self.found(owner, name)
        if before.is_finished:
            await self.stored(self.store.remove, before)
            return None
        job = await self.stored(self.store.cancel, owner, name)
        task = self._running.get(before.lease or "")
        if job is None:
            raise unknown_job()
        if task is not None and job.state == "canceled":
            task.cancel()
        return job

    # ---- the queue --------------------------------------------------------------------------------------------------
    async def _take(self) -> None:
        """Start queued jobs while there is room; runs until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._cancel_lost()
                while len(self._running) < self._capacity and await self._claimed():
                    pass
            except HesseError as error:
                logger.error("the queue of jobs could not be read: %s", error.__cause__)
            try:
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _claimed(self) -> bool:
        claim = asyncio.ensure_future(self.stored(self.store.claim))
        try:
            found = await asyncio.shield(claim)
        except asyncio.CancelledError:  # stopping: what was claimed meanwhile goes back
            with suppress(HesseError):  # of a store that fails: the job is taken back from a process that is gone
                found = await claim
                if found is not None and found[0].lease is not None:
                    await self.stored(self.store.requeue, found[0].lease, None)
            raise
        if found is None:
            return False
        job, terms, body = found
        assert job.lease is not None
        sent = Body([body], len(body))
        del body, found  # the task alone holds it, and lets go of it at its end
        self._running[job.lease] = asyncio.create_task(self._run(job, job.lease, terms, sent))
        return True

    async def _cancel_lost(self) -> None:
        """End what runs here and was canceled, or lost to another process."""
        if not self._running:
            return
        held = await self.stored(self.store.held, list(self._running))
        for lease, task in self._running.items():
            if lease not in held:
                task.cancel()

    async def _tend(self) -> None:
        """Renew leases, return lost jobs to the queue, let results expire; runs until cancelled."""
        swept = -LONGEST_SWEEP_S
        sweep_s = min(LONGEST_SWEEP_S, self.settings.job_keep_s / 4)
        died = json.dumps(members_of(worker_died()))
        while True:
            try:
                if self._running:
                    await self.stored(self.store.renew, list(self._running))
                if await self.stored(self.store.reclaim, died, list(self._running)):
                    self._wake.set()
                if time.monotonic() - swept >= sweep_s:
                    swept = time.monotonic()
                    await self.stored(self.store.sweep)
            except (HesseError, OSError) as error:
                logger.error("jobs could not be tended: %s", error.__cause__ or error)
            await asyncio.sleep(min(LEASE_S / 6, sweep_s, 1.0))

    # ---- one job ----------------------------------------------------------------------------------------------------
    async def _run(self, job: Job, lease: str, terms: str, body: Body) -> None:
        try:
            known, left_s = TERMS.validate_json(terms), self.settings.job_deadline_s
            work = Work("call", job.operation, body, known, left_s)
            try:
                await self._compute(job, lease, work)
            except Exception as error:
                declared = translate(error)
                if declared is None:
                    logger.error("job %s failed", job.id, exc_info=error)
                    declared = internal()
                await self._fail(job, lease, declared.with_traceback(None))
        except HesseError as error:
            logger.error("job %s is run again when its lease has passed: %s", job.id, error.__cause__)
        finally:
            body.release()
            self._running.pop(lease, None)
            self._wake.set()

    async def _compute(self, job: Job, lease: str, work: Work) -> None:
        reply = await self._reply(lease, work)
        if reply.error is not None:
            raise reply.error
        name = f"{job.id}.{lease}"
        path = self.store.folder / name
        is_kept = False
        try:
            headers, size = await job_results.write(await self._response(lease, work, reply), path)
            if size > self.settings.job_bytes:
                raise LimitError("result-too-large", f"The result has {size} bytes; {self.settings.job_bytes} are "
                                                     "kept for the jobs of one owner.")
            is_kept = await _uninterrupted(self.stored(self.store.succeed, lease, name, json.dumps(headers), size))
        finally:
            if not is_kept:
                path.unlink(missing_ok=True)

    async def _response(self, lease: str, work: Work, reply: Reply) -> Response:
        """What a direct request would have been answered; a streamed matrix is computed while it is written."""
        if reply.plan is None:
            return responses.of_reply(reply)
        stream = rows.RowStream(self.workers, work, reply.plan, self._progress(lease), is_whole=True)
        return await rows.respond(stream, reply)

    async def _reply(self, lease: str, work: Work) -> Reply:
        """The reply of a compute process. A full queue is waited for: the job was accepted."""
        while True:
            try:
                return await self.workers.run(work, on_progress=self._progress(lease))
            except StateError as error:
                if error.code not in rows.FULL:
                    raise
            await asyncio.sleep(POLL_S)

    def _progress(self, lease: str) -> Callable[[int, int], None]:
        """Notes that chunks are done, in steps that are worth an event."""
        last = -1

        def on_progress(done: int, total: int) -> None:
            nonlocal last
            step = done * PROGRESS_STEPS // max(total, 1)
            if step > last:
                last = step
                noted = self._thread.submit(self.store.progress, lease, done, total)
                noted.add_done_callback(lambda f: f.cancelled() or f.exception())  # a full disk stops no job

        return on_progress

    async def _fail(self, job: Job, lease: str, error: HesseError) -> None:
        problem = json.dumps(members_of(error))
        if error.code in INTERRUPTED:
            logger.warning("job %s was interrupted: %s", job.id, error.code)
            await self.stored(self.store.requeue, lease, problem)
        else:
            await self.stored(self.store.fail, lease, problem)


def unknown_job() -> HesseError:
    hint = "Jobs are forgotten some time after their end."
    return StateError("unknown-job", "There is no job of this id.", hint=hint)


def worker_died() -> HesseError:
    return StateError("worker-died", "The process that ran this job ended unexpectedly, each time it was tried.",
                      hint="Ask for less memory.")


def members_of(error: HesseError) -> dict[str, Any]:
    """What it takes to make the same error again."""
    return {"code": error.code, "message": error.message, "hint": error.hint, "pointer": error.pointer,
            "node": error.node, "retryable": error.is_retryable}


def _application(operation: str, terms: Terms, body: Body, key: str | None) -> Application:
    joined = body.joined()
    mark = sha256(operation.encode())
    mark.update(TERMS.dump_json(terms, exclude=UNMARKED))
    mark.update(joined)
    return Application(terms.owner, operation, TERMS.dump_json(terms).decode(), joined, mark.digest(), key)


async def _uninterrupted(coroutine: Coroutine[Any, Any, T]) -> T:
    """Its value, also where this is cancelled meanwhile: for the last step of a task, which ends after it anyway."""
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        return task.result()

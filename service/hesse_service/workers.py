"""Compute processes: spawned, one request at a time each, ended one by one by a deadline, a cancel or a crash.

A slot is a pebble pool of one process, so that ending one process touches no other's pipes or locks. The deadline is an
alarm that the kernel of the operating system keeps: it ends a process whatever it is doing, a LAPACK call included.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import gc
import itertools
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from hesse_engine.errors import HesseError, StateError
from hesse_service import media, segments
from hesse_service.bodies import Body
from hesse_service.evaluator import Evaluator, HotKey, internal, translate
from hesse_service.exchange import JSON, Terms
from hesse_service.settings import Settings
from hesse_service.store import Store

logger = logging.getLogger("hesse.service")

GRACE_S = 1.0  # how much later than the alarm the server gives up on a process
MEND_S = 0.5
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be computed: a request of `kind` 'call' (of operation `name`), 'plan' or 'register'."""

    kind: str
    name: str
    body: Body
    terms: Terms
    left_s: float


@dataclass(frozen=True, slots=True)
class Task:
    """Work on its way to a process: its body, or the segment that holds it."""

    kind: str
    name: str
    body: bytes
    segment: str
    length: int
    result_segment: str
    left_s: float
    terms: Terms


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer on its way back: a body, the length of one in the result segment, or an error."""

    body: bytes = b""
    length: int = 0
    segment: str = ""
    error: HesseError | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    hot: HotKey | None = None
    media: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


# ---- in the compute process ----------------------------------------------------------------------------------------
class _Process:
    """What one compute process holds; set by its initializer."""

    settings: Settings
    evaluator: Evaluator


def start_process(settings: Settings, store_path: Path, is_warm: Any) -> None:
    """Initializer: the default signal actions end the process at once; the VM loads behind the first requests."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Process.settings = settings
    _Process.evaluator = Evaluator(settings, open_store(settings, store_path))
    threading.Thread(target=load_kernels, args=(store_path, is_warm), daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def open_store(settings: Settings, path: Path) -> Store:
    return Store(path, settings.store_functions, settings.store_bytes)


def load_kernels(store_path: Path, is_warm: Any) -> None:
    """Load the VM, one process at a time: the first compiles, the others find the result on disk."""
    from hesse_engine.backend import kernels

    try:
        with open(store_path.with_name("warm.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kernels.load(wait=True)
        gc.freeze()  # Numba's objects stay: a full collection over them stops a request for 0.1 s
    except Exception:
        logger.exception("the VM could not be loaded; the reference interpreter answers")
    is_warm.value = True


def perform(task: Task) -> Reply:
    """Answer one task; whatever happens becomes a reply."""
    started = time.monotonic()

    def on_deadline(deadline_s: float) -> None:
        if deadline_s < task.left_s:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, deadline_s - (time.monotonic() - started)))

    signal.setitimer(signal.ITIMER_REAL, max(1e-3, task.left_s))
    try:
        return _reply(task, on_deadline)
    except Exception as error:
        declared = translate(error)
        if declared is None:
            logger.error("request %s failed", task.terms.request_id, exc_info=error)
            declared = internal()
        return Reply(error=declared)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _reply(task: Task, on_deadline: Any) -> Reply:
    started = time.perf_counter()
    settings, evaluator = _Process.settings, _Process.evaluator
    body = segments.mapped(task.segment, task.length) if task.segment else task.body
    value = media.read(body, task.terms, settings, partial(evaluator.names_of, task.terms.owner))
    parsed = time.perf_counter()
    answer = evaluator.answer(task.kind, task.name, value, task.terms, on_deadline)
    seconds = answer.seconds
    seconds["decode"] = seconds.get("decode", 0.0) + parsed - started
    done = time.perf_counter()
    written = media.coded(media.Written(answer.pieces, answer.media, answer.headers), task.terms.formats,
                          settings.compress_bytes)
    length, segment, content = sum([len(p) for p in written.pieces]), "", b""
    if length < settings.segment_bytes:
        content = b"".join(written.pieces)
    else:
        segment = task.result_segment
        segments.write(segment, written.pieces, length)
    seconds["encode"] = seconds.get("encode", 0.0) + time.perf_counter() - done
    return Reply(content, length, segment, None, seconds, answer.hot, written.media, written.headers)


# ---- in the server -------------------------------------------------------------------------------------------------
class Slot:
    """One compute process, replaced when it ends."""

    def __init__(self, settings: Settings, store_path: Path) -> None:
        self._context = multiprocessing.get_context("spawn")
        # a bare cell: a lock beside it would stay locked by a process killed while holding it
        self._is_warm = self._context.RawValue(ctypes.c_bool, False)
        self._arguments = (settings, store_path, self._is_warm)
        self._pool = self._make()
        self.is_started = False

    def _make(self) -> ProcessPool:
        return ProcessPool(1, initializer=start_process, initargs=self._arguments, context=self._context)

    @property
    def is_warm(self) -> bool:
        return bool(self._is_warm.value)

    def start(self) -> None:
        """Spawn the process; blocks for milliseconds."""
        self.is_started = self._pool.active  # asking starts it

    @property
    def is_broken(self) -> bool:
        """Whether the process was started and died idle."""
        return self.is_started and not self._pool.active

    def schedule(self, task: Task) -> asyncio.Future[Reply]:
        """Raises `BrokenProcessPool` where the process died idle."""
        try:
            return asyncio.wrap_future(self._pool.schedule(perform, args=(task,)))
        except RuntimeError as error:
            raise BrokenProcessPool from error

    def renew(self, leftover: str) -> None:
        """End the process, remove the segment it may have made, and let `start` spawn another."""
        old, self._pool, self.is_started = self._pool, self._make(), False
        threading.Thread(target=_end, args=(old, leftover), daemon=True).start()

    def close(self) -> None:
        _end(self._pool, "")


def _end(pool: ProcessPool, leftover: str) -> None:
    pool.stop()
    pool.join()
    if leftover:
        segments.remove(leftover)


class Workers:
    """The compute processes of one server and the bounded queue before them."""

    def __init__(self, settings: Settings, store_path: Path) -> None:
        self.settings = settings
        self._slots = [Slot(settings, store_path) for _ in range(settings.compute_processes)]
        # the slot used last is taken first: it has what was prepared last
        self._free: asyncio.LifoQueue[Slot] = asyncio.LifoQueue()
        self._waiting = 0
        segments.KEPT.max_bytes = settings.kept_segment_bytes
        self._numbers = itertools.count()

    async def start(self) -> None:
        for name in BLAS_THREADS:  # read by the libraries when the spawned processes load them
            os.environ.setdefault(name, str(self.settings.threads))
        for slot in self._slots:
            await asyncio.to_thread(slot.start)
            self._free.put_nowait(slot)

    async def mend(self) -> None:
        """Replace processes that died idle before a request meets them; runs until cancelled."""
        while True:
            await asyncio.sleep(MEND_S)
            for slot in self._slots:
                if slot.is_broken:
                    logger.error("an idle compute process ended; it is replaced")
                    slot.renew("")
                    await asyncio.to_thread(slot.start)

    async def close(self) -> None:
        await asyncio.gather(*[asyncio.to_thread(slot.close) for slot in self._slots])
        segments.KEPT.clear()

    @property
    def is_warm(self) -> bool:
        return all([slot.is_warm for slot in self._slots])

    async def first_warm(self) -> None:
        """Wait until one process is warm. It tells so in shared memory, where there is nothing to wait on."""
        while not any([slot.is_warm for slot in self._slots]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def run(self, work: Work) -> Reply:
        """The reply of a process; cancelling this call ends the process.

        Raises:
            StateError: `busy`, `deadline-exceeded`, `worker-died`.
        """
        started = time.monotonic()
        slot = await self._acquire(work.left_s)
        queued_s = time.monotonic() - started
        label = f"hesse_{os.getpid()}_{next(self._numbers)}"
        length = work.body.length
        segment = f"{label}i" if length >= self.settings.segment_bytes else ""
        result = segments.KEPT.take(f"{label}o")
        try:
            if segment:
                await _fill(segment, work.body.chunks, length)
            body = b"" if segment else work.body.joined()
            left_s = work.left_s - queued_s
            task = Task(work.kind, work.name, body, segment, length, result, left_s, work.terms)
            reply = await self._perform(slot, task)
        except BaseException:
            segments.remove(result)
            raise
        finally:
            self._free.put_nowait(slot)
            if segment:
                segments.remove(segment)
        if not reply.segment:
            segments.KEPT.give(result)
        reply.seconds["queue"] = queued_s
        return reply

    async def _acquire(self, left_s: float) -> Slot:
        if self._free.empty() and self._waiting >= self.settings.queue_length:
            raise StateError(
                "busy",
                f"All compute processes are busy and {self.settings.queue_length} requests wait already.",
                hint="Try again later.",
            )
        self._waiting += 1
        try:
            async with asyncio.timeout(left_s):
                return await self._free.get()
        except TimeoutError:
            raise deadline_exceeded() from None
        finally:
            self._waiting -= 1

    async def _perform(self, slot: Slot, task: Task) -> Reply:
        try:
            return await self._attempt(slot, task)
        except BrokenProcessPool:  # the process died before it took the task
            slot.renew("")  # what is kept of the segment's name serves the next process
            return await self._attempt(slot, task)

    async def _attempt(self, slot: Slot, task: Task) -> Reply:
        if not slot.is_started:
            await asyncio.to_thread(slot.start)
        try:
            async with asyncio.timeout(task.left_s + GRACE_S):
                return await slot.schedule(task)
        except ProcessExpired as error:
            segments.remove(task.result_segment)
            if error.exitcode == -signal.SIGALRM:
                raise deadline_exceeded() from None
            request_id = task.terms.request_id
            logger.error("a compute process ended with code %s during request %s", error.exitcode, request_id)
            raise StateError(
                "worker-died",
                "The process that computed this request ended unexpectedly; it has been replaced.",
                hint="Try again; if it happens again, ask for less memory.",
            ) from None
        except TimeoutError:
            slot.renew(task.result_segment)
            raise deadline_exceeded() from None
        except asyncio.CancelledError:
            slot.renew(task.result_segment)
            raise


async def _fill(segment: str, chunks: Sequence[bytes], length: int) -> None:
    """Write a body to a new segment in a thread, which a cancelled request must not outlive."""
    writing = asyncio.create_task(asyncio.to_thread(segments.write, segment, chunks, length))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await writing
        raise


def deadline_exceeded() -> HesseError:
    return StateError(
        "deadline-exceeded",
        "The deadline passed before the answer was ready; the computation was ended.",
        hint="Raise options.deadline_s within the server's limit, or ask for less.",
    )

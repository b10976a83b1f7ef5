"""The compute processes of one server: who gets one when, how long and with how much memory."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pebble import ProcessExpired

from hesse_engine.errors import HesseError, LimitError, StateError
from hesse_service import segments
from hesse_service.bodies import Body
from hesse_service.compute_process import Reply, Task
from hesse_service.exchange import ANYBODY, Terms
from hesse_service.queue import Queue
from hesse_service.settings import Settings
from hesse_service.slots import Process, Slot

__all__ = ["Reply", "Work", "Workers", "deadline_exceeded"]

logger = logging.getLogger("hesse.service")

GRACE_S = 1.0  # how much later than the alarm the server gives up on a process
WATCH_S = 0.2
SWEEP_LOOKS = 300  # looks between two sweeps of shared memory: once a minute
SWEEP_AGE_S = 600.0  # how much longer than a request a segment may be sent to a slow client
WARM_S = 120.0  # longest that a replacement may warm up
ATTEMPTS = 3  # of a task whose process died before it took it
LEAST_AFTER_S, MOST_AFTER_S = 1, 30
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be computed: a request of `kind` 'call' (of operation `name`), 'plan' or 'register'.

    With `rows`, of a call only the rows (first, last + 1) of its matrix, as raw bytes.
    """

    kind: str
    name: str
    body: Body
    terms: Terms
    left_s: float
    rows: tuple[int, int] | None = None


class Observer(Protocol):
    """Is told of the compute processes, by number."""

    def reported(self, number: int, counters: Mapping[str, int]) -> None: ...

    def restarted(self, number: int, reason: str) -> None: ...


class Workers:
    """The slots of one server and the bounded queue before them.

    Attributes:
        restarts: processes that ended, by reason: deadline, canceled, crash, idle, unresponsive, memory, and, replaced
            by warm ones, bytes and requests.
    """

    def __init__(self, settings: Settings, store_path: Path, observer: Observer | None = None) -> None:
        self.settings, self._observer = settings, observer
        self.restarts: Counter[str] = Counter()
        self._slots = [Slot(k, settings, store_path) for k in range(settings.compute_processes)]
        self._queue: Queue[Slot] = Queue()
        segments.KEPT.max_bytes = settings.kept_segment_bytes
        self._numbers = itertools.count()
        # another container's server may have this one's process id, and the same shared memory
        self._label = f"hesse_{os.getpid()}_{os.urandom(3).hex()}"
        self._held_s = 0.0  # how long a request holds a slot, lately
        self._has_been_warm = False
        self._recycling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        for name in BLAS_THREADS:  # read by the libraries when the spawned processes load them
            os.environ.setdefault(name, str(self.settings.threads))
        for slot in self._slots:
            await asyncio.to_thread(slot.start)
            self._queue.give(slot)

    async def close(self) -> None:
        if self._recycling is not None:
            self._recycling.cancel()
            await asyncio.wait({self._recycling})
        await asyncio.gather(*[asyncio.to_thread(slot.close) for slot in self._slots])
        segments.KEPT.clear()

    # ---- what there is to see ---------------------------------------------------------------------------------------
    @property
    def count(self) -> int:
        return len(self._slots)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def busy(self) -> int:
        """Processes that compute."""
        return sum([slot.task is not None for slot in self._slots])

    @property
    def resident_bytes(self) -> dict[int, int]:
        """Memory by process id, asked of the operating system: some 30 us a process."""
        return {slot.pid: slot.process.resident_bytes for slot in self._slots if slot.pid}

    @property
    def is_warm(self) -> bool:
        """Whether all processes have been warm: one that is replaced later costs its own requests only."""
        self._has_been_warm = self._has_been_warm or all([slot.is_warm for slot in self._slots])
        return self._has_been_warm

    async def first_warm(self) -> None:
        """Wait until one process is warm. It tells so in shared memory, where there is nothing to wait on."""
        while not any([slot.is_warm for slot in self._slots]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    # ---- watching ---------------------------------------------------------------------------------------------------
    async def mend(self) -> None:
        """Replace processes that died idle before a request meets them, end those over their memory; until cancelled.

        Memory is watched from here. A limit that the operating system keeps would count address space, of which the
        compiler and the libraries reserve gigabytes that they never touch, and would end a process anywhere in C.
        """
        for look in itertools.count():
            await asyncio.sleep(WATCH_S)
            if look % SWEEP_LOOKS == 0:
                await asyncio.to_thread(segments.sweep, self.settings.deadline_s + SWEEP_AGE_S)
            for slot in self._slots:
                if slot.task is not None:
                    self._watch(slot)
                elif slot.process.is_broken:
                    logger.error("an idle compute process ended; it is replaced")
                    self._renew(slot, "idle")
                if not slot.process.is_started:  # also after a deadline, a cancel or a crash
                    await _start(slot)

    def _watch(self, slot: Slot) -> None:
        if slot.is_over or slot.process.resident_bytes <= self.settings.process_limit_bytes:
            return
        slot.kill()

    def _ended(self, slot: Slot, reason: str) -> None:
        self.restarts[reason] += 1
        if self._observer is not None:
            self._observer.restarted(slot.number, reason)

    def _renew(self, slot: Slot, reason: str, leftover: str = "") -> None:
        self._ended(slot, reason)
        slot.renew(leftover)

    # ---- recycling --------------------------------------------------------------------------------------------------
    def _release(self, slot: Slot) -> None:
        slot.task = None
        if slot.next is not None:
            self._renew(slot, slot.due() or "requests")
        elif slot.due() and (self._recycling is None or self._recycling.done()):
            self._recycling = asyncio.create_task(self._recycle(slot))
        self._queue.give(slot)

    async def _recycle(self, slot: Slot) -> None:
        """Warm up another process for `slot`; it takes its place when the slot is free, so that no request waits."""
        reason, old, new = slot.due(), slot.process, slot.make()
        try:
            await asyncio.to_thread(new.start)
            async with asyncio.timeout(WARM_S):
                await _warm(new)
        except (OSError, TimeoutError, BrokenProcessPool) as error:
            logger.error("no compute process could be started to replace one: %r", error)
            await asyncio.to_thread(new.end)
            return
        except asyncio.CancelledError:
            await asyncio.to_thread(new.end)
            raise
        if slot.process is not old:  # ended in the meantime for another reason
            await asyncio.to_thread(new.end)
            return
        logger.info("compute process %d is replaced (%s)", slot.pid, reason)
        slot.next = new
        if slot.task is None and self._queue.has(slot):
            self._renew(slot, reason)

    # ---- running ----------------------------------------------------------------------------------------------------
    async def run(self, work: Work, on_progress: Callable[[int, int], None] | None = None) -> Reply:
        """The reply of a process; cancelling this call ends the process.

        Args:
            on_progress: called on the event loop with (done, total) chunks when they have changed, at most ten times a
                second.

        Raises:
            StateError: `busy`, `too-many-requests`, `deadline-exceeded`, `worker-died`, `shared-memory-full`.
            LimitError: `memory-exceeded`.
        """
        started = time.monotonic()
        slot = await self._acquire(work)
        acquired = time.monotonic()
        label = f"{self._label}_{next(self._numbers)}"
        length = work.body.length
        segment = f"{label}i" if length >= self.settings.segment_bytes else ""
        result = segments.KEPT.take(f"{label}o")
        try:
            if segment:
                await _fill(segment, work.body.chunks, length)
            body = b"" if segment else work.body.joined()
            left_s = work.left_s - (acquired - started)
            slot.task = Task(work.kind, work.name, body, segment, length, result, left_s, work.terms, work.rows)
            async with slot.watched(on_progress):
                reply = await self._perform(slot, slot.task)
        except BaseException:
            segments.remove(result)
            raise
        finally:
            self._held_s += 0.1 * (time.monotonic() - acquired - self._held_s)
            self._release(slot)
            if segment:
                segments.remove(segment)
        if not reply.segment:
            segments.KEPT.give(result)
        reply.seconds["queue"] = acquired - started
        return reply

    async def _acquire(self, work: Work) -> Slot:
        owner = work.terms.owner
        if not self._queue.is_free:
            self._admit(owner)
        try:
            async with asyncio.timeout(work.left_s):
                return await self._queue.take(owner)
        except TimeoutError:
            raise deadline_exceeded() from None

    def _admit(self, owner: str) -> None:
        length = self.settings.queue_length
        share = max(1, math.floor(length * self.settings.queue_share))
        if self.waiting >= length:
            text = f"All compute processes are busy and {length} requests wait already."
            error = StateError("busy", text, hint="Try again later.")
        elif owner != ANYBODY and self._queue.held_by(owner) >= share:
            text = f"{share} requests with this key wait already for a compute process."
            error = StateError("too-many-requests", text, hint="Wait for answers before sending more.")
        else:
            return
        error.retry_after_s = self.retry_after_s
        raise error

    @property
    def retry_after_s(self) -> int:
        """When the queue may be empty, by how long requests took lately [s]."""
        expected = (self.waiting + 1) * self._held_s / len(self._slots)
        return min(MOST_AFTER_S, max(LEAST_AFTER_S, math.ceil(expected)))

    async def _perform(self, slot: Slot, task: Task) -> Reply:
        for _ in range(ATTEMPTS):
            try:
                return await self._attempt(slot, task)
            except BrokenProcessPool:  # the process died before it took the task
                self._renew(slot, "idle")  # its successor writes the segment
        raise _died()

    async def _attempt(self, slot: Slot, task: Task) -> Reply:
        try:
            if not slot.process.is_started:
                await asyncio.to_thread(slot.start)
            async with asyncio.timeout(task.left_s + GRACE_S):
                reply = await slot.schedule(task)
        except ProcessExpired as error:
            raise self._expired(slot, task, error.exitcode) from None
        except TimeoutError:
            self._renew(slot, "unresponsive", task.result_segment)
            raise deadline_exceeded() from None
        except asyncio.CancelledError:
            self._renew(slot, "canceled", task.result_segment)
            raise
        except OSError as error:  # no room for the locks of another process
            logger.error("no compute process could be started: %s", error)
            raise segments.full() from error
        if slot.is_over:  # it was done just before it was ended
            self._renew(slot, "memory")
        else:
            slot.requests, slot.resident_bytes = slot.requests + 1, reply.counters["resident_bytes"]
            if self._observer is not None:
                self._observer.reported(slot.number, reply.counters)
        return reply

    def _expired(self, slot: Slot, task: Task, code: int | None) -> HesseError:
        """What became of a process that ended at `task`. Its pipes and locks may be in any state: all are made anew."""
        if slot.is_over:
            self._renew(slot, "memory", task.result_segment)
            return _memory_exceeded(self.settings.process_limit_bytes)
        if code == -signal.SIGALRM:
            self._renew(slot, "deadline", task.result_segment)
            return deadline_exceeded()
        self._renew(slot, "crash", task.result_segment)
        logger.error("a compute process ended with code %s during request %s", code, task.terms.request_id)
        return _died()


async def _start(slot: Slot) -> None:
    try:
        await asyncio.to_thread(slot.start)
    except OSError as error:  # the next request, or the next look, tries again
        logger.error("no compute process could be started: %s", error)


async def _warm(process: Process) -> None:
    """Wait for a process to be warm. Raises `BrokenProcessPool` where it ended."""
    while not process.cell.is_warm:
        if process.is_broken:
            raise BrokenProcessPool("the process ended before it was warm")
        await asyncio.sleep(0.05)


async def _fill(segment: str, chunks: Sequence[bytes], length: int) -> None:
    """Write a body to a new segment in a thread, which a cancelled request must not outlive."""
    writing = asyncio.create_task(asyncio.to_thread(segments.write, segment, chunks, length))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})
        raise


def deadline_exceeded() -> HesseError:
    return StateError(
        "deadline-exceeded",
        "The deadline passed before the answer was ready; the computation was ended.",
        hint="Ask for less, or submit it as a job (Prefer: respond-async); options.deadline_s may only shorten what "
        "the server allows (HESSE_DEADLINE_S).",
    )


def _died() -> HesseError:
    return StateError(
        "worker-died",
        "The process that computed this request ended unexpectedly; it has been replaced.",
        hint="Try again; if it happens again, ask for less memory.",
    )


def _memory_exceeded(limit: int) -> HesseError:
    return LimitError(
        "memory-exceeded",
        f"The computation took more than the {limit} bytes of memory that a compute process may have; it was ended.",
        hint="Lower options.chunk_size, ask for a sparse layout, or use hvp for products with the matrix.",
    )

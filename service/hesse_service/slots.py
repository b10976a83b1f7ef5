"""Slots: places for one compute process each. A process ends by deadline, cancel, crash or age; its slot stays.

A process is a pebble pool of one, so that ending it touches no other's pipes or locks. The deadline is an alarm that
the kernel of the operating system keeps: it ends a process whatever it is doing, a LAPACK call included.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import psutil
from pebble import CONSTS, ProcessPool

from hesse_service import segments
from hesse_service.compute_process import Cell, Reply, Task, perform, start_process
from hesse_service.memory import resident_bytes
from hesse_service.settings import Settings

PROGRESS_S = 0.1  # between two looks at how far a computation is
CONSTS.term_timeout = 0  # a compute process ignores SIGTERM: the pool goes on to SIGKILL


class Process:
    """One compute process, in a pool of its own."""

    def __init__(self, settings: Settings, store_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.cell: Cell = context.RawValue(Cell)
        self.pool = ProcessPool(1, initializer=start_process, initargs=(settings, store_path, self.cell),
                                context=context)
        self.is_started = False

    def start(self) -> None:
        """Spawn the process; blocks for milliseconds."""
        self.is_started = self.pool.active  # asking starts it

    @property
    def is_broken(self) -> bool:
        """Whether the process was started and died idle."""
        return self.is_started and not self.pool.active

    @property
    def resident_bytes(self) -> int:
        """Memory of the process; 0 where there is none at the moment."""
        try:
            return resident_bytes(self.cell.pid) if self.cell.pid else 0
        except psutil.Error:
            return 0

    def end(self, leftover: str = "") -> None:
        """Blocks until the process is gone, then removes the segment that it may have made."""
        self.pool.stop()
        self.pool.join()
        if leftover:
            segments.remove_leftover(leftover)


class Slot:
    """A compute process, replaced when it ends, or by a warm one when it has grown old."""

    def __init__(self, number: int, settings: Settings, store_path: Path) -> None:
        self.number, self.settings, self._store_path = number, settings, store_path
        self._ending: list[threading.Thread] = []
        self.process = self.make()
        self.next: Process | None = None  # warm, for the moment in which the slot is free
        self.task: Task | None = None  # what it computes now
        self.is_over = False  # the process was ended because of its memory
        self.requests = self.resident_bytes = 0  # of the process, after its last request

    def make(self) -> Process:
        return Process(self.settings, self._store_path)

    @property
    def is_warm(self) -> bool:
        return self.process.cell.is_warm

    @property
    def pid(self) -> int:
        return self.process.cell.pid

    def start(self) -> None:
        self.process.start()

    def schedule(self, task: Task) -> asyncio.Future[Reply]:
        """Raises `BrokenProcessPool` where the process died idle."""
        self.process.cell.done = self.process.cell.total = 0
        try:
            return asyncio.wrap_future(self.process.pool.schedule(perform, args=(task,)))
        except RuntimeError as error:
            raise BrokenProcessPool from error

    @contextlib.asynccontextmanager
    async def watched(self, on_progress: Callable[[int, int], None] | None) -> AsyncIterator[None]:
        """Tell `on_progress` how far the slot's task is, while it runs and once at its end."""
        if on_progress is None:
            yield
            return
        told = (0, 0)

        def tell() -> None:
            nonlocal told
            found = self.process.cell.done, self.process.cell.total
            if found != told:
                told = found
                on_progress(*found)

        async def watch() -> None:
            while True:
                await asyncio.sleep(PROGRESS_S)
                tell()

        watching = asyncio.create_task(watch())
        try:
            yield
            tell()
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    def kill(self) -> None:
        """End the process at its task, because of its memory."""
        self.is_over = True
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.is_over = False

    def due(self) -> str:
        """Why the process should be replaced; '' where it should not."""
        limit = self.settings.recycle_requests
        if limit and self.requests >= limit:
            return "requests"
        return "bytes" if self.resident_bytes > self.settings.recycle_bytes else ""

    def renew(self, leftover: str = "") -> None:
        """End the process, remove the segment it may have made, and put another, `next` at best, in its place."""
        old, self.process, self.next = self.process, self.next or self.make(), None
        self.requests = self.resident_bytes = 0
        self.is_over = False
        self._ending = [t for t in self._ending if t.is_alive()]
        self._ending.append(threading.Thread(target=old.end, args=(leftover,), daemon=True))
        self._ending[-1].start()

    def close(self) -> None:
        """Blocks until everything that was started in this slot is gone."""
        self.process.end()
        if self.next is not None:
            self.next.end()
        for thread in self._ending:
            thread.join()

"""Memory of processes, and what was freed in it handed back to the system.

glibc keeps what the small pieces of large bodies took: after some bodies of 64 MB, hundreds of megabytes. And what is
held by cycles only, as by an exception and the frames of its traceback, is held until garbage is looked for, which
is seldom (`SELDOM`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os

import psutil

TRIM_BYTES = 64 << 20  # growth after which freed memory is handed back; the call takes milliseconds
LOOK_S = 1.0
# A request leaves hundreds of objects: by Python's own thresholds every third one would pay for a look at them.
SELDOM = (20_000, 20, 20)


def resident_bytes(pid: int) -> int:
    """Memory that a process has for itself: without shared segments, which are counted by whoever made them.

    Raises:
        psutil.Error: there is no such process.
    """
    found = psutil.Process(pid).memory_info()
    return int(found.rss - getattr(found, "shared", 0))


class Trimmer:
    """Hands freed memory of this process back whenever the process has grown."""

    def __init__(self) -> None:
        self._trimmed_bytes = resident_bytes(os.getpid())

    def trimmed(self) -> int:
        """The memory of this process, after garbage went back to the system where there may be much of it."""
        now = resident_bytes(os.getpid())
        self._trimmed_bytes = min(self._trimmed_bytes, now)
        if now - self._trimmed_bytes > TRIM_BYTES:
            gc.collect()
            _trim()
            now = self._trimmed_bytes = resident_bytes(os.getpid())
        return now

    async def keep(self) -> None:
        """Look again and again until cancelled, beside the event loop."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.trimmed)


def _trim() -> None:
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)

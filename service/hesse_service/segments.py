"""Bytes in shared memory: how large bodies cross between the server and its compute processes.

The server names every segment before a process creates it, so that whatever becomes of the process the segment can be
removed. All processes of one server share one resource tracker, which removes what a killed server leaves behind.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil

from hesse_engine.errors import HesseError, StateError

STRIDE = 256 * 1024
FOLDER = Path("/dev/shm")  # noqa: S108  (where Linux keeps them; elsewhere nothing is found)


def _view(segment: SharedMemory) -> memoryview:
    if segment.buf is None:
        raise ValueError("the segment is closed")
    return segment.buf


def write(name: str, pieces: Iterable[bytes], length: int) -> None:
    """Create the segment `name` and fill it.

    Raises:
        StateError: `shared-memory-full`.
    """
    segment = _create(name, length)
    try:
        view, at = _view(segment), 0
        for piece in pieces:
            view[at : at + len(piece)] = piece
            at += len(piece)
    finally:
        segment.close()


def _create(name: str, length: int) -> SharedMemory:
    """A segment whose pages are there: writing to one that the system has no page for would end the process."""
    try:
        segment = SharedMemory(name, create=True, size=length)
    except OSError as error:
        raise full() from error
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(segment._fd, 0, length)  # type: ignore[attr-defined]
    except OSError as error:
        segment.close()
        segment.unlink()
        raise full() from error
    return segment


def full() -> HesseError:
    return StateError(
        "shared-memory-full",
        "The server has no shared memory left for this request at the moment.",
        hint="Try again later, or ask for a smaller result.",
    )


def read(name: str, length: int) -> bytes:
    segment = SharedMemory(name)
    try:
        return bytes(_view(segment)[:length])
    finally:
        segment.close()


def remove(name: str) -> None:
    """Remove the segment if it exists."""
    try:
        segment = SharedMemory(name)
    except FileNotFoundError:
        return
    segment.close()
    segment.unlink()


def sweep(least_age_s: float) -> list[str]:
    """Remove what server processes that are gone left behind, and name it.

    The resource tracker does so when a whole server is killed; it lives on when one of several server processes is.
    The age spares what a server in another process namespace, whose id says nothing here, still works with.
    """
    removed = []
    for path in FOLDER.glob("hesse_*_*"):
        owner = path.name.split("_")[1]
        with contextlib.suppress(OSError):
            is_old = time.time() - path.stat().st_mtime > least_age_s
            if is_old and owner.isdigit() and not psutil.pid_exists(int(owner)):
                remove(path.name)
                removed.append(path.name)
    return removed


async def stream(name: str, length: int) -> AsyncIterator[bytes]:
    """The content in strides."""
    segment = SharedMemory(name)
    try:
        for at in range(0, length, STRIDE):
            yield bytes(_view(segment)[at : min(at + STRIDE, length)])
    finally:
        segment.close()

"""Bytes in shared memory: how large bodies cross between the server and its compute processes.

The server names every segment before a process creates it, so that whatever becomes of the process the segment can be
removed. All processes of one server share one resource tracker, which removes what a killed server leaves behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from multiprocessing.shared_memory import SharedMemory

STRIDE = 256 * 1024


def _view(segment: SharedMemory) -> memoryview:
    if segment.buf is None:
        raise ValueError("the segment is closed")
    return segment.buf


def write(name: str, pieces: Iterable[bytes | memoryview], length: int) -> None:
    """Create the segment `name` and fill it."""
    segment = SharedMemory(name, create=True, size=length)
    try:
        view, at = _view(segment), 0
        for piece in pieces:
            view[at : at + len(piece)] = piece
            at += len(piece)
    finally:
        segment.close()


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


async def stream(name: str, length: int) -> AsyncIterator[bytes]:
    """The content in strides."""
    segment = SharedMemory(name)
    try:
        for at in range(0, length, STRIDE):
            yield bytes(_view(segment)[at : min(at + STRIDE, length)])
    finally:
        segment.close()

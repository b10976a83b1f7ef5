"""Bytes in shared memory: how large bodies cross between the server and its compute processes.

The server names every segment before a process creates it, so that whatever becomes of the process the segment can be
removed. All processes of one server share one resource tracker, which removes what a killed server leaves behind.

Where segments are files (Linux) they are written as files, which takes no page faults and tells when memory is out, and
mapped so that a mapping ends with the last view of it, after the segment was removed, too.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from hesse_engine.errors import HesseError, StateError

FILES = Path("/dev/shm")  # noqa: S108 (where the operating system keeps segments)
HAS_FILES = FILES.is_dir()


def _view(segment: SharedMemory) -> memoryview:
    if segment.buf is None:
        raise ValueError("the segment is closed")
    return segment.buf


def write(name: str, pieces: Iterable[bytes | memoryview], length: int) -> None:
    """Create the segment `name` and fill it: one copy of every piece.

    Raises:
        StateError: `shared-memory-full`.
    """
    segment = _create(name, length)
    try:
        if HAS_FILES:
            _write_file(FILES / name, pieces)
        else:
            _copy(_view(segment), pieces)
    finally:
        segment.close()


def _write_file(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    with path.open("r+b", buffering=0) as file:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[file.write(rest) :]


def _copy(view: memoryview, pieces: Iterable[bytes | memoryview]) -> None:
    at = 0
    for piece in pieces:
        view[at : at + len(piece)] = piece
        at += len(piece)


def mapped(name: str, length: int) -> memoryview:
    """The content, read-only and without a copy; it stays when the segment is removed."""
    if not HAS_FILES:
        return memoryview(read(name, length))
    with (FILES / name).open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ))


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
    """A copy of the content."""
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

"""Bytes in shared memory: how large bodies cross between the server and its compute processes.

The server names every segment before a process creates it, so that whatever becomes of the process the segment can be
removed. All processes of one server share one resource tracker, which removes what a killed server leaves behind.

Where segments are files (Linux) they are written as files, which takes no page faults and tells when memory is out, and
mapped so that a mapping ends with the last view of it, after the segment was removed, too.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
from collections.abc import Iterable
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil

from hesse_engine.errors import HesseError, StateError

FILES = Path("/dev/shm")  # noqa: S108 (where the operating system keeps segments)
HAS_FILES = FILES.is_dir()
_REMOVING = threading.Lock()


def _view(segment: SharedMemory) -> memoryview:
    if segment.buf is None:
        raise ValueError("the segment is closed")
    return segment.buf


def write(name: str, pieces: Iterable[bytes | memoryview], length: int) -> None:
    """Create the segment `name`, or take it as it is, and fill it: one copy of every piece.

    Raises:
        StateError: `shared-memory-full`.
    """
    if HAS_FILES:
        if not (FILES / name).exists():
            _create(name, length).close()
        try:
            _write_file(FILES / name, pieces)
        except OSError as error:
            remove(name)
            raise full() from error
        return
    segment = _create(name, length)
    try:
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


def _stat(name: str) -> tuple[int, int]:
    """(bytes, the number that no other file has while this one is open or mapped)."""
    found = (FILES / name).stat()
    return found.st_size, found.st_ino


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
    """Remove the segment if it exists, and what is kept of it.

    A file is not opened for that: it is empty where the process that was making it was killed, and cannot be mapped.
    """
    KEPT.forget(name)
    if HAS_FILES:
        with contextlib.suppress(FileNotFoundError):
            (FILES / name).unlink()
            _untrack(name)
        return
    with _REMOVING:  # opening makes it known to the resource tracker: of two threads the second would leave it known
        try:
            segment = SharedMemory(name)
        except FileNotFoundError:
            return
        segment.close()
        segment.unlink()


def remove_leftover(name: str) -> None:
    """Remove what a process that is gone may have left.

    Between making a segment and telling the resource tracker of it, the process may have seen it removed; the tracker
    would know it for ever.
    """
    remove(name)
    _untrack(name)


def _untrack(name: str) -> None:
    """Have the resource tracker forget a segment. It is told of it once more before: it forgets what it knows alone."""
    for tell in (resource_tracker.register, resource_tracker.unregister):
        tell(f"/{name}", "shared_memory")


class Kept:
    """Segments in which answers came, kept by the server for further answers.

    Measured for 32 MB: 28 ms to fill and free new memory, 8 ms to fill a kept segment; 10 ms to read what was just
    mapped, 4 ms where the mapping is kept. Bodies of requests come in new segments: arrays may still look at old ones.
    """

    def __init__(self) -> None:
        self.max_bytes = 0
        self._idle: list[str] = []
        self._views: dict[str, tuple[memoryview, int]] = {}  # a mapping, and the number of the file it shows

    def take(self, name: str) -> str:
        """The name of an idle segment, or `name` for a new one."""
        return self._idle.pop() if self._idle else name

    def view(self, name: str, length: int) -> memoryview:
        """The first `length` bytes of a segment that was filled."""
        view = self._current(name)
        if view is None or len(view) < length:
            size, number = _stat(name) if HAS_FILES else (length, 0)
            view = mapped(name, size)
            self._views[name] = view, number
        return view[:length]

    def give(self, name: str) -> None:
        """Keep the segment, if it was filled and there is room; else remove it."""
        view = self._current(name)
        if view is None or not HAS_FILES or len(view) + self._bytes() > self.max_bytes:
            remove(name)
        else:
            self._idle.append(name)

    def _current(self, name: str) -> memoryview | None:
        """The mapping of the segment that has this name now: a process that ran out of memory may have removed the one
        that was mapped, a later one written another, and the old mapping would show an old answer."""
        view, number = self._views.get(name, (None, 0))
        if view is None or not HAS_FILES:
            return view
        with contextlib.suppress(FileNotFoundError):
            if _stat(name)[1] == number:
                return view
        self.forget(name)
        return None

    def forget(self, name: str) -> None:
        """Drop the mapping; a later segment of this name is another one."""
        self._views.pop(name, None)

    def clear(self) -> None:
        """Remove what is idle."""
        while self._idle:
            remove(self._idle.pop())

    def _bytes(self) -> int:
        return sum([len(self._views[name][0]) for name in self._idle])


KEPT = Kept()


def sweep(least_age_s: float) -> list[str]:
    """Remove what server processes that are gone left behind, and name it.

    The resource tracker does so when a whole server is killed; it lives on when one of several server processes is.
    The age spares what a server in another process namespace, whose id says nothing here, still works with.
    """
    removed = []
    for path in FILES.glob("hesse_*_*"):
        owner = path.name.split("_")[1]
        with contextlib.suppress(OSError):
            is_old = time.time() - path.stat().st_mtime > least_age_s
            if is_old and owner.isdigit() and not psutil.pid_exists(int(owner)):
                remove(path.name)
                removed.append(path.name)
    return removed

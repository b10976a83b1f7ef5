"""What runs in a compute process: one task at a time, each under an alarm, and word of its state in shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from hesse_engine.errors import HesseError
from hesse_service import codec, segments
from hesse_service.evaluator import Evaluator, HotKey, internal, translate
from hesse_service.exchange import Terms
from hesse_service.settings import MIB, Settings
from hesse_service.store_file import open_store

logger = logging.getLogger("hesse.service")

OOM_SCORE = "500"  # where memory runs out altogether, the kernel ends a compute process rather than the server
TRIM_BYTES = 64 * MIB  # growth after which freed memory is handed back; the call takes milliseconds


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
    resident_bytes: int = 0  # of the process, when it was done


class Cell(ctypes.Structure):
    """What a process says of itself. Bare: a lock would stay locked by a process killed while holding it."""

    _fields_ = [("is_warm", ctypes.c_bool), ("pid", ctypes.c_int32)]
    is_warm: bool
    pid: int


class _Process:
    """What one compute process holds; set by its initializer."""

    settings: Settings
    evaluator: Evaluator
    trimmed_bytes: int


def start_process(settings: Settings, store_path: Path, cell: Cell) -> None:
    """Initializer: the default signal actions end the process at once; the VM loads behind the first requests."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    cell.is_warm, cell.pid = False, os.getpid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    _Process.settings = settings
    _Process.evaluator = Evaluator(settings, open_store(settings, store_path))
    _Process.trimmed_bytes = resident_bytes(os.getpid())
    threading.Thread(target=_load, args=(cell,), daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _load(cell: Cell) -> None:
    load_kernels()
    cell.is_warm = True


def load_kernels() -> None:
    """Load the VM, one process at a time: the first compiles, the others find the result on disk."""
    from hesse_engine.backend import kernels

    try:
        with _loading():
            kernels.load(wait=True)
        gc.freeze()  # Numba's objects stay: a full collection over them stops a request for 0.1 s
    except Exception:
        logger.exception("the VM could not be loaded; the reference interpreter answers")


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """The turn of this process, among all that share the folder of compiled code, whatever server they belong to."""
    from hesse_engine.backend import cache

    folder = cache.locate()
    with contextlib.ExitStack() as held:
        if folder.path is not None and folder.is_writable:
            with contextlib.suppress(OSError):  # without turns each compiles for itself
                lock = held.enter_context(open(folder.path / "load.lock", "w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def perform(task: Task) -> Reply:
    """Answer one task; whatever happens becomes a reply."""
    started = time.monotonic()

    def on_deadline(deadline_s: float) -> None:
        if deadline_s < task.left_s:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, deadline_s - (time.monotonic() - started)))

    signal.setitimer(signal.ITIMER_REAL, max(1e-3, task.left_s))
    try:
        reply = _reply(task, on_deadline)
    except Exception as error:
        declared = translate(error)
        if declared is None:
            logger.error("request %s failed", task.terms.request_id, exc_info=error)
            declared = internal()
        reply = Reply(error=declared)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return replace(reply, resident_bytes=_trimmed())


def _reply(task: Task, on_deadline: Any) -> Reply:
    started = time.perf_counter()
    value = codec.parse(_body(task))
    parsed = time.perf_counter()
    answer = _Process.evaluator.answer(task.kind, task.name, value, task.terms, on_deadline)
    seconds = answer.seconds
    seconds["decode"] = seconds.get("decode", 0.0) + parsed - started
    length = answer.length
    if length < _Process.settings.segment_bytes:
        return Reply(b"".join(answer.pieces), seconds=seconds, hot=answer.hot)
    segments.write(task.result_segment, answer.pieces, length)
    return Reply(length=length, segment=task.result_segment, seconds=seconds, hot=answer.hot)


def _body(task: Task) -> bytes:
    if not task.segment:
        return task.body
    try:
        return segments.read(task.segment, task.length)
    except FileNotFoundError:  # cancelled in this moment: the server will end this process, nobody hears the answer
        logger.info("request %s was cancelled before it was read", task.terms.request_id)
        raise internal() from None


# ---- memory ---------------------------------------------------------------------------------------------------------
def resident_bytes(pid: int) -> int:
    """Memory that a process has for itself: without shared segments, which are counted by whoever made them.

    Raises:
        psutil.Error: there is no such process.
    """
    found = psutil.Process(pid).memory_info()
    return int(found.rss - getattr(found, "shared", 0))


def _trimmed() -> int:
    """The memory of this process, after what was freed went back to the system where there is much of it."""
    now = resident_bytes(os.getpid())
    if now - _Process.trimmed_bytes > TRIM_BYTES and _trim():
        now = resident_bytes(os.getpid())
        _Process.trimmed_bytes = now
    return now


def _trim() -> bool:
    """glibc keeps what small pieces of a large answer took; other C libraries have no such call."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return False
    return True

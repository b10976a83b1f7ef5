"""What runs in a compute process: one task at a time, each under an alarm, and word of its state in shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import logging
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hesse_engine import progress
from hesse_engine.backend import hot
from hesse_engine.backend.plan import Plan
from hesse_engine.errors import HesseError
from hesse_service import logs, media, segments
from hesse_service.evaluator import Evaluator, HotKey, RowsPlan, internal, translate
from hesse_service.exchange import JSON, Terms
from hesse_service.journal import CURRENT, Exchange
from hesse_service.memory import Trimmer
from hesse_service.settings import Settings
from hesse_service.store_file import open_store
from hesse_service.tracing import trace_from

logger = logging.getLogger("hesse.service")

OOM_SCORE = "500"  # where memory runs out altogether, the kernel ends a compute process rather than the server


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
    rows: tuple[int, int] | None = None


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
    plan: RowsPlan | None = None  # the answer to a call that asks for a stream
    outline: Plan | None = None
    counters: dict[str, int] = field(default_factory=dict)  # of the process, when it was done


class Cell(ctypes.Structure):
    """What a process says of itself. Bare: a lock would stay locked by a process killed while holding it."""

    _fields_ = [
        ("is_warm", ctypes.c_bool), ("pid", ctypes.c_int32), ("done", ctypes.c_int64), ("total", ctypes.c_int64),
    ]
    is_warm: bool
    pid: int
    done: int  # chunks of the running task; both are 0 while that is not known
    total: int


class _Process:
    """What one compute process holds; set by its initializer."""

    settings: Settings
    evaluator: Evaluator
    cell: Cell
    trimmer: Trimmer


def start_process(settings: Settings, store_path: Path, cell: Cell) -> None:
    """Initializer; the VM loads behind the first requests.

    The alarm of a deadline ends the process at once, by its default action. SIGTERM is for the server, which lets
    running work finish; a service manager sends it to all processes of the service.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cell.is_warm, cell.pid = False, os.getpid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # an allocation far beyond the limit is refused at once, where the watch over the memory in use comes too late
    resource.setrlimit(resource.RLIMIT_DATA, (2 * settings.process_limit_bytes, resource.RLIM_INFINITY))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    logs.configure_process(settings.log_format)
    _Process.settings, _Process.cell = settings, cell
    _Process.evaluator = Evaluator(settings, open_store(settings, store_path))
    _Process.trimmer = Trimmer()
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
    CURRENT.set(Exchange(task.terms.request_id, trace_from(task.terms.traceparent)))
    return replace(_outcome(task), counters=_counters())


def _counters() -> dict[str, int]:
    """What the server counts of this process: totals since its start."""
    entries = _Process.evaluator.entries
    return {
        "pid": os.getpid(),
        "resident_bytes": _Process.trimmer.trimmed(),
        "hits": entries.hits,
        "misses": entries.misses,
        "prepared": len(entries),
        "prepared_bytes": entries.bytes,
        "kernels": hot.compiled(),
    }


def _outcome(task: Task) -> Reply:
    started = time.monotonic()

    def on_deadline(deadline_s: float) -> None:
        if deadline_s < task.left_s:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, deadline_s - (time.monotonic() - started)))

    signal.setitimer(signal.ITIMER_REAL, max(1e-3, task.left_s))
    try:
        with progress.listening(_tell):
            return _reply(task, on_deadline)
    except Exception as error:
        declared = translate(error)
        if declared is None:
            logger.error("request %s failed", task.terms.request_id, exc_info=error)
            declared = internal()
        # the frames of a traceback would keep the body alive while its memory is handed back
        declared.__cause__ = declared.__context__ = None
        return Reply(error=declared.with_traceback(None))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _tell(done: int, total: int) -> None:
    """Two writes to shared memory: cheap enough for every chunk."""
    _Process.cell.done, _Process.cell.total = done, total


def _reply(task: Task, on_deadline: Any) -> Reply:
    started = time.perf_counter()
    settings, evaluator = _Process.settings, _Process.evaluator
    with evaluator.meter.bill(task.terms.quota):
        value = media.read(_body(task), task.terms, settings, partial(evaluator.names_of, task.terms.owner))
    parsed = time.perf_counter()
    answer = evaluator.answer(task.kind, task.name, value, task.terms, on_deadline, task.rows)
    seconds = answer.seconds
    if task.kind != "call":
        seconds["plan"] = time.perf_counter() - parsed
    seconds["decode"] = seconds.get("decode", 0.0) + parsed - started
    done = time.perf_counter()
    written = media.Written(answer.pieces, answer.media, answer.headers)
    if task.rows is None:
        written = media.coded(written, task.terms.formats, settings.compress_bytes)
    length, segment, content = sum([len(p) for p in written.pieces]), "", b""
    if length < settings.segment_bytes:
        content = b"".join(written.pieces)
    else:
        segment = task.result_segment
        segments.write(segment, written.pieces, length)
    seconds["encode"] = seconds.get("encode", 0.0) + time.perf_counter() - done
    return Reply(content, length, segment, None, seconds, answer.hot, written.media, written.headers, answer.plan,
                 answer.outline)


def _body(task: Task) -> bytes | memoryview:
    if not task.segment:
        return task.body
    try:
        return segments.mapped(task.segment, task.length)
    except FileNotFoundError:  # cancelled in this moment: the server will end this process, nobody hears the answer
        logger.info("request %s was cancelled before it was read", task.terms.request_id)
        raise internal() from None

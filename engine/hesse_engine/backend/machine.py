"""What this machine is able to: the rates that plans are predicted by, measured once and kept beside the kernels.

Measuring takes under 50 ms and never happens on a request's way: `current` answers at once, by what was measured
before, else by DEFAULTS, and has the rest done by a thread of its own. Nothing breaks where it cannot be kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
import platform
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from hesse_engine.backend import blas, kernels
from hesse_engine.backend.cache import locate
from hesse_engine.backend.program import Program, build_program
from hesse_engine.ir.graph import FLOAT64, Array, Builder, Node, apply

VERSION = 1  # of what is measured and how
LARGEST_RATIO = 100.0  # a rate further than this from its default is a failed measurement
_GEMM, _LONG, _SHORT, _CHAIN = 160, 4096, 8, 8  # rows of a product; elements of vectors; instructions of a program
_STREAM = 1 << 23  # bytes: beyond the second-level caches


@dataclass(frozen=True, slots=True)
class Machine:
    """Rates of one thread. Times are seconds, rates are per second.

    Attributes:
        gemm_flops: of a product of matrices that fill the cache.
        bandwidth: bytes read or written in long arrays that have been touched before.
        fresh_bandwidth: bytes written into memory that the system gives for the first time.
        arithmetic: an element of a sum or product in the VM, in cache.
        function: an element of exp, log, sin and their like.
        moved: an element taken or added by an index table.
        instruction: an instruction of the VM, for one strip.
        call: a step that runs as one NumPy function.
        run: a program, beside its steps.
    """

    gemm_flops: float = 5e10
    bandwidth: float = 2e10
    fresh_bandwidth: float = 1.5e9
    arithmetic: float = 0.15e-9
    function: float = 1e-9
    moved: float = 0.7e-9
    instruction: float = 6e-9
    call: float = 1e-6
    run: float = 2.5e-6


DEFAULTS = Machine()
_LOCK = threading.Lock()
_KNOWN: list[Machine] = []  # at most one: what `current` answers
_STARTED: list[bool] = []


def current() -> Machine:
    """The rates known so far, at once: measured in this process or an earlier one, else the defaults."""
    if _KNOWN:
        return _KNOWN[0]
    with _LOCK:
        if not _KNOWN and not _STARTED:
            kept = _read()
            if kept is not None:
                _KNOWN.append(kept)
            else:
                _STARTED.append(True)
                threading.Thread(target=_calibrate_quietly, name="hesse-calibrate", daemon=True).start()
    return _KNOWN[0] if _KNOWN else DEFAULTS


def calibrate() -> Machine:
    """Measure now, keep the rates for this process and, where possible, on disk. About 20 ms once the VM is loaded."""
    measured = _measure()
    with _LOCK:
        _KNOWN[:] = [measured]
    _write(measured)
    return measured


def forget() -> None:
    """Start over in this process: `current` reads or measures again."""
    with _LOCK:
        _KNOWN.clear()
        _STARTED.clear()


def _calibrate_quietly() -> None:
    with contextlib.suppress(Exception):  # then the defaults stay
        kernels.load((FLOAT64,), wait=True)
        calibrate()


# ---- measuring -------------------------------------------------------------------------------------------------------
def _measure() -> Machine:
    long, short = _chain("multiply", _LONG), _chain("multiply", _SHORT)
    small = best(lambda: short[0].run(short[1]))
    arithmetic = best(lambda: long[0].run(long[1])) - small
    sine = _chain("sin", _LONG)
    function = best(lambda: sine[0].run(sine[1])) - small
    touched, copied = _stream()
    strips, count = _LONG // 256, _CHAIN
    instruction = DEFAULTS.instruction
    found = Machine(
        gemm_flops=2.0 * _GEMM**3 / _product(),
        bandwidth=2.0 * _STREAM / copied,
        fresh_bandwidth=_STREAM / touched,
        arithmetic=max(arithmetic - instruction * count * strips, 0.2 * arithmetic) / (count * _LONG),
        function=max(function - instruction * count * strips, 0.2 * function) / (count * _LONG),
        moved=_taken() / _LONG,
        instruction=instruction,
        call=best(_small_product()),
        run=max(small - instruction * count, 0.2 * small),
    )
    return Machine(**{f.name: _sane(f.name, getattr(found, f.name)) for f in fields(Machine)})


def _chain(op: str, size: int) -> tuple[Program, list[Array]]:
    """x -> a chain of `op`, which the VM runs as one region."""
    builder = Builder()
    x = builder.input("x", (size,), FLOAT64)
    y: Node = x
    for _ in range(_CHAIN):
        y = apply(op, y, x) if op == "multiply" else apply(op, y)
    return build_program([x], [y]), [np.linspace(0.5, 1.0, size)]


def _product() -> float:
    a = np.linspace(0.0, 1.0, _GEMM * _GEMM).reshape(_GEMM, _GEMM)
    out = np.empty_like(a)
    with blas.hold(1):
        return best(lambda: np.matmul(a, a, out=out), 5)


def _small_product() -> Callable[[], object]:
    a, out = np.ones((4, 4)), np.empty((4, 4))
    return lambda: np.matmul(a, a, out=out)


def _stream() -> tuple[float, float]:
    """Seconds of writing _STREAM bytes of new memory, and of copying as many. The allocator would give used memory."""
    with contextlib.closing(mmap.mmap(-1, 2 * _STREAM)) as memory:
        low, high = np.frombuffer(memory, np.float64).reshape(2, -1)
        touched = min([best(partial(half.fill, 1.0), 1) for half in (low, high)])
        copied = best(partial(np.copyto, low, high), 2)
        del low, high  # a mapping that is looked at cannot be closed
    return touched, copied


def _taken() -> float:
    x, out = np.linspace(0.0, 1.0, 4 * _LONG), np.empty(_LONG)
    index = (np.arange(_LONG) * 7919) % (4 * _LONG)
    return best(lambda: np.take(x, index, out=out, mode="wrap"))


def best(action: Callable[[], object], turns: int = 10) -> float:
    """Seconds of a fast one of some turns: what disturbs a turn makes it longer, but a clock may jump, too."""
    found = []
    for _ in range(turns):
        started = perf_counter()
        action()
        found.append(perf_counter() - started)
    return sorted(found)[min(1, turns // 4)]


def _sane(name: str, value: float) -> float:
    default: float = getattr(DEFAULTS, name)
    is_sane = math.isfinite(value) and default / LARGEST_RATIO <= value <= default * LARGEST_RATIO
    return value if is_sane else default


# ---- keeping ---------------------------------------------------------------------------------------------------------
def path() -> Path | None:
    """The file of this machine's rates in the kernels' cache; None where there is no cache."""
    folder = locate().path
    if folder is None:
        return None
    seen = f"{VERSION} {platform.machine()} {_processor()} {os.cpu_count()} {np.__version__}"
    return folder / f"machine_{hashlib.sha256(seen.encode()).hexdigest()[:16]}.json"


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line for line in lines if line.startswith("model name")), "")
    return platform.processor()


def _read() -> Machine | None:
    file = path()
    if file is None:
        return None
    try:
        kept = json.loads(file.read_text("utf-8"))
        return Machine(**{f.name: _sane(f.name, float(kept[f.name])) for f in fields(Machine)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(machine: Machine) -> None:
    """Whole or not at all: a reader never sees a part."""
    file = path()
    if file is None or not locate().is_writable:
        return
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(dir=file.parent, prefix="machine_", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(asdict(machine), stream)
            Path(name).replace(file)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

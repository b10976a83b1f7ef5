"""Which regions are hot, and the kernels made for them: compiled in the background, interned, and limited in number.

A kernel's code is never freed, so a process compiles at most `HESSE_JIT_KERNELS` of them (64; measured, 0.8 MB each),
one for each party and structure of a region, whatever its sizes and constants. A region asks for its kernel once the VM
has spent `HESSE_JIT_SECONDS` (1) in it; nothing waits for the answer, except programs that were built with tier 'jit'.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.emit import NANOSECONDS
from hesse_engine.backend.fusion import Structure, fused_share, structure_of
from hesse_engine.backend.lower import RegionStep
from hesse_engine.backend.memory import address_of
from hesse_engine.ir.graph import Array
from hesse_engine.ir.party import served

Kernel = Callable[[int, int, int], None]
Kept = tuple[str, Structure]  # the party that a kernel is made for, and what it runs
LARGE = 8192  # elements: below, a region's fixed costs outweigh what a loop of its own saves
WORTH_FUSING = 0.15  # part of a region's time that is arithmetic; measured gain below it: under 1.3


@dataclass(frozen=True, slots=True)
class Fused:
    """A kernel, and the bytes of work memory that each call needs for itself."""

    kernel: Kernel
    work_bytes: int


class _Registry:
    """The kernels of this process. `version` grows with each that becomes ready."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[Kept, Fused | None] = {}  # None: cannot be had
        self.pending: dict[Kept, threading.Event] = {}
        self.queue: queue.SimpleQueue[Kept] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self.version = self.compiled = 0

    def ask(self, structure: Kept) -> threading.Event | None:
        """The event of a compilation that is under way or starts now; None where its end is known."""
        with self.lock:
            if structure in self.known:
                return None
            found = self.pending.get(structure)
            if found is None:
                if self.compiled + len(self.pending) >= kernel_limit():
                    return None  # not remembered: the limit may be raised
                found = self.pending[structure] = threading.Event()
                self.queue.put(structure)
                if self.thread is None:
                    self.thread = threading.Thread(target=self.work, name="hesse-jit", daemon=True)
                    self.thread.start()
            return found

    def work(self) -> None:
        while True:
            structure = self.queue.get()
            made: Fused | None = None
            try:
                from hesse_engine.backend.jit import compile_kernel

                found = compile_kernel(structure[1])
                made = None if found is None else Fused(*found)
            except Exception:  # noqa: BLE001, S110  (whatever went wrong, the VM goes on)
                pass
            with self.lock:
                self.known[structure] = made
                self.compiled += made is not None
                self.version += 1
                self.pending.pop(structure).set()


_REGISTRY = _Registry()


def _start_anew() -> None:
    """A forked child has no compiling thread: it keeps the kernels that are ready, and asks again for the others."""
    global _REGISTRY  # the parent's lock may be held
    before, _REGISTRY = _REGISTRY, _Registry()
    _REGISTRY.known, _REGISTRY.compiled, _REGISTRY.version = dict(before.known), before.compiled, before.version


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def kernel_limit() -> int:
    return int(os.environ.get("HESSE_JIT_KERNELS", "64"))


def hot_seconds() -> float:
    return float(os.environ.get("HESSE_JIT_SECONDS", "1"))


def compiled() -> int:
    """Kernels that this process has compiled."""
    return _REGISTRY.compiled


def ask(structures: Iterable[Kept], *, wait: bool = False) -> None:
    """Have `structures` compiled in the background, as far as the limit allows."""
    events = [_REGISTRY.ask(s) for s in structures]
    if wait:
        for event in events:
            if event is not None:
                event.wait()


@dataclass(slots=True, eq=False)
class HotRegion:
    """One large region of a program: its tables by address, and the nanoseconds that the VM has spent in it."""

    structures: dict[int, Kept]
    limit: float
    spent: int = 0
    is_asked: bool = False

    def timed(self, action: Callable[[], object]) -> Callable[[], None]:
        """`action`, its time counted."""

        def run() -> None:
            started = time.perf_counter_ns()
            action()
            self.spent += time.perf_counter_ns() - started
            if self.spent > self.limit and not self.is_asked:
                self.is_asked = True
                ask(set(self.structures.values()))

        return run


@dataclass(slots=True, eq=False)
class Heat:
    """The large regions of one program, and the kernels that are ready for them, by address of the table."""

    regions: dict[int, HotRegion]  # by identity of the step
    fused: dict[int, Fused] = field(default_factory=dict)
    version: int = -1

    def timed(self, step: RegionStep, action: Callable[[], object]) -> Callable[[], object]:
        """`action`, its time counted where `step` is large and has no kernel yet."""
        region = self.regions.get(id(step))
        if region is None or all([at in self.fused for at in region.structures]):
            return action
        return region.timed(action)

    def refresh(self) -> dict[int, Fused]:
        """The kernels that are ready now."""
        if self.version != _REGISTRY.version:
            self.version = _REGISTRY.version
            known = _REGISTRY.known
            found = {at: known.get(s) for r in self.regions.values() for at, s in r.structures.items()}
            ready = {at: k for at, k in found.items() if k is not None}
            if len(ready) != len(self.fused):  # the same object as long as nothing changes: workspaces compare
                self.fused = ready
        return self.fused

    def compile(self) -> None:
        """Ask for every kernel, and wait."""
        for region in self.regions.values():
            region.is_asked = True
        ask({s for r in self.regions.values() for s in r.structures.values()}, wait=True)

    @property
    def is_fused(self) -> bool:
        """Whether every large region has its kernel."""
        fused = self.refresh()
        return all([at in fused for r in self.regions.values() for at in r.structures])


def heat_of(steps: Sequence[object]) -> Heat | None:
    """The regions among `steps` that are worth kernels; None where there is none."""
    limit = 1e9 * hot_seconds()
    regions: dict[int, HotRegion] = {}
    for step in steps:
        if isinstance(step, RegionStep):
            tables = [t for tables in step.rounds for t in tables]
            structures = {address_of(t): (served(), s) for t in tables if (s := _worth(step.dtype, t)) is not None}
            if structures:
                regions[id(step)] = HotRegion(structures, limit)
    return Heat(regions) if regions else None


def _worth(dtype: str, table: Array) -> Structure | None:
    """The structure of a table that is large, and mostly arithmetic."""
    rank = int(table[oc.RANK])
    elements = int(table[oc.INNER]) * math.prod([int(n) for n in table[oc.HEADER:oc.HEADER + rank]])
    if elements < LARGE:
        return None
    structure = structure_of(dtype, table.tolist())
    return structure if fused_share(structure, NANOSECONDS) >= WORTH_FUSING else None

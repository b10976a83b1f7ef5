"""The VM of each dtype, loaded once, in the background, on first need. Until it is there the reference tier answers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from hesse_engine.errors import StateError

Kernel = Callable[[int, int, int], None]
Phase = Literal["idle", "loading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class KernelState:
    """How far the VM of a dtype is; `reason` says why it failed, or why it is not kept on disk."""

    phase: Phase = "idle"
    reason: str = ""
    seconds: float = 0.0
    is_cached: bool = False


class _Slot:
    """One dtype: its state, its kernel, and the event that its loading thread sets."""

    def __init__(self) -> None:
        self.state, self.kernel, self.done = KernelState(), None, threading.Event()

    state: KernelState
    kernel: Kernel | None


_LOCK = threading.Lock()
_SLOTS = {"float64": _Slot(), "float32": _Slot()}


def _give_up_in_child() -> None:
    """A forked child has no loading thread, and perhaps a compiler lock that nobody will release: it does without."""
    global _LOCK  # noqa: PLW0603  (the parent's may be held)
    _LOCK = threading.Lock()
    for slot in _SLOTS.values():
        if slot.state.phase == "loading":
            slot.state, slot.done = KernelState("failed", "the process was forked while loading"), threading.Event()
            slot.done.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_give_up_in_child)


def kernel(dtype: Any) -> Kernel | None:
    """The VM for `dtype` if it is loaded; else None, and its load is under way (or has failed). Never blocks."""
    slot = _SLOTS[str(dtype)]
    if slot.kernel is None and slot.state.phase == "idle":
        _start(str(dtype))
    return slot.kernel


def kernel_state(dtype: Any) -> KernelState:
    return _SLOTS[str(dtype)].state


def load(dtypes: Iterable[Any] = ("float64",), wait: bool = True) -> None:
    """Start the loads of `dtypes` that have not been; with `wait`, return when they have ended, well or not."""
    names = [str(d) for d in dtypes]
    for name in names:
        kernel(name)
    if wait:
        for name in names:
            _SLOTS[name].done.wait()


def require(dtype: Any) -> Kernel:
    """The VM for `dtype`, waited for. Raises `not-ready` where it cannot be had."""
    load((dtype,))
    found = _SLOTS[str(dtype)].kernel
    if found is None:
        raise StateError("not-ready", f"The VM for {dtype} could not be loaded: {kernel_state(dtype).reason}.",
                         hint="Ask for tier 'auto' or 'reference'.")
    return found


def _start(name: str) -> None:
    slot = _SLOTS[name]
    with _LOCK:
        if slot.state.phase != "idle":
            return
        slot.state = KernelState("loading")
    threading.Thread(target=_run, args=(name, slot), name=f"hesse-load-{name}", daemon=True).start()


def _run(name: str, slot: _Slot) -> None:
    begin = time.perf_counter()
    try:
        from hesse_engine.backend.vm import load_vm  # numba enters the process here and nowhere else

        slot.kernel, is_cached, reason = load_vm(name)
        state = KernelState("ready", reason, is_cached=is_cached)
    except Exception as error:  # noqa: BLE001  (whatever went wrong, the reference tier goes on and the reason is kept)
        state = KernelState("failed", f"{type(error).__name__}: {error}")
    slot.state = replace(state, seconds=time.perf_counter() - begin)
    slot.done.set()

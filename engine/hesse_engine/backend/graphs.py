"""The loops of graph coloring: compiled once they are loaded, in the background, on first need; plain until then."""

from __future__ import annotations

import os
import threading

from hesse_engine.structure.coloring import PLAIN, Kernels

PATIENCE = 1 << 17  # neighbors of neighbors; plain loops take about 1 us for each, so more than this is waited for


class _Loading:
    """One load: what it gave, and the event that its thread sets when it has ended, well or not."""

    def __init__(self) -> None:
        self.kernels: Kernels | None = None
        self.thread: threading.Thread | None = None
        self.done = threading.Event()

    def start(self) -> None:
        with _LOCK:
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name="hesse-load-coloring", daemon=True)
                self.thread.start()

    def _run(self) -> None:
        try:
            from hesse_engine.backend.loops import load_loops  # numba enters the process here, if it has not

            self.kernels = load_loops()
        except Exception:  # noqa: BLE001  (whatever went wrong, the plain loops give the same colors)
            self.kernels = None
        self.done.set()


_LOCK = threading.Lock()
_LOADING = _Loading()


def _start_anew_in_child() -> None:
    """A forked child has no loading thread, and perhaps a compiler lock that nobody will release: it does without."""
    global _LOCK, _LOADING
    if _LOADING.thread is not None and not _LOADING.done.is_set():
        _LOCK, _LOADING = threading.Lock(), _Loading()
        _LOADING.thread = threading.current_thread()
        _LOADING.done.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_in_child)


def kernels(work: int) -> Kernels:
    """The loops for a graph with `work` neighbors of neighbors."""
    loading = _LOADING
    if loading.kernels is None:
        loading.start()
        if work > PATIENCE:
            loading.done.wait()
    return loading.kernels or PLAIN

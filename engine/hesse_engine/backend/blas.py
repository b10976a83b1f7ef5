"""The threads of BLAS and LAPACK, held to those of the program that runs.

The libraries know one number for the whole process. Programs that want the same number run at once; one that wants
another waits until they are done. What was set before is set again at the end, so that the caller's own use of NumPy is
as it was.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from hesse_engine.ir.graph import Node, size_of
from hesse_engine.ir.ops.contraction import matmul_plan

# Multiplications of a product below which OpenBLAS keeps to one thread anyway: those of a matrix with a vector.
WORTH_THREADS = 9216
_LINALG = frozenset({
    "cholesky", "solve", "triangular_solve", "inv", "cholesky_solve", "cholesky_inv", "logabsdet", "signdet", "eigh",
    "spectral", "spectral_diag", "svd", "svd_matrix", "svd_diag", "qr_factor", "complement", "pinv", "expm",
    "expm_tangent", "det", "cofactor", "cofactor_tangent",
})
_AFFIXES = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))
_SCIPY = "scipy.linalg._fblas"  # SciPy has a library of its own, loaded with this module


@dataclass(frozen=True, slots=True)
class _Library:
    """One loaded library: its functions to get and to set the number."""

    read: Callable[[], int]
    write: Callable[[int], object]


def _library(controller: Any) -> _Library:
    """OpenBLAS by its own functions, which obey any thread; threadpoolctl obeys only the first that asks."""
    if controller.internal_api == "openblas" and controller.threading_layer != "openmp":
        loaded = ctypes.PyDLL(controller.filepath)  # neither function waits: the interpreter's lock may be kept
        for prefix, suffix in _AFFIXES:
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all([hasattr(loaded, name) for name in names]):
                return _Library(*[getattr(loaded, name) for name in names])
    return _Library(controller.get_num_threads, controller.set_num_threads)


class _Threads:
    """The libraries that are loaded, and who holds them."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.holders = self.held = 0
        self.before: list[int] = []
        self.libraries: list[_Library] = []
        self.has_scipy: bool | None = None

    def find(self) -> list[_Library]:
        """The libraries; searched for again when SciPy's has been loaded since."""
        has_scipy = _SCIPY in sys.modules
        if has_scipy != self.has_scipy:
            from threadpoolctl import ThreadpoolController

            found = ThreadpoolController().select(user_api="blas").lib_controllers
            self.libraries = [_library(c) for c in found]
            self.has_scipy = has_scipy
        return self.libraries

    def acquire(self, count: int) -> None:
        with self.changed:
            while self.holders and self.held != count:
                self.changed.wait()
            if not self.holders:
                libraries = self.find()
                self.before = [library.read() for library in libraries]
                for library, before in zip(libraries, self.before, strict=True):
                    if before != count:
                        library.write(count)
                self.held = count
            self.holders += 1

    def release(self) -> None:
        with self.changed:
            self.holders -= 1
            if not self.holders:
                for library, before in zip(self.libraries, self.before, strict=True):
                    if before != self.held:
                        library.write(before)
                self.changed.notify_all()


_THREADS = _Threads()


def _start_anew() -> None:
    """A forked child has none of the parent's holders, and perhaps its lock."""
    global _THREADS  # noqa: PLW0603
    _THREADS = _Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


@dataclass(frozen=True, slots=True)
class hold:  # noqa: N801  (written as a statement: `with hold(2):`)
    """BLAS and LAPACK use `count` threads inside, from whatever thread they are called. Not to be nested."""

    count: int

    def __enter__(self) -> None:
        _THREADS.acquire(self.count)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _THREADS.release()


def thread_counts() -> list[int]:
    """How many threads each loaded library would use now."""
    return [library.read() for library in _THREADS.find()]


def is_threaded(node: Node) -> bool:
    """Whether `node` runs in BLAS or LAPACK, on enough for more than one of their threads."""
    if node.op in _LINALG:
        return max([a.size for a in node.args]) >= WORTH_THREADS
    if node.op != "contract":
        return False
    left, right, n_batch, _, _, n_sum, _ = matmul_plan(node.attrs["subscripts"])
    x, y = ([a.shape[k] for k in order] for a, order in zip(node.args, (left, right), strict=True))
    return size_of(tuple(x[n_batch:])) * size_of(tuple(y[n_batch + n_sum:])) >= WORTH_THREADS

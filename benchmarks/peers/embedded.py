"""Hesse, embedded: `hesse.function(f).hessian`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hesse
import hesse.numpy
from benchmarks.cases import PLAIN, Case
from benchmarks.claims import OURS
from benchmarks.peers import Call, Namespace
from benchmarks.watched import watch
from hesse_engine.backend import kernels

OUT, VM = f"{OURS}, out=", f"{OURS}, VM"
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def _solve_lower(a: Any, b: Any) -> Any:
    linalg: Any = hesse.numpy.linalg
    solve = getattr(linalg, "solve_triangular", None)
    return linalg.solve(a, b) if solve is None else solve(a, b, lower=True)


def _namespace() -> Namespace:
    return Namespace(hesse.numpy, scan=getattr(hesse, "scan", None), diagonal_of=hesse.numpy.diagonal,
                     solve_lower=_solve_lower)


def function(case: Case, scale: float = 1.0) -> hesse.Function:
    names = _namespace()
    if case.data_as == "arguments":
        keys = list(case.values())
        return hesse.function(lambda x, *given: scale * case.f(names, x, dict(zip(keys, given, strict=True))))
    data = case.values()
    return hesse.function(lambda x: scale * case.f(names, x, data))


class Ours:
    version = hesse.__version__

    def __init__(self) -> None:
        kernels.load(wait=True)  # so that no figure depends on how far the VM's loading is
        self.engine = watch()
        self._prepared: dict[tuple[str, str], Any] = {}

    def names(self, case: Case, is_short: bool) -> Sequence[str]:
        return [OURS, *([OUT] if case.has_out else []), *([VM] if case.has_vm else [])]

    def make(self, name: str, case: Case, scale: float) -> Call:
        call, is_first = self._call(name, case, scale), scale == 1.0

        def first(*given: Any) -> Any:
            result = call(*given)
            self._prepared[name, case.name] = self.engine.last
            return result

        return first if is_first else call

    def _call(self, name: str, case: Case, scale: float) -> Call:
        made = function(case, scale)
        options: dict[str, Any] = {"threads": THREADS}
        if name == VM:
            options["tier"] = "vm"
        if case.task == "hvp":
            options.setdefault("tier", "jit")  # what a second of calls would have made, waited for
            return lambda x, v: made.hvp(x, v, **options)
        if case.task == "batched":
            return lambda x: made.hessian(x, batched=True, **options)
        if case.layout != "dense":
            options["layout"] = case.layout
        if name == OUT:
            options["out"] = np.empty((case.n, case.n))
        if case.data_as == "arguments":
            return lambda *given: made.hessian(given, argnums=0, **options)
        return lambda x: made.hessian(x, **options)

    def arguments(self, name: str, case: Case, x: NDArray[Any], v: NDArray[Any]) -> tuple[Any, ...]:
        if case.task == "hvp":
            return x, v
        return (x, *(case.values().values() if case.data_as == "arguments" else ()))

    def plain(self, name: str, case: Case, result: Any) -> NDArray[Any]:
        if case.task == "hvp":
            return np.asarray(result[1])
        if hasattr(result, "indptr"):
            rows = np.repeat(np.arange(case.n), np.diff(result.indptr))
            if case.n > PLAIN:
                return np.bincount(rows, result.data * case.probe[result.indices], minlength=case.n)
            matrix = np.zeros(result.shape)
            matrix[rows, result.indices] = result.data
            return matrix
        return np.array(result, copy=True)

    def stats(self, name: str, case: Case, given: Sequence[Any]) -> dict[str, Any]:
        """What the engine says of a call, asked after the timed ones."""
        prepared = self._prepared[name, case.name]
        if case.task == "hvp":
            return dict(prepared((given[0],), (given[1],)).stats)
        return dict(prepared(tuple(given)).stats)

    def stages(self, case: Case, scale: float) -> dict[str, Any]:
        """Nodes and microseconds of a first call: what passes until the graph is there, planned, run."""
        from benchmarks.stages import staged

        x = case.points(1)[0]
        given = self.arguments(OURS, case, x, x)
        call = self.make(OURS, case, scale)
        started = time.perf_counter()
        found = staged(lambda: call(*given))
        return {**found, "seconds": time.perf_counter() - started}


def library() -> Ours:
    return Ours()

"""`python -m benchmarks.growth SERIES N THREADS`: time and memory of one size, in a process of its own.

Prints one JSON object. Memory is how far the process's peak rises above what it held before the first call, the inputs
there already.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import hesse
import hesse.numpy as xp
from benchmarks import functions as fn
from hesse_engine.backend import kernels

SERIES = {"Rosenbrock csr": (fn.rosenbrock, 0.0, 0.5), "CRAGGLVY csr": (fn.cragglvy, 1.0, 0.1),
          "Rosenbrock hvp": (fn.rosenbrock, 0.0, 0.5)}
SIZES = (100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
SHORT_SIZES = (1000,)
PEAK = Path("/proc/self/clear_refs")
INPUTS, LEAST_S, MOST = 8, 0.3, 2000


def peak_bytes() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak() -> int:
    """Have the kernel forget the peak so far, where it does; the resident memory, or else that peak."""
    try:
        with PEAK.open("w", encoding="ascii") as peak:
            peak.write("5")
    except OSError:
        return peak_bytes()
    return _status("VmRSS")


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def warm(threads: int) -> None:
    """The VM loaded and every layer called once, at a size that needs no memory."""
    kernels.load(wait=True)
    f = hesse.function(lambda x: fn.sine(xp, x, {}))
    f.hessian(np.ones(4), layout="csr", threads=threads)
    f.hvp(np.ones(4), np.ones(4), threads=threads)


def measure(series: str, n: int, threads: int) -> dict[str, Any]:
    g, center, spread = SERIES[series]
    rng = np.random.default_rng(n)
    inputs = [center + spread * rng.standard_normal(n) for _ in range(INPUTS)]
    warm(threads)
    gc.collect()
    before = forget_peak()
    f = hesse.function(lambda x: g(xp, x, {}))

    def call(k: int) -> Any:
        x = inputs[k % INPUTS]
        return f.hvp(x, inputs[-1], threads=threads)[1] if series.endswith("hvp") else \
            f.hessian(x, layout="csr", threads=threads)

    started = perf_counter()
    result = call(0)
    cold = perf_counter() - started
    nonzeros = int(result.indptr[-1]) if hasattr(result, "indptr") else n
    del result
    memory = peak_bytes() - before
    return {"series": series, "n": n, "nonzeros": nonzeros, "cold_s": cold, "hot_s": _hot(call), "bytes": memory}


def _hot(call: Callable[[int], Any]) -> float:
    times: list[float] = []
    while len(times) < 3 or (sum(times) < LEAST_S and len(times) < MOST):
        started = perf_counter()
        call(len(times) + 1)
        times.append(perf_counter() - started)
    return median(times)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

"""`python -m benchmarks.huge POINTS THREADS`: the Hessian of a pairwise energy whose result is most of the memory.

A process of its own, so that its peak memory is this computation's. Prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import sys
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hesse
import hesse.numpy as xp
from benchmarks.functions import pairs_by_broadcast
from benchmarks.watched import watch
from hesse_engine.backend import kernels

TURNS = 7
EPS = 1e-6  # of the energy


def rows_of(points: NDArray[np.float64], i: int) -> NDArray[np.float64]:
    """The three rows of point i in closed form.

    phi(d) = sqrt(|d|^2 + eps), phi'' = I/phi - d d'/phi^3; both orders of a pair are in the sum, so
    H_ij = -2 phi''(p_i - p_j) for i != j and H_ii = -sum of them.
    """
    d = points[i] - points
    r = np.sqrt((d * d).sum(1) + EPS)
    blocks = -2.0 * (np.eye(3) / r[:, None, None] - d[:, :, None] * d[:, None, :] / r[:, None, None] ** 3)
    blocks[i] = 0.0
    blocks[i] = -blocks.sum(0)
    rows: NDArray[np.float64] = blocks.transpose(1, 0, 2).reshape(3, -1)
    return rows


def main(points: int, threads: int) -> dict[str, Any]:
    kernels.load(wait=True)
    engine = watch()
    rng, size = np.random.default_rng(0), 3 * points
    f = hesse.function(lambda x: pairs_by_broadcast(xp, x, {}))
    inputs = [rng.standard_normal(size) for _ in range(TURNS + 1)]
    started = perf_counter()
    matrix = f.hessian(inputs[0], threads=threads)
    cold = perf_counter() - started
    for i in (0, points // 2, points - 1):
        wanted = rows_of(inputs[0].reshape(-1, 3), i)
        np.testing.assert_allclose(matrix[3 * i:3 * i + 3], wanted, rtol=1e-8, atol=1e-9 * np.abs(wanted).max())
    hots, ones = [], []
    for x in inputs[1:]:
        del matrix
        started = perf_counter()
        matrix = f.hessian(x, threads=threads)
        hots.append(perf_counter() - started)
    plan = engine.last.plan
    del matrix
    stats = engine.last((inputs[0],)).stats
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for _ in range(TURNS):
        started = perf_counter()
        filled = np.ones((size, size))
        ones.append(perf_counter() - started)
        del filled
    return {"points": points, "n": size, "result_bytes": 8 * size * size, "cold_s": cold, "hot_s": hots, "ones_s": ones,
            "peak_bytes": peak, "predicted_bytes": plan.predicted_peak_bytes, "tier": stats["tier"],
            "strategy": stats["strategy"]}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))

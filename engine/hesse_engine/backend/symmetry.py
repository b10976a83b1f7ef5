"""H <- H + H' in place, tile by tile: both tiles of a pair are in the cache while they are added."""

from __future__ import annotations

from concurrent.futures import wait

import numpy as np

from hesse_engine.backend import kernels
from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.memory import address_of
from hesse_engine.backend.workspace import executor
from hesse_engine.ir.graph import Array

TILE = 128
WORTH_THREADS = 1 << 18  # entries


def add_transpose(matrix: Array, threads: int, *, by_vm: bool = True) -> None:
    """Make the square `matrix` = T the symmetric T + T'; it must be row-major."""
    n = len(matrix)
    kernel = kernels.kernel(matrix.dtype) if by_vm else None
    parts = threads if matrix.size > WORTH_THREADS else 1
    if kernel is None:
        _by_tiles(matrix)
        return
    tables = np.zeros((parts, oc.HEADER), np.int64)
    tables[:, oc.RANK], tables[:, oc.INNER], tables[:, oc.CODE_COUNT] = oc.TRANSPOSE, n, parts
    tables[:, oc.PROLOGUE] = np.arange(parts)
    buffers = np.array([address_of(matrix)])
    if parts == 1:
        kernel(address_of(tables), address_of(buffers), 0)
    else:
        jobs = [executor().submit(kernel, address_of(t), address_of(buffers), 0) for t in tables]
        wait(jobs)


def _by_tiles(matrix: Array) -> None:
    n = len(matrix)
    buffer = np.empty((TILE, TILE), matrix.dtype)
    for i in range(0, n, TILE):
        for j in range(0, i + 1, TILE):
            upper, lower = matrix[j:j + TILE, i:i + TILE], matrix[i:i + TILE, j:j + TILE]
            total = buffer[:lower.shape[0], :lower.shape[1]]
            np.add(lower, upper.T, out=total)
            lower[...] = total
            if i != j:
                upper[...] = total.T

"""The loops of graph coloring, compiled by Numba as they stand, through the disk cache of the VM."""

from __future__ import annotations

import hashlib
import inspect
import sys
from typing import Any

import llvmlite
import numba
from numba import config, njit, types

from hesse_engine.backend.cache import locate
from hesse_engine.backend.vm import disk_cache
from hesse_engine.structure import graphs
from hesse_engine.structure.coloring import COMPILED_WORK, Kernels

LONG, INT = types.int64[::1], types.int32[::1]
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "degree_order": (LONG, LONG, types.int64),
    "color_distance_1": (LONG, LONG, LONG),
    "color_columns": (INT, INT, INT, INT, LONG),
    "color_star": (LONG, LONG, LONG, LONG),
    "color_acyclic": (LONG, LONG, LONG, LONG),
}


def load_loops() -> Kernels:
    """Every loop of `structure.graphs`, compiled or read from disk."""
    if config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    text = f"{inspect.getsource(graphs)}\0{SIGNATURES}\0{numba.__version__} {llvmlite.__version__} {sys.version}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    cache = locate()
    compiled: dict[str, Any] = {}
    for name, signature in SIGNATURES.items():
        function = getattr(graphs, name)
        dispatcher = njit(nogil=True, boundscheck=False)(function)
        if cache.path is not None:
            dispatcher._cache = disk_cache(function, cache.path, f"hesse_{name}_{digest}", cache.is_writable)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        compiled[name] = dispatcher
    return Kernels(**compiled, work=COMPILED_WORK)

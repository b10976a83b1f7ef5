"""Compiled loops over steps: the recurrence d' = a d + h, and a driver for bodies of several regions. Imports numba."""

from __future__ import annotations

import hashlib
import inspect
import sys
from typing import Any

import llvmlite
import numba
from numba import config, njit, types
from numba.extending import intrinsic

from hesse_engine.backend.cache import locate
from hesse_engine.backend.vm import disk_cache, load_float64, load_int64, store_float64, store_int64

REGISTERS = 16  # lanes up to which a carry stays in registers from step to step


def recurrence(
    steps: int, lanes: int, a: int, a_step: int, a_lane: int, h: int, h_step: int, h_lane: int, d: int, d_step: int
) -> None:
    """d[t + 1] = a[t] d[t] + h[t] in every lane, in float64: addresses, strides in elements; `d` is the first value."""
    at = 0
    if lanes <= REGISTERS:
        while lanes - at >= 2:
            u, v = load_float64(d, at), load_float64(d, at + 1)
            for t in range(steps):
                x, y = t * a_step + at * a_lane, t * h_step + at * h_lane
                u = load_float64(a, x) * u + load_float64(h, y)
                v = load_float64(a, x + a_lane) * v + load_float64(h, y + h_lane)
                store_float64(d, (t + 1) * d_step + at, u)
                store_float64(d, (t + 1) * d_step + at + 1, v)
            at += 2
        if at < lanes:
            u = load_float64(d, at)
            for t in range(steps):
                u = load_float64(a, t * a_step + at * a_lane) * u + load_float64(h, t * h_step + at * h_lane)
                store_float64(d, (t + 1) * d_step + at, u)
    else:
        for t in range(steps):
            for k in range(lanes):
                u = load_float64(a, t * a_step + k * a_lane) * load_float64(d, t * d_step + k)
                store_float64(d, (t + 1) * d_step + k, u + load_float64(h, t * h_step + k * h_lane))


@intrinsic  # type: ignore[untyped-decorator]
def _enter(typing_context: Any, entry: Any, table: Any, buffers: Any, work: Any) -> Any:
    """Call the compiled VM, whose entry is at an address."""
    arguments = (types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.call_conv.get_function_type(types.none, arguments)
        function = builder.inttoptr(args[0], kind.as_pointer())
        context.call_conv.call_function(builder, function, types.none, arguments, args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *arguments), generate


def driver(entry: int, steps: int, count: int, tables: int, buffers: int, moves: int, moving: int, work: int) -> None:
    """Run `count` tables in every step, then move the addresses of buffers: pairs (buffer, bytes) in `moves`."""
    for _ in range(steps):
        for k in range(count):
            _enter(entry, load_int64(tables, k), buffers, work)
        for k in range(moving):
            at = load_int64(moves, 2 * k)
            store_int64(buffers, at, load_int64(buffers, at) + load_int64(moves, 2 * k + 1))


def entry_of(kernel: Any) -> int:
    """The address of a compiled function of the VM's signature."""
    (compiled,) = kernel.overloads.values()
    found: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return found


def load_recurrences() -> dict[str, Any]:
    """The two functions, compiled or read from disk."""
    if config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    text = f"{inspect.getsource(sys.modules[__name__])}\0{numba.__version__} {llvmlite.__version__} {sys.version}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    cache = locate()
    long = types.int64
    functions = {
        "recurrence": (recurrence, types.void(*[long] * 10)),
        "driver": (driver, types.void(*[long] * 8)),
    }
    found: dict[str, Any] = {}
    for name, (function, signature) in functions.items():
        dispatcher = njit(nogil=True, error_model="numpy")(function)
        if cache.path is not None:
            dispatcher._cache = disk_cache(function, cache.path, f"hesse_{name}_{digest}", cache.is_writable)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        found[name] = dispatcher
    return found


"""Kernels for single regions, compiled by Numba from the text of `fusion`. Compiled code is never freed: see `hot`."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

from hesse_engine.backend import vecmath
from hesse_engine.backend.fusion import Structure, kernel_source
from hesse_engine.backend.opcodes import STRIP
from hesse_engine.backend.vm import SIGNATURE, Kernel, run_text

_KINDS: dict[str, tuple[types.Type, ir.Type, int]] = {
    "float64": (types.float64, ir.DoubleType(), 8),
    "float32": (types.float32, ir.FloatType(), 4),
    "int32": (types.int32, ir.IntType(32), 4),
    "uint8": (types.uint8, ir.IntType(8), 1),
}
_DOMAIN = "hesse region"


def _annotate(instruction: Any, module: Any, scope: int, scopes: int) -> None:
    """Say that memory of `scope` is apart from that of every other: what lets a loop over many arrays vectorize."""
    domain = module.add_metadata([_DOMAIN])
    nodes = [module.add_metadata([f"{_DOMAIN} {k}", domain]) for k in range(scopes)]
    instruction.set_metadata("alias.scope", module.add_metadata([nodes[scope]]))
    instruction.set_metadata("noalias", module.add_metadata([n for k, n in enumerate(nodes) if k != scope]))


def loader(name: str, scope: int, scopes: int) -> Any:
    """An intrinsic (address, index) -> element, of memory number `scope` out of `scopes` that do not overlap."""
    kind, word, size = _KINDS[name]

    @intrinsic  # type: ignore[untyped-decorator]
    def load(typing_context: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
            base = builder.inttoptr(args[0], word.as_pointer())
            found = builder.load(builder.gep(base, [args[1]]), align=size)
            _annotate(found, builder.module, scope, scopes)
            return found

        return kind(types.int64, types.int64), generate

    return load


def storer(name: str, scope: int, scopes: int) -> Any:
    """As `loader`, for writing."""
    kind, word, size = _KINDS[name]

    @intrinsic  # type: ignore[untyped-decorator]
    def store(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Sequence[Any]) -> Any:
            base = builder.inttoptr(args[0], word.as_pointer())
            converted = context.cast(builder, args[2], signature.args[2], kind)
            written = builder.store(converted, builder.gep(base, [args[1]]), align=size)
            _annotate(written, builder.module, scope, scopes)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, value), generate

    return store


def compile_kernel(structure: Structure) -> tuple[Kernel, int] | None:
    """A drop-in for the VM on tables of `structure`, and the bytes of work memory it needs. None: it cannot be fused.

    Kept: the C entry alone. Without the wrapper that Python would call, a kernel costs a third of the memory.
    """
    made = kernel_source(structure, vecmath.available(structure.dtype))
    if made is None:
        return None
    text, strips = made
    name = f"hesse_jit_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    try:
        compiled = cfunc(SIGNATURE, nopython=True, error_model="numpy")(run_text(name, text).kernel)
    finally:
        sys.modules.pop(name, None)
    entry = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(compiled.address)
    return _held(entry, compiled), strips * STRIP * (8 if structure.dtype == "float64" else 4)


def _held(entry: Any, compiled: Any) -> Kernel:
    """`entry`, which stays valid as long as what it points into: it releases the interpreter's lock when called."""
    entry.compiled = compiled
    found: Kernel = entry
    return found

"""Raw memory access as intrinsics, and the VM compiled through the disk cache. With vecmath, what imports numba."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite
import llvmlite.binding
import numba
from llvmlite import ir
from numba import config, njit, types
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.extending import intrinsic

from hesse_engine.backend import special, vecmath
from hesse_engine.backend.cache import locate
from hesse_engine.backend.source import vm_source

Kernel = Callable[[int, int, int], None]
SIGNATURE = types.void(types.int64, types.int64, types.int64)


def _loader(kind: types.Type, word: ir.Type, size: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def load(typing_context: Any, address: Any, index: Any) -> Any:
        """The element at `address`, `index` elements on."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            base = builder.inttoptr(args[0], word.as_pointer())
            return builder.load(builder.gep(base, [args[1]]), align=size)

        return kind(types.int64, types.int64), generate

    return load


def _storer(kind: types.Type, word: ir.Type, size: int) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def store(typing_context: Any, address: Any, index: Any, value: Any) -> Any:
        """Write `value`, converted, at `address`, `index` elements on."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            base = builder.inttoptr(args[0], word.as_pointer())
            converted = context.cast(builder, args[2], signature.args[2], kind)
            builder.store(converted, builder.gep(base, [args[1]]), align=size)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, value), generate

    return store


load_float64, store_float64 = _loader(types.float64, ir.DoubleType(), 8), _storer(types.float64, ir.DoubleType(), 8)
load_float32, store_float32 = _loader(types.float32, ir.FloatType(), 4), _storer(types.float32, ir.FloatType(), 4)
load_int64, store_int64 = _loader(types.int64, ir.IntType(64), 8), _storer(types.int64, ir.IntType(64), 8)
load_int32 = _loader(types.int32, ir.IntType(32), 4)
load_uint8, store_uint8 = _loader(types.uint8, ir.IntType(8), 1), _storer(types.uint8, ir.IntType(8), 1)


@intrinsic  # type: ignore[untyped-decorator]
def outlined(typing_context: Any) -> Any:
    """Keep the function that calls this out of its callers: compiled once, not once for each use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


class _Locator:
    """Where Numba is to keep a function. The name holds the hash of the source, so nothing has to be compared."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ensure_cache_path(self) -> None:
        return

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return "named by content"

    def get_disambiguator(self) -> str:
        return "vm"


def disk_cache(function: Any, folder: Path, name: str, is_writable: bool) -> FunctionCache:
    """Numba's cache of `function` in `folder`, whatever the process's own Numba settings say."""

    class Implementation(CompileResultCacheImpl):  # type: ignore[misc]
        def __init__(self, py_func: Any) -> None:
            self._lineno, self._locator = 1, _Locator(folder)
            self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))

    class Cache(FunctionCache):  # type: ignore[misc]
        _impl_class = Implementation

        def load_overload(self, signature: Any, target: Any) -> Any:
            try:
                return super().load_overload(signature, target)
            except Exception:  # noqa: BLE001  (torn or foreign files: compile anew, and write over them)
                return None

        def save_overload(self, signature: Any, data: Any) -> None:
            if is_writable:
                with contextlib.suppress(OSError):  # a full or vanished disk costs the cache, not the kernel
                    super().save_overload(signature, data)

    return Cache(function)


def run_text(name: str, text: str) -> ModuleType:
    """A module called `name` made of `text`, which is of our own table."""
    module = sys.modules[name] = ModuleType(name)  # Numba looks a cached function's module up by name
    exec(compile(text, f"<{name}>", "exec"), module.__dict__)  # noqa: S102
    return module


def add_symbols() -> tuple[str, ...]:
    """Make the C functions of `special` known by name, which code from disk refers to; those that are missing."""
    found, missing = special.addresses()
    for name, address in found.items():
        llvmlite.binding.add_symbol(name, address)
    return missing


def load_vm(dtype: str) -> tuple[Kernel, bool, str]:
    """(kernel, whether it came from disk, why it is not kept there)."""
    if config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set")
    add_symbols()
    text = vm_source(dtype, vecmath.available(dtype))
    # The hash covers what the text calls: the intrinsics, and the compilers.
    parts = [text, *[Path(p).read_text("utf-8") for p in (__file__, vecmath.__file__)]]
    parts.append(f"{numba.__version__} {llvmlite.__version__} {sys.version}")
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    name = f"hesse_vm_{dtype}_{digest}"
    module = run_text(name, text)
    dispatcher = njit(nogil=True, error_model="numpy")(module.vm)
    cache = locate()
    if cache.path is not None:
        dispatcher._cache = disk_cache(module.vm, cache.path, name, cache.is_writable)
    dispatcher.compile(SIGNATURE)
    dispatcher.disable_compile()
    return dispatcher, bool(dispatcher.stats.cache_hits), cache.reason

"""Kernels of their own for hot regions: the VM's bits, for every opcode; interned, limited, made in the background."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend import hot, jit, kernels, vecmath
from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.fusion import is_arithmetic
from hesse_engine.backend.program import Program, build_program
from hesse_engine.backend.vm import load_vm
from hesse_engine.ir.graph import FLOAT32, FLOAT64, Array, Builder, DType, Node, apply
from random_graphs import RandomGraph

WAIT = 50.0


@pytest.fixture(autouse=True)
def every_region_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small and slow regions get kernels too, in a registry that a test has to itself."""
    monkeypatch.setattr(hot, "LARGE", 1)
    monkeypatch.setattr(hot, "WORTH_FUSING", -1.0)
    monkeypatch.setattr(hot, "_REGISTRY", hot._Registry())
    monkeypatch.setenv("HESSE_JIT_KERNELS", "1000")


def assert_same_bits(inputs: list[Node], outputs: list[Node], arrays: list[Array], threads: int = 1) -> Program:
    program = build_program(inputs, outputs, tier="jit", threads=threads)
    want = build_program(inputs, outputs, tier="vm", threads=threads).run(arrays)
    for _ in range(2):  # nothing of a run stays behind
        for got, wanted in zip(program.run(arrays), want, strict=True):
            assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_array_equal(got, wanted)
            if got.dtype.kind == "f":
                numbers = ~np.isnan(wanted)  # the sign of a NaN means nothing
                np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(wanted)[numbers])
    return program


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_have_the_bits_of_the_vm(seed: int) -> None:
    graph = RandomGraph(seed + 50, 22, (FLOAT64, FLOAT32) if seed % 3 == 2 else (FLOAT64,))
    program = assert_same_bits(graph.inputs, graph.outputs, graph.arrays(), 1 + seed % 2)
    assert program.tier == ("vm" if program._heat is None else "jit")  # a few draw no elementwise node


def values(dtype: DType, count: int) -> list[Array]:
    rng = np.random.default_rng(count)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 1e-30, 1e30]
    grid = [g.ravel() for g in np.meshgrid(special, special, special[:5])]
    return [np.concatenate([g, rng.normal(size=700)]).astype(dtype) for g in grid[:count]]


GROUPS = {
    "arithmetic": [n for n in oc.VM_ROWS if is_arithmetic(n)],
    "functions": [n for n in oc.VM_ROWS if not is_arithmetic(n)],
}


ATTRIBUTES: dict[tuple[str, ...], dict[str, Any]] = {("exponent",): {"exponent": 1.5}, ("n",): {"n": 2}}


@pytest.mark.parametrize(("group", "dtype", "vectors"), [
    *[(group, dtype, True) for group in GROUPS for dtype in (FLOAT64, FLOAT32)], ("functions", FLOAT64, False),
], ids=str)
def test_every_row_has_the_bits_of_the_vm(
    group: str, dtype: DType, vectors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not vectors:  # as where there is no vector library
        monkeypatch.setattr(vecmath, "available", lambda dtype: ())
        vm, _, _ = load_vm(str(dtype))
        monkeypatch.setattr(kernels._SLOTS[str(dtype)], "kernel", vm)
    for at in range(0, len(GROUPS[group]), 12):
        assert tier_of_rows(GROUPS[group][at : at + 12], dtype) == "jit"


def tier_of_rows(names: list[str], dtype: DType) -> str:
    builder, arrays = Builder(), values(dtype, 3)
    inputs = [builder.input(f"x{k}", a.shape, a.dtype) for k, a in enumerate(arrays)]
    floats = [n * 1.5 for n in inputs]  # arithmetic before and after: values cross from loop to function and back
    truths = [apply("greater", n, 0.0) for n in inputs]
    outputs: list[Node] = []
    for name in names:
        arity = oc.VM_ROWS[name].arity
        operands = (truths if name.startswith("logical") else [truths[0], *floats] if name == "where" else floats)
        result = apply(name, *operands[:arity], **ATTRIBUTES.get(oc.VM_ROWS[name].attrs, {}))
        outputs.append(result)
        if result.dtype.kind == "f":
            outputs += [result * 2.0 - floats[-1], apply("sum", result + 1.0)]
    return assert_same_bits(inputs, outputs, arrays).tier


def shifted(builder: Builder, n: int, shifts: tuple[int, ...], dtype: DType = FLOAT64) -> tuple[Node, Node]:
    """A sum of shifted arrays, as the gradient of a function of slices is."""
    x = builder.input("x", (n,), dtype)
    width = n - max(shifts)
    total = None
    for k, shift in enumerate(shifts):
        part = apply("slice", x, start=[shift], step=[1], count=[width]) * (k + 1.5)
        term = apply("unslice", part * part, shape=(n,), start=[shift])
        total = term if total is None else total + term
    assert total is not None
    return x, total


SHIFTS = [(1, 0), (0, 1), (2, 1, 0), (0,), (3,), (5, 0, 2), (300, 0), (0, 0)]


@pytest.mark.parametrize(
    ("shifts", "threads", "tier"),
    [(s, k, "vm") for s in SHIFTS for k in (1, 2, 3)] + [((2, 1, 0), 1, "jit"), ((5, 0, 2), 2, "jit")], ids=str
)
def test_sums_of_shifted_arrays(shifts: tuple[int, ...], threads: int, tier: str) -> None:
    n = 200_001
    x, total = shifted(Builder(), n, shifts)
    array = np.random.default_rng(0).normal(size=n)
    want, width = np.zeros(n), n - max(shifts)
    for k, shift in enumerate(shifts):
        want[shift:shift + width] += (array[shift:shift + width] * (k + 1.5)) ** 2
    got = build_program([x], [total], tier=tier, threads=threads)
    for _ in range(2):
        np.testing.assert_allclose(got.run([array])[0], want, rtol=1e-15)


def test_one_kernel_serves_all_sizes_constants_and_threads() -> None:
    for n, factor, threads in ((100, 2.0, 1), (1000, 3.0, 1), (400_000, 4.0, 2)):
        builder = Builder()
        x = builder.input("x", (n,), FLOAT64)
        assert_same_bits([x], [x * factor + x], [np.linspace(-1, 1, n)], threads)
    assert hot.compiled() == 1


def test_no_more_kernels_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HESSE_JIT_KERNELS", "2")
    tiers = []
    for k in range(4):
        builder = Builder()
        x = builder.input("x", (50,), FLOAT64)
        y = x
        for _ in range(k + 1):
            y = y * x
        tiers.append(assert_same_bits([x], [y], [np.linspace(-1, 1, 50)]).tier)
    assert tiers == ["jit", "jit", "vm", "vm"]
    assert hot.compiled() == 2


def test_runs_go_on_while_a_kernel_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    compile_kernel = jit.compile_kernel

    def slow(structure: object) -> object:
        begun.set()
        assert go.wait(WAIT)
        return compile_kernel(structure)  # type: ignore[arg-type]

    monkeypatch.setattr(jit, "compile_kernel", slow)
    monkeypatch.setenv("HESSE_JIT_SECONDS", "0")  # hot from the first run on
    build_program([], [Builder().constant(np.ones(3)) * 2.0], tier="vm")  # the VM is there
    builder = Builder()
    x = builder.input("x", (300,), FLOAT64)
    array = np.linspace(-1, 1, 300)
    program = build_program([x], [x * x - x])
    first = program.run([array])[0]
    assert begun.wait(WAIT)
    assert program.tier == "vm"
    np.testing.assert_array_equal(program.run([array])[0], first)  # answered while the other thread compiles
    go.set()
    hot.ask(set(next(iter(program._heat.regions.values())).structures.values()), wait=True)  # type: ignore[union-attr]
    assert program.tier == "jit"
    np.testing.assert_array_equal(program.run([array])[0], first)
    assert program._pool[-1].fused


def test_cold_regions_and_other_tiers_get_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = Builder()
    x = builder.input("x", (300,), FLOAT64)
    monkeypatch.setenv("HESSE_JIT_SECONDS", "1000")
    program = build_program([x], [x * x - x])
    for _ in range(20):
        program.run([np.ones(300)])
    monkeypatch.setenv("HESSE_JIT_SECONDS", "0")
    for tier in ("vm", "reference"):
        build_program([x], [x * x - x], tier=tier).run([np.ones(300)])
    assert hot.compiled() == 0
    assert not hot._REGISTRY.pending


def test_a_failed_compilation_leaves_the_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(structure: object) -> object:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(jit, "compile_kernel", fail)
    builder = Builder()
    x = builder.input("x", (300,), FLOAT64)
    assert assert_same_bits([x], [x * x - x], [np.ones(300)]).tier == "vm"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_of_a_kernel_is_bounded() -> None:
    """Compiled code is never freed: what it costs, times the limit, is what a process can lose to it."""

    def compile_chain(length: int) -> None:
        builder = Builder()
        x = builder.input("x", (50,), FLOAT64)
        y = x
        for k in range(length):
            y = y * x if k % 2 else y + x
        build_program([x], [y], tier="jit")

    for length in range(2, 6):  # what the compiler itself takes, once
        compile_chain(length)
    gc.collect()
    before, count = resident_bytes(), 12
    for length in range(6, 6 + count):
        compile_chain(length)
    gc.collect()
    assert hot.compiled() == 4 + count
    assert (resident_bytes() - before) / count < 2.5e6

"""Programs: the VM tier against the interpreter, ownership of results, threads, memory, tiers."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest

from hesse_engine.backend.program import Program, build_program
from hesse_engine.errors import InputError
from hesse_engine.ir.graph import BOOL, FLOAT32, FLOAT64, Array, Builder, Node, apply
from random_graphs import RandomGraph

INT64 = np.dtype(np.int64)


def assert_same(got: list[Array], want: list[Array], tolerance: float) -> None:
    for a, b in zip(got, want, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.flags.c_contiguous
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(120))
def test_random_graphs_agree_with_the_interpreter(seed: int) -> None:
    graph = RandomGraph(seed, 20 + seed % 60)
    arrays = graph.arrays()
    program = build_program(graph.inputs, graph.outputs, tier="vm", threads=1 + seed % 2)
    want = build_program(graph.inputs, graph.outputs, tier="reference").run(arrays)
    assert_same(program.run(arrays), want, 1e-9)
    assert_same(program.run(arrays), want, 1e-9)  # nothing of a run stays behind


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_of_mixed_dtypes(seed: int) -> None:
    graph = RandomGraph(seed + 1000, 40, (FLOAT64, FLOAT32))
    arrays = graph.arrays()
    floats = [n for n in graph.outputs if n.dtype.kind == "f"]
    got = build_program(graph.inputs, floats, tier="vm").run(arrays)
    want = build_program(graph.inputs, floats, tier="reference").run(arrays)
    for a, b in zip(got, want, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        # a comparison of float32 values may fall the other way here and there
        assert np.isclose(a, b, rtol=2e-3, atol=2e-3, equal_nan=True).mean() > 0.98


def program_of(outputs: list[Node], *inputs: Node, tier: str = "vm", threads: int = 1) -> Program:
    return build_program(inputs, outputs, tier=tier, threads=threads)


@pytest.mark.parametrize("tier", ["vm", "reference"])
@pytest.mark.parametrize("size", [3, 5000])
def test_results_share_memory_with_nothing(tier: str, size: int) -> None:
    builder = Builder()
    x = builder.input("x", (size,), FLOAT64)
    y, constant = apply("exp", x), builder.constant(np.arange(float(size)))
    outputs = [
        x, constant, y, y, apply("reshape", y, shape=(size, 1)), apply("slice", x, start=(1,), count=(2,)),
        apply("broadcast_to", y, shape=(2, size)), builder.zeros((size,), FLOAT64), builder.full((2,), 3.0, FLOAT64),
        apply("sum", y), apply("contract", x, x, subscripts="a,a->"),
        apply("permute_dims", apply("reshape", x, shape=(1, -1))),
    ]
    program = program_of(outputs, x, tier=tier)
    array = np.linspace(0, 1, size)
    before = array.copy()
    first, second = program.run([array]), program.run([array])
    everything = [*first, *second]
    for k, a in enumerate(everything):
        assert a.flags.writeable
        assert a.flags.c_contiguous
        assert not np.shares_memory(a, array)
        assert constant.value is not None
        assert not np.shares_memory(a, constant.value)
        assert not any(np.shares_memory(a, b) for b in everything[:k])
    for a in everything:
        a.fill(-1.0)
    np.testing.assert_array_equal(array, before)
    np.testing.assert_allclose(program.run([array])[2], np.exp(before), rtol=1e-15)


@pytest.mark.parametrize("make", [
    lambda x: x[::2], lambda x: x[::-1][:50],
    lambda x: np.frombuffer(b"\0" + x[:50].tobytes(), np.uint8)[1:].view(x.dtype),
], ids=["strided", "reversed", "unaligned"])
@pytest.mark.parametrize("repeat", [1, 200])
def test_inputs_of_any_layout(make: object, repeat: int) -> None:
    assert callable(make)
    small = make(np.arange(100.0))
    array = small if repeat == 1 else np.lib.stride_tricks.as_strided(small, (repeat, 50), (0, small.strides[0]))
    builder = Builder()
    x = builder.input("x", array.shape, FLOAT64)
    np.testing.assert_array_equal(program_of([x * 2.0], x).run([array])[0], array * 2.0)


@pytest.mark.parametrize("tier", ["vm", "reference"])
@pytest.mark.parametrize("arrays", [[], [np.zeros(4)], [np.zeros((3, 1))], [np.zeros(3, np.float32)]], ids=str)
def test_wrong_arrays_are_refused(tier: str, arrays: list[Array]) -> None:
    x = Builder().input("x", (3,), FLOAT64)
    with pytest.raises(InputError) as caught:
        program_of([x * 2.0], x, tier=tier).run(arrays)
    assert caught.value.code == "wrong-inputs"


def test_wrong_options_are_refused() -> None:
    x = Builder().input("x", (3,), FLOAT64)
    with pytest.raises(InputError, match="tier"):
        build_program([x], [x], tier="gpu")
    with pytest.raises(InputError, match="threads"):
        build_program([x], [x], threads=0)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4, 2)], ids=str)
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    builder = Builder()
    x = builder.input("x", shape, FLOAT64)
    outputs = [x * 2.0, apply("sum", apply("sin", x)), apply("sum", x, axis=(0,)), apply("contract", x, x, subscripts={
        1: "a,a->", 2: "ab,cb->ac", 3: "abc,dbc->ad"}[len(shape)])]
    got = program_of(outputs, x).run([np.zeros(shape)])
    assert_same(got, program_of(outputs, x, tier="reference").run([np.zeros(shape)]), 0)


def test_unused_inputs_and_integer_programs() -> None:
    builder = Builder()
    x, k = builder.input("x", (3,), FLOAT64), builder.input("k", (4,), INT64)
    program = program_of([k + k, apply("argmax", k)], x, k)
    got = program.run([np.zeros(3), np.array([1, 5, 2, 3])])
    np.testing.assert_array_equal(got[0], [2, 10, 4, 6])
    assert got[1] == 1
    assert got[1].dtype == INT64
    assert program.fallbacks == ("add", "argmax")


def test_fallbacks_name_only_what_nothing_covers() -> None:
    builder = Builder()
    x = builder.input("x", (4, 4), FLOAT64)
    index = builder.constant(np.array([0, 2]))
    covered = [
        apply("contract", x, x, subscripts="ab,bc->ac"), apply("concat", x, x, axis=0), apply("take", x, index, axis=1),
        apply("scatter_add", apply("take", x, index, axis=0), index, axis=0, size=4),
        apply("convert", x, dtype=FLOAT32), apply("unslice", x, shape=(6, 6), start=(1, 1)), apply("sum", x > 0.0),
        apply("reshape", apply("permute_dims", x), shape=(16,)),
    ]
    assert program_of(covered, x).fallbacks == ()


def test_computed_index_out_of_range_is_refused_and_the_program_lives_on() -> None:
    builder = Builder()
    x, k = builder.input("x", (4,), FLOAT64), builder.input("k", (2,), INT64)
    head = apply("slice", x, start=(0,), count=(2,))
    program = program_of([apply("take", x, k, axis=0), apply("scatter_add", head, k, axis=0, size=3)], x, k)
    with pytest.raises(IndexError, match="out of range"):
        program.run([np.zeros(4), np.array([0, 2000])])
    got = program.run([np.arange(4.0), np.array([1, -1])])
    np.testing.assert_array_equal(got[0], [1.0, 3.0])
    np.testing.assert_array_equal(got[1], [0.0, 0.0, 1.0])


def big(builder: Builder, rows: int = 300, columns: int = 4000) -> tuple[Node, list[Node]]:
    x = builder.input("x", (rows, columns), FLOAT64)
    column = apply("broadcast_to", apply("slice", x, start=(0, 0), count=(rows, 1)), shape=(rows, columns))
    y = apply("sin", x) * column
    sums = [apply("sum", y, axis=(k,)) for k in (0, 1)]
    return x, [y, apply("permute_dims", apply("exp", y)), *sums, y > 0.0]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_threads_give_the_same_bits(threads: int) -> None:
    x, outputs = big(Builder())
    array = np.random.default_rng(0).normal(size=x.shape)
    program = program_of(outputs, x, threads=threads)
    first, again = program.run([array]), program.run([array])
    alone = program_of(outputs, x).run([array])
    for a, b, c in zip(first, again, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-12, atol=1e-12)  # each thread sums its own part


def test_runs_at_the_same_time_do_not_meet() -> None:
    x, outputs = big(Builder(), 20, 500)
    program = program_of(outputs, x, threads=2)
    arrays = [np.random.default_rng(k).normal(size=x.shape) for k in range(6)]
    want = [program.run([a]) for a in arrays]
    found: list[list[Array]] = [[] for _ in arrays]
    barrier = threading.Barrier(len(arrays))

    def one(k: int) -> None:
        barrier.wait()
        for _ in range(20):
            found[k] = program.run([arrays[k]])

    threads = [threading.Thread(target=one, args=(k,)) for k in range(len(arrays))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(found, want, strict=True):
        assert_same(a, b, 0)


@pytest.mark.parametrize("tier", ["vm", "reference"])
@pytest.mark.parametrize("case", ["elementwise", "product", "outer"])
def test_predicted_bytes(tier: str, case: str) -> None:
    builder = Builder()
    n = 1000
    x = builder.input("x", (n, n), FLOAT64)
    row, column = (apply("slice", x, start=(0, 0), count=c) for c in ((1, n), (n, 1)))
    y = {
        "elementwise": lambda: [apply("sin", x) * 2.0 + apply("exp", x), apply("sum", x)],
        "product": lambda: [apply("contract", apply("tanh", x), apply("contract", x, x, subscripts="ab,bc->ac"),
                                  subscripts="ab,bc->ac")],
        "outer": lambda: [apply("broadcast_to", apply("exp", row), shape=(n, n))
                          * apply("broadcast_to", column, shape=(n, n))],
    }[case]()
    program = program_of(y, x, tier=tier)
    array = np.random.default_rng(0).normal(size=(n, n))
    program.run([array])
    program._pool.clear()
    tracemalloc.start()
    try:
        results = program.run([array])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert results
    assert 0.75 * peak <= program.predicted_bytes <= 1.25 * peak + 100_000


def test_tiers_are_named() -> None:
    x = Builder().input("x", (3,), FLOAT64)
    assert program_of([x * 2.0], x, tier="reference").tier == "reference"
    assert program_of([x * 2.0], x, tier="vm").tier == "vm"
    assert program_of([x * 2.0], x, tier="reference").fallbacks == ()


def test_boolean_buffers_cross_regions() -> None:
    builder = Builder()
    x = builder.input("x", (300, 4), FLOAT64)
    mask = builder.input("m", (4,), BOOL)
    wide = apply("broadcast_to", mask, shape=(300, 4))
    both = apply("logical_and", wide, x > 0.0)
    flipped = apply("slice", both, start=(299, 0), step=(-1, 1), count=(300, 4))
    outputs = [both, apply("where", flipped, x, -1.0), apply("permute_dims", both)]
    arrays = [np.random.default_rng(0).normal(size=(300, 4)), np.array([True, False, True, True])]
    got = program_of(outputs, x, mask).run(arrays)
    expected = arrays[1] & (arrays[0] > 0)
    assert_same(got, [expected, np.where(expected[::-1], arrays[0], -1.0), np.ascontiguousarray(expected.T)], 0)

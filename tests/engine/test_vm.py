"""The strip VM: every row of the table against NumPy on special and random values; what the verifier refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hesse_engine.backend import kernels
from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.emit import emit, table
from hesse_engine.backend.program import build_program
from hesse_engine.backend.verify import verify
from hesse_engine.errors import StateError
from hesse_engine.ir.graph import FLOAT32, FLOAT64, Array, Builder, DType, Node, apply
from hesse_engine.structure.regions import Cut, Region

DTYPES = (FLOAT64, FLOAT32)
EXACT = ("add", "subtract", "multiply", "divide", "negative", "sqrt", "square", "abs")
# of the difference between two ways, each with errors of its own (test_precision states them one by one): a square
# doubles the error of cosh, logaddexp and lgamma pass through 0, polygamma below 0 is a difference of larger terms
ULP = dict.fromkeys(EXACT, 0) | {
    "sech_squared": 8, "erfc": 8, "lgamma": 8, "logaddexp": 16, "polygamma": 256,
}
ATTRIBUTES = {("n",): {"n": 2}}
EXPONENTS = (0.0, 3.0, 4.0, -1.0, -2.0, -3.0, 5.0, 0.25, 1.5, -0.5)
# zeta at negative q cancels to nothing: test_special compares it where it is defined
FLOAT_ROWS = [n for n in oc.VM_ROWS if not n.startswith("logical") and n not in ("where", "power_scalar", "zeta")]


def special(dtype: DType) -> Array:
    tiny = np.finfo(dtype)
    return np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, tiny.tiny, -tiny.tiny, tiny.smallest_subnormal, tiny.max, -tiny.max,
         1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -2.0, 1e-20, 1e20, 88.0, -104.0, np.pi, 1e5,
         710.0 if dtype == FLOAT64 else 89.0], dtype)


def values(dtype: DType, arity: int) -> list[Array]:
    """All tuples of special values, then random ones of many magnitudes."""
    rng = np.random.default_rng(3)
    grid = np.meshgrid(*[special(dtype)] * min(arity, 2))
    columns = [g.ravel() for g in grid] + [np.roll(grid[0].ravel(), 5)] * (arity == 3)
    size = 1000
    noise = [rng.normal(size=size) * 10.0 ** rng.integers(-4, 3, size) for _ in range(arity)]
    return [np.concatenate([c, n.astype(dtype)]) for c, n in zip(columns, noise, strict=True)]


def both_tiers(inputs: list[Node], output: Node, arrays: list[Array]) -> tuple[Array, Array]:
    program = build_program(inputs, [output], tier="vm")
    assert program.tier == "vm"
    assert program.fallbacks == ()
    return program.run(arrays)[0], build_program(inputs, [output], tier="reference").run(arrays)[0]


def assert_within(got: Array, want: Array, ulp: int) -> None:
    assert got.dtype == want.dtype
    if got.dtype.kind == "b":
        np.testing.assert_array_equal(got, want)
        return
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    # below the normal range an ulp is that of the smallest normal number's
    magnitude = np.minimum(np.abs(want[finite]), np.finfo(want.dtype).max / 2)
    unit = np.maximum(np.spacing(magnitude), np.finfo(want.dtype).smallest_subnormal)
    error = np.abs(got[finite].astype(np.longdouble) - want[finite]) / unit
    assert (error <= ulp).all(), f"{error.max()} ulp"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FLOAT_ROWS)
def test_row_agrees_with_numpy(name: str, dtype: DType) -> None:
    arity = oc.VM_ROWS[name].arity
    assert arity is not None
    arrays, builder = values(dtype, arity), Builder()
    inputs = [builder.input(f"x{k}", a.shape, dtype) for k, a in enumerate(arrays)]
    output = apply(name, *inputs, **ATTRIBUTES.get(oc.VM_ROWS[name].attrs, {}))
    got, want = both_tiers(inputs, output, arrays)
    assert_within(got, want, ULP.get(name, 4))
    if name in EXACT:
        np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(want[~np.isnan(want)]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("exponent", EXPONENTS)
def test_constant_power_agrees_with_numpy(exponent: float, dtype: DType) -> None:
    (array,), builder = values(dtype, 1), Builder()
    x = builder.input("x", array.shape, dtype)
    got, want = both_tiers([x], apply("power_scalar", x, exponent=exponent), [array])
    assert_within(got, want, 4)


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor", "equal", "less", "maximum"])
def test_booleans_are_booleans(name: str) -> None:
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    builder = Builder()
    x, y = builder.input("x", (4,), a.dtype), builder.input("y", (4,), a.dtype)
    got, want = both_tiers([x, y], apply(name, x, y), [a, b])
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_where_lets_nothing_through_from_the_other_branch(dtype: DType) -> None:
    condition = np.array([True, False] * 300)
    a, b = np.full(600, 1.5, dtype), np.full(600, np.nan, dtype)
    builder = Builder()
    c, x, y = (builder.input(n, (600,), d) for n, d in (("c", condition.dtype), ("x", dtype), ("y", dtype)))
    got, want = both_tiers([c, x, y], apply("where", c, x, y), [condition, a, b])
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 255, 256, 257, 5000])
def test_full_sum(size: int) -> None:
    x = np.random.default_rng(size).normal(size=size)
    builder = Builder()
    node = builder.input("x", (size,), FLOAT64)
    got, _ = both_tiers([node], apply("sum", apply("square", node)), [x])
    assert got == pytest.approx(math.fsum(x * x), rel=1e-14)


def test_float32_sums_do_not_drift() -> None:
    builder = Builder()
    node = builder.input("x", (1_000_000,), FLOAT32)
    got, _ = both_tiers([node], apply("sum", apply("square", node)), [np.full(1_000_000, 0.1, np.float32)])
    assert got == pytest.approx(1_000_000 * float(np.float32(0.1)) ** 2, rel=1e-6)


@pytest.mark.parametrize("axis", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 300, 3), (300, 1, 7), (5, 2, 600), (1, 1, 1)], ids=str)
def test_sum_over_axes(shape: tuple[int, ...], axis: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    builder = Builder()
    node = builder.input("x", shape, FLOAT64)
    got, _ = both_tiers([node], apply("sum", node * 2.0, axis=axis), [x])
    np.testing.assert_allclose(got, (x * 2.0).sum(axis), rtol=1e-13, atol=1e-13)


# ---- the verifier -----------------------------------------------------------------------------------------------
def sample() -> tuple[Array, list[int], int]:
    """A region with a load, a broadcast load, a constant, a bound store, a strided store and a sum."""
    builder = Builder()
    x, y = builder.input("x", (4, 300), FLOAT64), builder.input("y", (300,), FLOAT64)
    z = apply("sin", x) * apply("broadcast_to", y, shape=(4, 300)) + 2.0
    cut = Cut([z, apply("permute_dims", apply("exp", z)), apply("sum", z, axis=(0,))])
    (region,) = cut.steps
    assert isinstance(region, Region)
    nodes = sorted(cut.kept, key=lambda n: n.number)
    emitted = emit(region, cut, {n: k for k, n in enumerate(nodes)})
    return table(emitted), [n.size * 8 for n in nodes], emitted.scratch_bytes()


def instructions(words: Array) -> range:
    start = oc.HEADER + int(words[oc.RANK])
    return range(start, start + oc.WIDTH * int(words[oc.CODE_COUNT]), oc.WIDTH)


def first(words: Array, opcode: int) -> int:
    return next(k for k in instructions(words) if words[k] == opcode)


def rows_at(words: Array) -> int:
    return int(words[oc.ADDRESSES_AT]) // 8


BREAKAGES: dict[str, Any] = {
    "opcode": lambda w: (first(w, oc.CONST), oc.COUNT),
    "negative opcode": lambda w: (first(w, oc.CONST), -1),
    "register": lambda w: (first(w, oc.OPCODES["sin"]) + 2, 99),
    "negative register": lambda w: (first(w, oc.OPCODES["sin"]) + 2, -1),
    "destination": lambda w: (first(w, oc.OPCODES["sin"]) + 1, 99),
    "destination is an input": lambda w: (first(w, oc.OPCODES["sin"]) + 1, int(w[first(w, oc.LOAD) + 1])),
    "constant without storage": lambda w: (first(w, oc.CONST) + 1, int(w[oc.POOL])),
    "address": lambda w: (first(w, oc.LOAD) + 2, 99),
    "partial sum": lambda w: (first(w, oc.ACCUMULATE) + 4, 99),
    "buffer": lambda w: (rows_at(w), 99),
    "offset": lambda w: (rows_at(w) + 1, 8),
    "negative offset": lambda w: (rows_at(w) + 1, -8),
    "misaligned": lambda w: (rows_at(w) + 1, 4),
    "inner step": lambda w: (rows_at(w) + 2, 5),
    "negative step": lambda w: (rows_at(w) + 2, -1),
    "outer stride": lambda w: (rows_at(w) + 3, 1 << 20),
    "length": lambda w: (oc.INNER, 100_000),
    "no length": lambda w: (oc.INNER, 0),
    "block": lambda w: (oc.BLOCK, 0),
    "rank": lambda w: (oc.RANK, 7),
    "count": lambda w: (oc.CODE_COUNT, 1000),
    "prologue": lambda w: (oc.PROLOGUE, 1000),
    "prologue sets pointers": lambda w: (oc.PROLOGUE, int(w[oc.CODE_COUNT])),
    "pool": lambda w: (oc.POOL, 1000),
    "scratch": lambda w: (oc.PARTIALS, 1 << 20),
    "code section": lambda w: (oc.CODE_AT, 8),
}


def test_verifier_accepts_what_is_emitted() -> None:
    words, lengths, scratch = sample()
    verify(words, lengths, 8, scratch)


@pytest.mark.parametrize("what", BREAKAGES)
def test_verifier_refuses(what: str) -> None:
    words, lengths, scratch = sample()
    position, value = BREAKAGES[what](words)
    words[position] = value
    with pytest.raises(StateError, match="refused"):
        verify(words, lengths, 8, scratch)


def test_verifier_refuses_a_short_table_and_a_short_buffer() -> None:
    words, lengths, scratch = sample()
    for broken, sizes in ((words[:-1], lengths), (words[:3], lengths), (words, [n - 8 for n in lengths])):
        with pytest.raises(StateError, match="refused"):
            verify(broken, sizes, 8, scratch)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["exp", "log", "sin", "tanh", "softplus", "sigmoid", "sech_squared"])
def test_a_value_does_not_depend_on_its_position(name: str, dtype: DType) -> None:
    array = np.abs(np.random.default_rng(7).normal(size=600)).astype(dtype)
    builder = Builder()
    whole = builder.input("x", (600,), dtype)
    want, _ = both_tiers([whole], apply(name, whole), [array])
    for start, count in ((0, 1), (1, 3), (5, 7), (250, 13), (300, 257)):
        x = builder.input("x", (count,), dtype)
        got, _ = both_tiers([x], apply(name, x), [array[start:start + count]])
        np.testing.assert_array_equal(got, want[start:start + count])


def test_kernels_are_compiled_without_contraction() -> None:
    # a * b + c rounds twice, as in NumPy
    kernels.load(("float64",))
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(size=(3, 4096))
    builder = Builder()
    x, y, z = (builder.input(n, (4096,), FLOAT64) for n in "xyz")
    got, _ = both_tiers([x, y, z], x * y + z, [a, b, c])
    np.testing.assert_array_equal(got, a * b + c)

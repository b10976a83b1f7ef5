"""Sums of scatters: added into one memory, by regions, with the values that adding arrays would have."""

from __future__ import annotations

import numpy as np
import pytest

from hesse_engine.backend.lower import CallStep, Lowered, RegionStep, ZeroStep
from hesse_engine.backend.program import Program, build_program
from hesse_engine.ir.graph import FLOAT64, Array, Builder, Node, apply
from hesse_engine.structure.scattering import merged_sums


def lowered(program: Program) -> Lowered:
    found = program._lower()
    assert found is not None
    return found


class Terms:
    """Random scatters into arrays of one shape."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self.rng, self.shape = np.random.default_rng(seed), shape
        self.builder = Builder()
        self.inputs: list[Node] = []

    def operand(self, shape: tuple[int, ...]) -> Node:
        x = self.builder.input(f"x{len(self.inputs)}", shape, FLOAT64)
        self.inputs.append(x)
        return apply("sin", x) if self.rng.random() < 0.7 else x

    def unslice(self) -> Node:
        start, step, count = [], [], []
        for length in self.shape:
            d = int(self.rng.choice([1, 1, 1, 2, -1]))
            c = int(self.rng.integers(1, (length - 1) // abs(d) + 2))
            room = length - 1 - abs(d) * (c - 1)
            s = int(self.rng.integers(0, room + 1)) + (abs(d) * (c - 1) if d < 0 else 0)
            start.append(s)
            step.append(d)
            count.append(c)
        return apply("unslice", self.operand(tuple(count)), shape=self.shape, start=start, step=step)

    def scatter(self) -> Node:
        index = self.rng.integers(-self.shape[0], self.shape[0], 9)
        return apply("scatter_add", self.operand((9, *self.shape[1:])), self.builder.constant(index), axis=0,
                     size=self.shape[0])

    def term(self) -> Node:
        return self.unslice() if self.rng.random() < 0.7 else self.scatter()

    def arrays(self) -> list[Array]:
        return [self.rng.normal(size=n.shape) for n in self.inputs]


@pytest.mark.parametrize("shape", [(40,), (7, 300), (300, 5), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("seed", range(10))
def test_random_sums_of_scatters(seed: int, shape: tuple[int, ...]) -> None:
    terms = Terms(seed, shape)
    total = terms.term()
    for _ in range(seed % 4):
        total = total + terms.term() if seed % 2 else terms.term() + total
    other = terms.term() + terms.term()
    turned = apply("permute_dims", other, axes=list(range(len(shape)))[::-1])
    outputs = [total, total * 2.0 + other, apply("sum", other), turned]
    program = build_program(terms.inputs, outputs, tier="vm", threads=1 + seed % 2)
    assert not [s for s in lowered(program).steps if isinstance(s, CallStep)]
    arrays = terms.arrays()
    want = build_program(terms.inputs, outputs, tier="reference").run(arrays)
    for _ in range(2):
        for got, wanted in zip(program.run(arrays), want, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-13)


def test_a_term_that_is_wanted_itself_keeps_its_own_memory() -> None:
    x = Builder().input("x", (5,), FLOAT64)
    a, b = (apply("unslice", x * k, shape=(8,), start=[int(k)]) for k in (1.0, 2.0))
    total = a + b
    program = build_program([x], [a, total, a * 3.0], tier="vm")
    array = np.arange(5.0)
    want = [np.zeros(8), np.zeros(8)]
    want[0][1:6] = array
    want[1][2:7] = 2 * array
    for got, wanted in zip(program.run([array]), [want[0], want[0] + want[1], 3 * want[0]], strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert merged_sums([x, *a.args, a, *b.args, b, total], [a, total]) == {a: a, b: b}


def test_a_sum_of_shifted_arrays_is_one_pass() -> None:
    """One region that stores the leading term and adds the other; only what the first does not reach starts as zero."""
    n = 1000
    x = Builder().input("x", (n,), FLOAT64)
    low, high = (apply("slice", x, start=[k], step=[1], count=[n - 1]) for k in (0, 1))
    total = apply("unslice", low * high, shape=(n,), start=[1]) + apply("unslice", low - high, shape=(n,), start=[0])
    steps = lowered(build_program([x], [total], tier="vm")).steps
    assert [type(s) for s in steps] == [ZeroStep, RegionStep]
    assert isinstance(steps[0], ZeroStep)
    assert steps[0].spans == ((0, 1), (n, n))

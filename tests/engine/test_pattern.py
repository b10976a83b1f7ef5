"""Patterns: never too few entries, and no more than algebra forces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import cutest
import hesse.numpy as hnp
from graphs import graph_of, op
from hesse_engine.backend.compressed import tight_hessian_pattern
from hesse_engine.compute import Options, pose
from hesse_engine.derivatives import DERIVATIVES, Problem
from hesse_engine.frontends.trace import Trace
from hesse_engine.ir.graph import Array, Graph, Node
from hesse_engine.structure.dependence import Dependence
from hesse_engine.structure.identities import PRIMES, _Field
from hesse_engine.structure.pattern import Pattern, dense_pattern, from_keys, hessian_pattern, jacobian_pattern
from hesse_engine.structure.pushing import second_differential
from hesse_engine.structure.sets import IndexSets
from hesse_engine.structure.sinking import sink
from orders import forward_over_reverse, jacobian_forward
from random_graphs import RandomGraph

RNG = np.random.default_rng(11)


def traced(f: Callable[[Any], Any], n: int) -> Graph:
    trace = Trace("numpy")
    x = trace.input(np.ones(n), "x")
    return trace.graph([f(x)], [x])


def posed(graph: Graph, operation: str = "hessian", **options: Any) -> Problem:
    return pose(graph, DERIVATIVES[operation], Options(**options))


def covers(pattern: Pattern | None, matrix: Array, tolerance: float = 0.0) -> None:
    """Every entry that is not 0 is in the pattern."""
    assert pattern is not None
    assert pattern.shape == matrix.shape
    scale = float(np.max(np.abs(matrix), initial=0.0, where=np.isfinite(matrix)))
    missed = ~pattern.to_dense() & ~(np.abs(matrix) <= tolerance * scale)
    assert not missed.any(), np.argwhere(missed)[:5]


def is_well_formed(pattern: Pattern) -> None:
    assert pattern.indptr.dtype == pattern.indices.dtype == np.int32
    assert pattern.indptr[0] == 0 and pattern.indptr[-1] == pattern.nnz
    for row in range(pattern.shape[0]):
        columns = pattern.indices[pattern.indptr[row]:pattern.indptr[row + 1]]
        assert (np.diff(columns) > 0).all()


# ---- CUTEst ----------------------------------------------------------------------------------------------------------
def true_pattern(f: Callable[..., Any], n: int) -> Array:
    """Where JAX's Hessian is not 0, to rounding, at any of five random points."""
    jax = pytest.importorskip("jax", reason="JAX is the oracle here")
    jax.config.update("jax_enable_x64", True)
    hessian = jax.jit(jax.hessian(lambda x: f(jax.numpy, x)))
    found = [np.asarray(hessian(RNG.normal(size=n))) for _ in range(5)]
    return np.any([np.abs(h) > 1e-13 * np.abs(h).max() for h in found], axis=0)


@pytest.mark.parametrize("name", cutest.HESSIANS)
def test_nothing_is_over_estimated(name: str) -> None:
    f, n = cutest.HESSIANS[name]
    found = tight_hessian_pattern(posed(traced(lambda x: f(hnp, x), n)))
    assert found is not None
    is_well_formed(found)
    np.testing.assert_array_equal(found.to_dense(), true_pattern(f, n))


PROPAGATED = {  # entries found without looking for cancellation; true ones
    "ARGLINA": (1600, 40), "ARGLINA, by matrix": (576, 24), "VANDANMSLS": (16, 16), "HEART6LS": (36, 34),
    "ALLINITU": (16, 16), "COOLHANSLS": (81, 81), "GENROSE": (88, 88), "BROYDN3DLS": (94, 94),
    "TENBARS-like": (24, 12), "TRO-like": (40, 40),
}


@pytest.mark.parametrize("name", cutest.HESSIANS)
def test_propagation_alone_finds_a_superset_that_is_known(name: str) -> None:
    f, n = cutest.HESSIANS[name]
    problem = posed(traced(lambda x: f(hnp, x), n))
    found = hessian_pattern(problem.outputs[0], problem.wrt)
    assert found is not None
    exact = true_pattern(f, n)
    assert not (exact & ~found.to_dense()).any()
    assert (found.nnz, int(exact.sum())) == PROPAGATED[name]


def test_columns_of_hadamard_meet_in_pairs() -> None:
    f, n = cutest.JACOBIANS["HADAMARD"]
    graph = traced(lambda x: f(hnp, x), n)
    found = jacobian_pattern(graph.outputs, graph.inputs)
    jax = pytest.importorskip("jax", reason="JAX is the oracle here")
    exact = np.asarray(jax.jacobian(lambda x: f(jax.numpy, x))(RNG.normal(size=n))) != 0
    assert found is not None
    is_well_formed(found)
    np.testing.assert_array_equal(found.to_dense(), exact)


# ---- rule by rule ----------------------------------------------------------------------------------------------------
def part(x: Node, start: int, count: int, step: int = 1) -> Node:
    return op("slice", x, start=[start], count=[count], step=[step])


ZEROS = np.array([[1.0, 0.0, 0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0, 0.0, 0.0]])
MASK = np.array([True, False, True, False, False, True])


def matrix(x: Node, *shape: int) -> Node:
    return op("reshape", x, shape=shape)


def definite(x: Node) -> Node:
    """Three symmetric positive definite 2 x 2 matrices, each made of two of the six variables."""
    lower = matrix(x, 3, 2, 1) * op("broadcast_to", x.builder.constant(np.ones((1, 1, 2))), shape=(3, 2, 2))
    return op("einsum", lower, lower, subscripts="bij,bkj->bik") + x.builder.constant(np.eye(2))


# f on six variables, and the entries that its Hessian can have
ENTRIES: dict[str, tuple[Callable[[Node], Node], list[tuple[int, int]]]] = {
    "linear": (lambda x: op("sum", 3.0 * x), []),
    "separable": (lambda x: op("sum", op("exp", x)), [(k, k) for k in range(6)]),
    "live elements only": (lambda x: op("sum", part(op("exp", x), 1, 2)), [(1, 1), (2, 2)]),
    "reversed": (lambda x: op("sum", x * op("flip", x)), [(k, 5 - k) for k in range(6)]),
    "constant zeros": (lambda x: op("sum", op("square", op("matmul", x.builder.constant(ZEROS), x))),
                       [(0, 0), (0, 3), (3, 3), (2, 2)]),
    "masked by a constant": (lambda x: op("sum", op("where", x.builder.constant(MASK), op("sin", x), x)),
                             [(0, 0), (2, 2), (5, 5)]),
    "times zeros": (lambda x: op("sum", op("cos", x * x.builder.constant(MASK * 1.0))), [(0, 0), (2, 2), (5, 5)]),
    "gathered": (lambda x: op("prod", op("take", x, np.array([4, 1, 4]))), [(4, 4), (1, 4)]),
    "scattered": (lambda x: op("sum", op("exp", op("scatter_add", x, np.array([0, 1, 2, 0, 1, 2]), size=3))),
                  [(k, k) for k in range(6)] + [(0, 3), (1, 4), (2, 5)]),
    "placed": (lambda x: op("sum", op("sin", op("unslice", part(x, 1, 2), shape=[9], start=[3], step=[4]))),
               [(1, 1), (2, 2)]),
    "joined": (lambda x: op("sum", op("tanh", op("concat", part(x, 0, 1), x.builder.constant([1.0]), part(x, 5, 1)))),
               [(0, 0), (5, 5)]),
    "extremum": (lambda x: op("square", op("max", part(x, 0, 2))), [(0, 0), (0, 1), (1, 1)]),
    "extremum alone is linear": (lambda x: op("max", x), []),
    "kinks have no curvature": (lambda x: op("sum", op("abs", x) + op("maximum", x, 2.0 * x) + op("sign", x)), []),
    "quotient": (lambda x: op("sum", part(x, 0, 1) / part(x, 3, 1)), [(0, 3), (3, 3)]),
    "cut": (lambda x: op("sum", op("stop_gradient", x) * x), []),
    "product of matrices": (lambda x: op("sum", op("matmul", matrix(part(x, 0, 4), 2, 2), part(x, 4, 2))),
                            [(0, 4), (1, 5), (2, 4), (3, 5)]),
    "first prefix sums": (lambda x: op("square", op("sum", part(op("cumulative_sum", x), 0, 2))),
                          [(0, 0), (0, 1), (1, 1)]),
    "matrices apart": (lambda x: op("sum", op("logabsdet", definite(x))),
                       [(k, k) for k in range(6)] + [(0, 1), (2, 3), (4, 5)]),
    "first of the matrices": (lambda x: op("sum", op("slice", op("cholesky", definite(x)), start=[0, 0, 0],
                                                     count=[1, 2, 2])), [(0, 0), (0, 1), (1, 1)]),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_are_those_of_the_rule(name: str) -> None:
    f, entries = ENTRIES[name]
    graph = graph_of(f, (6,))
    found = hessian_pattern(graph.outputs[0], graph.inputs)
    wanted = np.zeros((6, 6), bool)
    for i, j in entries:
        wanted[i, j] = wanted[j, i] = True
    assert found is not None
    np.testing.assert_array_equal(found.to_dense(), wanted)
    values = forward_over_reverse(graph.outputs[0], graph.inputs, {graph.inputs[0]: RNG.uniform(0.2, 1.0, 6)})
    covers(found, values)


def test_an_index_that_is_computed_reaches_the_whole_axis() -> None:
    f = lambda x, k: op("sum", op("exp", op("take", op("reshape", x, shape=(3, 2)), k)))  # noqa: E731
    graph = graph_of(f, (6,), (1,), dtypes=[np.dtype(np.float64), np.dtype(np.int64)])
    found = hessian_pattern(graph.outputs[0], graph.inputs[:1])
    assert found is not None
    np.testing.assert_array_equal(found.to_dense(), np.add.outer(np.arange(6), np.arange(6)) % 2 == 0)


def test_inputs_count_one_after_the_other() -> None:
    graph = graph_of(lambda a, b: op("sum", a * op("square", b)), (3,), (3,))
    found = hessian_pattern(graph.outputs[0], graph.inputs)
    assert found is not None
    assert set(zip(found.rows.tolist(), found.indices.tolist(), strict=True)) == {
        *[(k, k + 3) for k in range(3)], *[(k + 3, k) for k in range(3)], *[(k, k) for k in range(3, 6)]}


# ---- entries that cancel ---------------------------------------------------------------------------------------------
IDENTITIES: dict[str, tuple[Callable[[Any, Any], Any], list[tuple[int, int]]]] = {
    # f(a, b) as traced, and the entries that are left
    "commuted": (lambda a, b: hnp.exp(a * b) - hnp.exp(b * a), []),
    "binomial": (lambda a, b: (a + b) ** 2 - a * a - 2.0 * a * b - b**2, []),
    "reduced fraction": (lambda a, b: (a * b + b) / b, []),
    "powers": (lambda a, b: a**3 * b - a * (a * a) * b + b**2, [(1, 1)]),
    "decimal constants": (lambda a, b: 0.1 * a * (3.0 * b) - 0.3 * a * b + 7.25e-9 * a**2, [(0, 0)]),
    "branches that agree, for all that is known": (lambda a, b: hnp.where(a > b, a * b, b * a) - a * b, [(0, 1)]),
    "branches that do not": (lambda a, b: hnp.where(a > b, a * b, b) - a * b, [(0, 1)]),
    "one branch": (lambda a, b: hnp.where(a > b, a * a, b), [(0, 0)]),
    "functions of their own": (lambda a, b: hnp.sin(a) * b - hnp.cos(a) * b, [(0, 0), (0, 1)]),
    "by derivatives alone": (lambda a, b: hnp.sin(a) ** 2 + hnp.cos(a) ** 2 + hnp.log(hnp.exp(b)), []),
    "no addition theorem": (lambda a, b: hnp.sin(2.0 * a) - 2.0 * hnp.sin(a) * hnp.cos(a) + b, [(0, 0)]),
    "sums": (lambda a, b: hnp.sum(hnp.stack([a, b])) ** 2 - (a + b) ** 2 + a**4, [(0, 0)]),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_what_cancels_is_found_and_nothing_else(name: str) -> None:
    f, entries = IDENTITIES[name]
    found = tight_hessian_pattern(posed(traced(lambda x: f(x[0], x[1]), 2)))
    assert found is not None
    wanted = np.zeros((2, 2), bool)
    for i, j in entries:
        wanted[i, j] = wanted[j, i] = True
    np.testing.assert_array_equal(found.to_dense(), wanted)


@pytest.mark.parametrize(("value", "top", "bottom"), [
    (0.1, 1, 10), (-0.3, -3, 10), (2.0 / 3.0, 2, 3), (0.005, 1, 200), (1e-9, 1, 10**9), (0.5, 1, 2), (3.0, 3, 1),
    (0.0, 0, 1), (-21.75, -87, 4), (1e20, 10**20, 1), (2.0**-80, 1, 2**80), (np.pi, 884279719003555, 2**48),
])
def test_constants_stand_for_simple_fractions(value: float, top: int, bottom: int) -> None:
    for prime in PRIMES:
        found = int(_Field(prime).lifted(np.array([value, 1.0]))[0])
        if bottom == 10**9:  # no such fraction is looked for: exact
            top, bottom = value.as_integer_ratio()
        assert found * bottom % prime == top % prime


# ---- random graphs ---------------------------------------------------------------------------------------------------
def random_scalar(seed: int, sizes: tuple[int, ...] = (1, 2, 3, 4)) -> tuple[Node, list[Node], dict[Node, Array]]:
    """The sum of a random graph's outputs, its floating inputs, and values for all inputs."""
    drawn = RandomGraph(seed, steps=25, sizes=sizes)
    wrt = [n for n in drawn.inputs if n.is_floating]
    assume(max([n.size for n in drawn.nodes]) <= 2000)
    total: Node | None = None
    for y in drawn.outputs:
        if y.is_floating:
            s = op("sum", op("square", op("tanh", y)) * 0.5 + y)
            total = s if total is None else total + s
    assume(total is not None)
    assert total is not None
    return total, wrt, dict(zip(drawn.inputs, drawn.arrays(), strict=True))


@given(st.integers(0, 10_000))
def test_hessians_of_random_graphs_are_covered(seed: int) -> None:
    total, wrt, values = random_scalar(seed)
    with np.errstate(all="ignore"):
        exact = forward_over_reverse(total, wrt, values)
    found = hessian_pattern(total, wrt)
    assert found is not None
    is_well_formed(found)
    np.testing.assert_array_equal(found.to_dense(), found.to_dense().T)
    covers(found, np.nan_to_num(exact, nan=0.0, posinf=0.0, neginf=0.0))
    form = second_differential(sink(total, wrt), wrt)
    if form is not None:
        covers(hessian_pattern(total, wrt, form), np.nan_to_num(exact, nan=0.0, posinf=0.0, neginf=0.0))


@given(st.integers(0, 10_000))
def test_jacobians_of_random_graphs_are_covered(seed: int) -> None:
    drawn = RandomGraph(seed, steps=25, sizes=(1, 2, 3, 4))
    wrt = [n for n in drawn.inputs if n.is_floating]
    outputs = [y for y in drawn.outputs if y.is_floating and y.size <= 500]
    assume(outputs)
    found = jacobian_pattern(outputs, wrt)
    assert found is not None
    is_well_formed(found)
    values = dict(zip(drawn.inputs, drawn.arrays(), strict=True))
    with np.errstate(all="ignore"):
        exact = np.concatenate([jacobian_forward(y, wrt, values) for y in outputs])
    covers(found, np.nan_to_num(exact, nan=0.0, posinf=0.0, neginf=0.0))


@given(st.integers(0, 10_000))
def test_what_is_dropped_as_cancelled_is_zero(seed: int) -> None:
    total, wrt, values = random_scalar(seed, (1, 2, 3))
    graph = Graph(tuple(values), (total,))
    positions = tuple([k for k, n in enumerate(graph.inputs) if n.is_floating])
    found = tight_hessian_pattern(posed(graph, argnums=positions))
    with np.errstate(all="ignore"):
        exact = forward_over_reverse(total, wrt, values)
    covers(found, np.nan_to_num(exact, nan=0.0, posinf=0.0, neginf=0.0), 1e-11)


# ---- sets ------------------------------------------------------------------------------------------------------------
@given(st.lists(st.lists(st.integers(0, 8), max_size=6), min_size=1, max_size=8), st.integers(1, 4))
def test_unions_are_those_of_sets(rows: list[list[int]], count: int) -> None:
    sets = IndexSets(9)
    numbers = np.array([sets.add(np.array(r, np.int64) + 1) for r in rows])
    groups = np.arange(len(rows)) % count
    united = sets.unions(groups, numbers, count)
    for k in range(count):
        wanted = set().union(*[set(r) for i, r in enumerate(rows) if i % count == k])
        assert sets.expand(united[k:k + 1])[1].tolist() == sorted(wanted)
    merged = sets.merge(numbers, numbers[::-1].copy())
    for k, r in enumerate(rows):
        assert sets.expand(merged[k:k + 1])[1].tolist() == sorted({*r, *rows[-1 - k]})


def test_equal_sets_that_come_together_are_stored_once() -> None:
    n = 50
    graph = graph_of(lambda x: op("exp", op("broadcast_to", op("sum", op("sin", x)), shape=(n,))) * x, (n,))
    known = Dependence(graph.outputs, graph.inputs)
    broadcast = next(n for n in known.order if n.op == "broadcast_to" and n in known.active)
    assert len(np.unique(known.of(broadcast))) == 1


def test_too_many_entries_are_replaced_by_fewer_larger_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hesse_engine.structure.sets.MAX_ENTRIES", 40)
    graph = graph_of(lambda x: op("sum", op("exp", part(x, 1, 29) * part(x, 0, 29))), (30,))
    found = hessian_pattern(graph.outputs[0], graph.inputs)
    assert found is not None
    covers(found, forward_over_reverse(graph.outputs[0], graph.inputs, {graph.inputs[0]: RNG.normal(size=30)}))
    assert found.nnz == 900


def test_keys_and_marks_give_the_same_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(lambda x: op("sum", op("sin", part(x, 2, 38)) * part(x, 0, 38) * part(x, 1, 38)), (40,))
    marked = hessian_pattern(graph.outputs[0], graph.inputs)
    monkeypatch.setattr("hesse_engine.structure.pattern.BITMAP", 0)
    sorted_ = hessian_pattern(graph.outputs[0], graph.inputs)
    assert marked is not None and sorted_ is not None
    np.testing.assert_array_equal(marked.to_dense(), sorted_.to_dense())
    assert marked.nnz == 40 + 2 * 39 + 2 * 38 - 2  # x_0 and x_1 are linear: their squares are not among the entries


def test_a_pattern_and_its_transpose() -> None:
    marks = RNG.random((5, 8)) < 0.4
    pattern = from_keys(np.flatnonzero(marks), (5, 8))
    is_well_formed(pattern)
    np.testing.assert_array_equal(pattern.to_dense(), marks)
    np.testing.assert_array_equal(pattern.transposed().to_dense(), marks.T)
    assert dense_pattern((3, 4)).to_dense().all()


def test_one_matrix_makes_all_of_its_entries_interact() -> None:
    """A determinant of a single matrix has no axes left, and yet depends on the whole of it."""
    graph = graph_of(lambda x: op("logabsdet", x), (2, 2))
    pattern = hessian_pattern(graph.outputs[0], graph.inputs)
    assert pattern is not None
    assert pattern.to_dense().all()

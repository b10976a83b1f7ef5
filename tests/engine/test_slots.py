"""Layouts of directly assembled Hessians, against the dense result of sweeps; and where their entries are put."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphs import graph_of, op
from hesse_engine.backend.direct import DirectProgram
from hesse_engine.backend.symmetry import add_transpose
from hesse_engine.compute import Options, Prepared, compute, prepare
from hesse_engine.errors import InputError, LimitError
from hesse_engine.ir.graph import FLOAT64, Array, Builder, Graph, Node, apply
from hesse_engine.structure.contributions import affine, contributions
from hesse_engine.structure.images import IndexImage
from hesse_engine.structure.periodic import LONG, periodic
from hesse_engine.structure.pushing import second_differential
from hesse_engine.structure.sinking import sink
from hesse_engine.structure.slots import LAYOUTS

RNG = np.random.default_rng(11)
DATA, WIDE = RNG.normal(size=(40, 12)), RNG.normal(size=(5, 12))
PAIRS = np.triu_indices(9, 1)
BONDS = RNG.integers(0, 30, size=(2, 90))
CHAIN = (np.arange(3000), np.arange(1, 3001))


def const(x: Node, value: Any) -> Node:
    return x.builder.constant(value)


def part(x: Node, start: int, stop: int, step: int = 1) -> Node:
    return op("slice", x, start=(start,), step=(step,), count=(len(range(start, stop, step)),))


def rosenbrock(x: Node) -> Node:
    n = x.size
    return op("sum", 100.0 * op("square", part(x, 1, n) - op("square", part(x, 0, n - 1)))
              + op("square", 1.0 - part(x, 0, n - 1)))


def cragglvy(x: Node) -> Node:
    n = x.size
    a, b, c, d = part(x, 0, n - 3, 2), part(x, 1, n - 2, 2), part(x, 2, n - 1, 2), part(x, 3, n, 2)
    return op("sum", op("square", op("square", op("exp", a) - b)) + op("power_scalar", b - c, exponent=6.0)
              + op("square", op("tan", c - d) + c - d) + op("power_scalar", a, exponent=8.0) + op("square", d - 1.0))


def uneven(x: Node) -> Node:
    """Diagonals that begin and end at different rows, and a few entries off them."""
    n = x.size
    return (op("sum", op("sin", part(x, 0, n - 2) * part(x, 2, n))) + op("sum", op("exp", part(x, 3, n - 40)))
            + op("sum", part(x, 10, 20) * part(x, 17, 27)) + op("sum", op("square", part(x, 5, 6) * part(x, n - 1, n))))


def pairwise(p: Node) -> Node:
    d = op("reshape", p, shape=(9, 1, 3)) - op("reshape", p, shape=(1, 9, 3))
    return op("sum", op("sqrt", op("sum", d * d, axis=-1) + 0.1))


def gathered(index: Any) -> Callable[[Node], Node]:
    def energy(p: Node) -> Node:
        d = op("take", p, index[0]) - op("take", p, index[1])
        return op("sum", op("sqrt", op("sum", d * d, axis=-1) + 0.1))

    return energy


def chain(p: Node) -> Node:
    return gathered(CHAIN)(p)


def logistic(w: Node) -> Node:
    z = op("matmul", const(w, DATA), w)
    return op("sum", op("softplus", z)) + op("sum", op("exp", part(w, 0, 3)))


def two_products(w: Node) -> Node:
    return (op("sum", op("softplus", op("matmul", const(w, DATA), w)))
            + op("sum", op("exp", op("matmul", const(w, WIDE), w)) * part(w, 0, 5)))


def norm(x: Node) -> Node:
    return op("sqrt", op("mean", op("square", x))) + op("log", op("sum", op("exp", x)))


def separable(x: Node) -> Node:
    """Steps of 2, but no full 2 x 2 blocks: a pattern in blocks would hold too much."""
    return op("sum", op("sin", part(x, 0, 20, 2))) + op("sum", op("exp", part(x, 1, 20, 2)))


def quadratic(x: Node) -> Node:
    matrix = RNG.normal(size=(12, 12))
    return op("sum", x * op("matmul", const(x, matrix), x)) + op("sum", op("square", x))


def low_rank(p: Node) -> Node:
    u, v = (op("reshape", part(p, k, k + 12), shape=(4, 3)) for k in (0, 12))
    return op("sum", op("square", 1.0 - op("matmul", u, op("permute_dims", v, axes=(1, 0)))))


def factorized(p: Node) -> Node:
    """Too many factors to be written out: the products are eliminated whole."""
    u, v = (op("reshape", part(p, k, k + 4 * 11), shape=(4, 11)) for k in (0, 44))
    product = op("matmul", u, op("permute_dims", v, axes=(1, 0)))
    return op("sum", op("square", 1.0 - product)) + op("sum", op("sin", u * v)) + op("sum", op("exp", 0.1 * product))


def own_product(p: Node) -> Node:
    """u u' of one array, in a batch."""
    u = op("reshape", p, shape=(2, 3, 9))
    return op("sum", op("tanh", op("matmul", u, op("permute_dims", u, axes=(0, 2, 1)))))


def gather_of_gather(x: Node) -> Node:
    first = op("take", op("square", x), np.array([0, 3, 3, 5, 1]))
    return op("sum", op("sin", op("take", first, np.array([1, 2, 4, 4])) * op("take", x, np.array([-1, 0, 0, 2]))))


CASES: dict[str, tuple[Callable[[Node], Node], tuple[int, ...]]] = {
    "rosenbrock": (rosenbrock, (30,)),
    "rosenbrock of two": (rosenbrock, (2,)),
    "cragglvy": (cragglvy, (24,)),
    "uneven": (uneven, (100,)),
    "pairwise": (pairwise, (9, 3)),
    "gathered pairs": (gathered(PAIRS), (9, 3)),
    "springs": (gathered(BONDS), (30, 3)),
    "logistic": (logistic, (12,)),
    "two products": (two_products, (12,)),
    "norm": (norm, (20,)),
    "separable": (separable, (20,)),
    "quadratic": (quadratic, (12,)),
    "low rank": (low_rank, (24,)),
    "factorized": (factorized, (88,)),
    "own product": (own_product, (54,)),
    "gather of a gather": (gather_of_gather, (6,)),
}


def swept(graph: Graph, x: Array) -> Array:
    found: Array = compute(graph, "hessian", [x], options=Options(argnums=0, strategy="forward-over-reverse")).value
    return found.reshape(x.size, x.size)


def assembled(graph: Graph, **options: Any) -> Prepared:
    prepared = prepare(graph, "hessian", Options(argnums=0, **options))
    assert prepared.plan.strategy == "direct-assembly"
    return prepared


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * max(1.0, float(np.abs(want).max(initial=0.0))))


@pytest.mark.parametrize("tier", ["vm", "reference"])
@pytest.mark.parametrize("layout", ["dense", "csr", "coo", "diag", "packed"])
@pytest.mark.parametrize("name", CASES)
def test_every_layout_holds_the_same_hessian(name: str, layout: str, tier: str) -> None:
    f, shape = CASES[name]
    graph, x = graph_of(f, shape), RNG.normal(size=shape) * 0.5
    want, n = swept(graph, x), x.size
    value = assembled(graph, layout=layout, tier=tier)([x]).value
    if layout in ("csr", "coo"):
        close(value.to_dense(), want)
        rows, columns = value.row_numbers(), value.indices
        order = rows.astype(np.int64) * n + columns
        assert (np.diff(order) > 0).all()  # sorted, each entry once
    elif layout == "diag":
        close(value.reshape(-1), np.diag(want))
    elif layout == "packed":
        close(value, want[np.triu_indices(n)])
    else:
        close(value.reshape(n, n), want)


@pytest.mark.parametrize("name", ["rosenbrock", "cragglvy", "uneven", "pairwise", "springs", "separable", "logistic"])
def test_a_pattern_holds_nothing_that_is_always_zero(name: str) -> None:
    f, shape = CASES[name]
    graph = graph_of(f, shape)
    prepared = assembled(graph, layout="csr")
    seen = np.zeros((int(np.prod(shape)),) * 2, bool)
    for _ in range(3):
        seen |= swept(graph, RNG.normal(size=shape)) != 0.0
    value = prepared([RNG.normal(size=shape)]).value
    assert value.data.size == seen.sum()


@pytest.mark.parametrize(("f", "shape", "layout"), [
    (rosenbrock, (300_000,), "csr"), (cragglvy, (200_000,), "csr"), (gathered(CHAIN), (3001, 3), "csr"),
    (gathered(RNG.integers(0, 400, size=(2, 40_000))), (400, 3), "csr"),
    (gathered(RNG.integers(0, 400, size=(2, 40_000))), (400, 3), "dense"),
    (gathered(np.triu_indices(300, 1)), (300, 3), "csr"), (gathered(np.triu_indices(300, 1)), (300, 3), "dense"),
])
def test_threads_agree_with_one(f: Any, shape: tuple[int, ...], layout: str) -> None:
    graph, x = graph_of(f, shape), RNG.normal(size=shape) * 0.5
    one, two = (assembled(graph, layout=layout, threads=k)([x]).value for k in (1, 2))
    again = assembled(graph, layout=layout, threads=2)([x]).value
    if layout == "csr":
        one, two, again = (m.data for m in (one, two, again))
    close(two, one)
    np.testing.assert_array_equal(two, again)


def test_float32_stays_float32_in_every_layout() -> None:
    graph = graph_of(rosenbrock, (30,), dtypes=[np.dtype(np.float32)])
    x = RNG.normal(size=30).astype(np.float32)
    want = swept(graph, x)
    for layout in ("dense", "packed", "diag"):
        value = assembled(graph, layout=layout)([x]).value
        assert value.dtype == np.float32
    np.testing.assert_allclose(assembled(graph, layout="csr")([x]).value.to_dense(), want, rtol=1e-5, atol=1e-3)


# ---- out -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_out_is_refreshed(name: str) -> None:
    f, shape = CASES[name]
    graph = graph_of(f, shape)
    prepared, n = assembled(graph), int(np.prod(shape))
    out = np.full((*shape, *shape), np.nan)
    for _ in range(3):
        x = RNG.normal(size=shape) * 0.5
        assert prepared([x], out=out).value is out
        close(out.reshape(n, n), swept(graph, x))
    other = np.full((*shape, *shape), 7.0)
    prepared([x], out=other)
    np.testing.assert_array_equal(other, out)


@pytest.mark.parametrize("through_a_view", [False, True])
@pytest.mark.parametrize("other", [{}, {"strategy": "forward-over-reverse"}])
def test_out_that_something_else_has_filled_is_cleared_whole(other: dict[str, Any], through_a_view: bool) -> None:
    banded = assembled(graph_of(rosenbrock, (60,)))
    full = prepare(graph_of(norm, (60,)), "hessian", Options(argnums=0, **other))
    x, out = RNG.normal(size=60), np.empty((60, 60))
    for _ in range(2):
        banded([x], out=out)
    full([x], out=out[:] if through_a_view else out)
    banded([x], out=out)
    close(out, swept(graph_of(rosenbrock, (60,)), x))


def test_a_constant_hessian_over_the_budget_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(DirectProgram, "__init__", lambda *_: made.append(1))
    with pytest.raises(LimitError, match="The result alone takes"):
        prepare(graph_of(quadratic, (12,)), "hessian", Options(argnums=0, max_memory_bytes=100))
    assert not made


def test_out_that_shares_memory_with_the_input_is_refused() -> None:
    prepared, memory = assembled(graph_of(rosenbrock, (4,))), np.zeros(16)
    with pytest.raises(InputError, match="shares memory"):
        prepared([memory[:4]], out=memory.reshape(4, 4))


def test_value_gradient_and_hessian_are_one_program() -> None:
    graph, x = graph_of(two_products, (12,)), RNG.normal(size=12)
    prepared = prepare(graph, "value_grad_hessian", Options(argnums=0))
    result = prepared([x])
    assert len(prepared.programs) == 1
    close(result.value, swept(graph, x))
    close(result.gradient, compute(graph, "grad", [x], options=Options(argnums=0)).value)
    close(result.output, compute(graph, "value", [x]).value)


def test_a_matrix_that_is_read_elsewhere_is_no_start_of_sums() -> None:
    """The product that a Hessian may start as is a weight of something else as well: adding to it would be seen."""
    def f(x: Node) -> Node:
        product = op("matmul", const(x, DATA), x)
        return op("sum", op("exp", product)) + op("sum", op("exp", op("matmul", const(x, DATA[::-1].copy()), x)))

    graph, x = graph_of(f, (12,)), RNG.normal(size=12) * 0.2
    close(assembled(graph)([x]).value, swept(graph, x))


# ---- the quick way ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("layout", ["dense", "csr", "diag", "packed"])
@pytest.mark.parametrize("name", ["rosenbrock of two", "rosenbrock", "quadratic", "pairwise"])
def test_the_quick_way_gives_the_same_bits(name: str, layout: str) -> None:
    f, shape = CASES[name]
    prepared = assembled(graph_of(f, shape), layout=layout, tier="vm")
    quick = prepared.quick()
    assert quick is not None
    results = []
    for _ in range(4):
        x = RNG.normal(size=shape)
        want, got = prepared([x]).value, quick(x)
        if layout == "csr":
            want, got = want.data, got.data
        np.testing.assert_array_equal(got, want)
        results.append((got, want))
    for got, want in results:  # a result shares no memory with the next
        np.testing.assert_array_equal(got, want)


def test_there_is_no_quick_way_without_the_vm() -> None:
    assert assembled(graph_of(rosenbrock, (5,)), tier="reference").quick() is None


# ---- the parts -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [LONG + 3, LONG + 64])
@pytest.mark.parametrize("f", [rosenbrock, cragglvy, uneven])
def test_banded_patterns_are_those_of_sorting(f: Callable[[Node], Node], n: int) -> None:
    n += n % 2
    graph = graph_of(f, (n,))
    form = second_differential(sink(graph.outputs[0], graph.inputs), graph.inputs)
    assert form is not None
    found = contributions(form, graph.inputs)
    keys = np.unique(np.concatenate([
        (a.index * n + b.index).reshape(-1)
        for c in found for a, b in [(c.rows, c.columns), (c.columns, c.rows)][:1 + c.is_mirrored]
    ]))
    pattern = LAYOUTS["csr"](found, n).pattern
    assert pattern is not None
    np.testing.assert_array_equal(pattern.rows.astype(np.int64) * n + pattern.indices, keys)


def test_banded_positions_are_affine_where_the_band_is_whole() -> None:
    n = LONG + 10
    runs = [IndexImage((n - 1,), r, (1,)) for r in (0, 1)]
    sides = [(runs[0], runs[0]), (runs[0], runs[1]), (runs[1], runs[0]), (runs[1], runs[1])]
    found = periodic(sides, n)
    assert found is not None
    assert found[1] == [(0, (3,)), (1, (3,)), (2, (3,)), (3, (3,))]


@pytest.mark.parametrize(("numbers", "form"), [
    (np.arange(6).reshape(2, 3), (0, (3, 1))),
    (5 + 2 * np.arange(4), (5, (2,))),
    (np.array(7), (7, ())),
    (np.array([1, 2, 4]), None),
    (np.array([[0, 1], [2, 4]]), None),
    (np.zeros((0, 3), int), (0, (0, 0))),
])
def test_affine(numbers: Array, form: Any) -> None:
    assert affine(numbers) == form


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 5, 64, 130, 700])
def test_add_transpose(n: int, threads: int) -> None:
    matrix = RNG.normal(size=(n, n))
    want = matrix + matrix.T
    for by_vm in (True, False):
        got = matrix.copy()
        add_transpose(got, threads, by_vm=by_vm)
        np.testing.assert_array_equal(got, want)


def test_a_scatter_with_constant_indices_needs_no_numpy() -> None:
    builder = Builder()
    x = builder.input("x", (50,), FLOAT64)
    y = apply("scatter_add", op("sin", x), RNG.integers(0, 7, size=50), axis=0, size=7)
    prepared = prepare(Graph((x,), (op("sum", op("square", op("take", y, np.array([0, -1, 3])))),)), "grad",
                       Options(argnums=0))
    assert prepared([RNG.normal(size=50)]).stats["fallbacks"] == []


def test_constant_parts_are_added_once() -> None:
    program = assembled(graph_of(quadratic, (12,))).matrix
    assert isinstance(program, DirectProgram)
    assert program.base is not None and not program.sinks

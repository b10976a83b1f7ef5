"""Compressed products: the same matrices as the sweeps give, in every layout, by fewer products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import cutest
import hesse.numpy as hnp
from graphs import graph_of, op
from hesse_engine.backend.compressed import CompressedProgram, compressed_hessian, compressed_jacobian
from hesse_engine.compute import Options, compute, pose, prepare
from hesse_engine.derivatives import DERIVATIVES
from hesse_engine.errors import LimitError
from hesse_engine.frontends.trace import Trace
from hesse_engine.ir.graph import FLOAT32, FLOAT64, Array, Graph, Node
from random_graphs import RandomGraph

RNG = np.random.default_rng(8)
LAYOUTS = ("dense", "csr", "coo", "packed", "diag")


def part(x: Node, start: int, count: int) -> Node:
    return op("slice", x, start=[start], count=[count])


def chained(x: Node) -> Node:
    n = x.shape[0]
    return op("sum", op("sin", part(x, 2, n - 2)) * op("exp", part(x, 1, n - 2)) * part(x, 0, n - 2))


def chained_twice(a: Node, b: Node) -> Node:
    return op("sum", op("square", a) * op("reshape", b, shape=(a.size,))) + op("sum", op("cos", b))


def arrow_terms(x: Node) -> Node:
    head = op("broadcast_to", part(x, 0, 1), shape=(x.shape[0] - 1,))
    return op("sin", head * part(x, 1, x.shape[0] - 1))


def arrow(x: Node) -> Node:
    return op("sum", arrow_terms(x))


def blocks(x: Node) -> Node:
    """Determinants of ten matrices, each of two variables: not elementwise, and yet sparse."""
    pairs = op("reshape", x, shape=(10, 2))
    outer = op("einsum", pairs, pairs, subscripts="bi,bj->bij")
    return op("sum", op("logabsdet", outer + x.builder.constant(np.eye(2))))


FUNCTIONS: dict[str, tuple[Callable[..., Node], list[tuple[int, ...]], str, int]] = {
    # function, shapes of the inputs, strategy, colors
    "chain": (chained, [(40,)], "acyclic-coloring", 3),
    "two inputs": (chained_twice, [(20,), (5, 4)], "star-coloring", 2),
    "arrow": (arrow, [(30,)], "star-coloring", 2),
    "blocks": (blocks, [(20,)], "star-coloring", 2),
}


def program_of(graph: Graph, operation: str = "hessian", **options: Any) -> CompressedProgram | None:
    problem = pose(graph, DERIVATIVES[operation], Options(**options))
    return compressed_hessian(problem) if operation == "hessian" else compressed_jacobian(problem)


def case(name: str) -> tuple[Graph, list[Array], Array]:
    """The function's graph, a point, and its Hessian by a sweep of all columns."""
    f, shapes, _, _ = FUNCTIONS[name]
    graph, point = graph_of(f, *shapes), [RNG.normal(size=s) for s in shapes]
    swept = compute(graph, "hessian", point, options=Options(strategy="forward-over-reverse")).value
    rows = [swept] if len(shapes) == 1 else [block for row in swept for block in row]
    sizes, n = [p.size for p in point], len(point)
    shaped = [b.reshape(sizes[k // n], sizes[k % n]) for k, b in enumerate(rows)]
    return graph, point, np.block([shaped[k * n:(k + 1) * n] for k in range(n)])


def entries_of(program: CompressedProgram, values: Array) -> Array:
    matrix = np.zeros(program.pattern.shape, values.dtype)
    matrix[program.pattern.rows, program.pattern.indices] = values
    return matrix


def as_matrix(program: CompressedProgram, found: Sequence[Sequence[Array]], shape: tuple[int, ...]) -> Array:
    if program.layout in ("csr", "coo"):
        return entries_of(program, found[0][0])
    if program.layout != "dense":
        return found[0][0]
    heights, widths = [n.size for n in program.rows], [n.size for n in program.wrt]
    return np.block([[b.reshape(h, w) for b, w in zip(row, widths, strict=True)]
                     for row, h in zip(found, heights, strict=True)]).reshape(shape)


def wanted_in(layout: str, matrix: Array) -> Array:
    if layout == "packed":
        return matrix[np.triu_indices(len(matrix))]
    return np.diag(matrix) if layout == "diag" else matrix


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("chunk_size", [None, 1, 2])
def test_hessians_equal_those_of_a_sweep(name: str, layout: str, chunk_size: int | None) -> None:
    graph, point, exact = case(name)
    program = program_of(graph, layout=layout, chunk_size=chunk_size)
    assert program is not None
    _, _, strategy, colors = FUNCTIONS[name]
    if layout != "diag":
        assert (program.strategy, program.columns) == (strategy, colors)
    assert program.width <= (chunk_size or program.columns)
    assert program.chunks == -(-program.columns // program.width)
    found = as_matrix(program, program.run(point), exact.shape)
    np.testing.assert_allclose(found, wanted_in(layout, exact), rtol=0, atol=1e-13 * np.abs(exact).max())
    again = as_matrix(program, program.run(point), exact.shape)
    np.testing.assert_array_equal(again, found)
    assert program.result_bytes > 0 and program.workspace_bytes > 0 and program.flops > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_results_are_written_where_they_are_wanted(layout: str) -> None:
    graph, point, _ = case("chain")
    program = program_of(graph, layout=layout)
    assert program is not None
    wanted = program.run(point)[0][0]
    out = np.full(wanted.shape, np.nan)
    assert np.shares_memory(program.run(point, out)[0][0], out)
    np.testing.assert_array_equal(out, wanted)


def test_results_are_not_aliased() -> None:
    graph, point, _ = case("chain")
    program = program_of(graph, layout="csr")
    assert program is not None
    assert not np.shares_memory(program.run(point)[0][0], program.run(point)[0][0])


def test_single_precision_stays_single() -> None:
    graph = graph_of(chained, (40,), dtypes=[FLOAT32])
    point = RNG.normal(size=40).astype(np.float32)
    program = program_of(graph, layout="csr")
    assert program is not None
    ((found,),) = program.run([point])
    assert found.dtype == np.float32
    swept = compute(graph, "hessian", [point], options=Options(strategy="forward-over-reverse")).value
    np.testing.assert_allclose(entries_of(program, found), swept, rtol=0, atol=1e-4 * np.abs(swept).max())


def test_dense_patterns_and_small_matrices_are_left_to_the_sweep() -> None:
    dense = graph_of(lambda x: op("square", op("sum", op("exp", x))), (20,))
    assert program_of(dense) is None
    assert program_of(dense, layout="packed") is None
    listed = program_of(dense, layout="csr")
    assert listed is not None and listed.strategy == "uncompressed" and listed.pattern.nnz == 400
    problem = pose(dense, DERIVATIVES["hessian"], Options(layout="csr"))
    assert compressed_hessian(problem, sparse_only=True) is None
    assert program_of(graph_of(chained, (10,))) is None
    assert program_of(graph_of(chained, (10,)), layout="csr") is not None


def test_what_has_several_types_or_a_named_strategy_is_left_to_the_sweep() -> None:
    mixed = graph_of(chained_twice, (20,), (5, 4), dtypes=[FLOAT64, FLOAT32])
    assert program_of(mixed, layout="csr") is None
    assert program_of(graph_of(chained, (40,)), strategy="reverse-over-reverse") is None


def test_a_budget_is_kept_by_smaller_chunks_or_not_at_all() -> None:
    graph, point, exact = case("chain")
    whole = program_of(graph, layout="csr")
    assert whole is not None
    need = whole.result_bytes + whole.workspace_bytes
    narrow = program_of(graph, layout="csr", max_memory_bytes=need - 8)
    assert narrow is not None and narrow.width < whole.width
    np.testing.assert_allclose(entries_of(narrow, narrow.run(point)[0][0]), exact, rtol=0, atol=1e-12)
    assert program_of(graph, layout="csr", max_memory_bytes=100) is None


def test_entries_that_cancel_are_not_listed() -> None:
    """The Hessian of a linear least-squares function with orthogonal columns is diagonal: one product."""
    trace = Trace("numpy")
    x = trace.input(np.ones(40), "x")
    graph = trace.graph([cutest.arglina(hnp, x)], [x])
    program = program_of(graph, layout="csr")
    assert program is not None
    assert (program.pattern.nnz, program.columns) == (40, 1)
    np.testing.assert_allclose(program.run([RNG.normal(size=40)])[0][0], 2.0, rtol=1e-13)
    result = compute(graph, "hessian", [np.ones(40)], options=Options(layout="csr"))
    assert result.value.nnz == 40


# ---- Jacobians -------------------------------------------------------------------------------------------------------
JACOBIANS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]], str, int]] = {
    "band": (lambda x: op("sin", part(x, 1, 39)) * part(x, 0, 39), [(40,)], "column-coloring", 2),
    "row": (lambda x: op("concat", op("exp", part(x, 0, 20)), op("reshape", op("sum", op("cos", x)), shape=(1,))),
            [(30,)], "row-coloring", 2),
    "row and column": (lambda x: op("concat", arrow_terms(x), op("reshape", op("sum", op("cos", x)), shape=(1,))),
                       [(30,)], "bidirectional-coloring", 3),
    "few outputs": (lambda x: op("sum", op("exp", op("reshape", x, shape=(20, 3))), axis=1), [(60,)],
                    "row-coloring", 1),
    "two and two": (lambda a, b: (op("sin", a * b), op("exp", b)), [(20,), (20,)], "column-coloring", 2),
}


@pytest.mark.parametrize("layout", ["dense", "csr", "coo"])
@pytest.mark.parametrize("name", JACOBIANS)
def test_jacobians_equal_those_of_a_sweep(name: str, layout: str) -> None:
    f, shapes, strategy, colors = JACOBIANS[name]
    graph, point = graph_of(f, *shapes), [RNG.normal(size=s) for s in shapes]
    program = program_of(graph, "jacobian", layout=layout)
    assert program is not None
    assert (program.strategy, program.columns) == (strategy, colors)
    swept = compute(graph, "jacobian", point, options=Options(strategy="forward", argnums=tuple(range(len(point)))))
    assert swept.stats["strategy"] == "forward"
    rows = swept.value if len(graph.outputs) > 1 else [swept.value]
    exact = np.block([[b.reshape(y.size, -1) for b in row] for y, row in zip(graph.outputs, rows, strict=True)])
    found = as_matrix(program, program.run(point), exact.shape)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-13 * np.abs(exact).max())


def test_a_mode_that_is_asked_for_is_kept() -> None:
    f, shapes, _, _ = JACOBIANS["band"]
    graph = graph_of(f, *shapes)
    reverse = program_of(graph, "jacobian", strategy="reverse", layout="csr")
    assert reverse is not None and reverse.strategy == "row-coloring"
    assert program_of(graph, "jacobian", strategy="reverse") is None
    assert program_of(graph_of(lambda x: op("exp", op("sum", x)) * x, (20,)), "jacobian") is None


# ---- through the pipeline --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_pipeline_takes_a_coloring_where_assembly_does_not_cover(layout: str) -> None:
    graph = graph_of(lambda x: blocks(x) + op("sum", op("square", op("max", op("reshape", x, shape=(10, 2)), axis=1))),
                     (20,))
    point = RNG.normal(size=20)
    result = compute(graph, "hessian", [point], options=Options(layout=layout))
    swept = compute(graph, "hessian", [point], options=Options(strategy="forward-over-reverse")).value
    value = result.value.to_dense() if layout in ("csr", "coo") else result.value
    np.testing.assert_allclose(value, wanted_in(layout, swept), rtol=0, atol=1e-12 * np.abs(swept).max())
    if layout == "csr":
        assert result.stats["strategy"].endswith("coloring")
        assert result.value.nnz == 40


def test_a_sparse_jacobian_lists_what_is_there() -> None:
    f, shapes, _, _ = JACOBIANS["band"]
    point = RNG.normal(size=40)
    result = compute(graph_of(f, *shapes), "jacobian", [point], options=Options(layout="csr"))
    assert result.stats["strategy"] == "column-coloring"
    assert result.value.nnz == 78 and result.value.shape == (39, 40)


def test_a_budget_that_nothing_fits_is_refused() -> None:
    with pytest.raises(LimitError, match="max_memory_bytes"):
        prepare(graph_of(blocks, (20,)), "hessian", Options(layout="csr", max_memory_bytes=64))


@given(st.integers(0, 10_000))
def test_random_graphs_give_the_matrices_of_a_sweep(seed: int) -> None:
    drawn = RandomGraph(seed, steps=20, sizes=(1, 2, 3, 4))
    assume(max([n.size for n in drawn.nodes]) <= 2000)
    total: Node | None = None
    for y in drawn.outputs:
        if y.is_floating:
            s = op("sum", op("square", op("tanh", y)))
            total = s if total is None else total + s
    assume(total is not None)
    assert total is not None
    graph, arrays = Graph(tuple(drawn.inputs), (total,)), drawn.arrays()
    argnums = tuple([k for k, n in enumerate(graph.inputs) if n.is_floating])
    with np.errstate(all="ignore"):
        program = program_of(graph, layout="csr", argnums=argnums, tier="reference")
        assume(program is not None)
        assert program is not None
        found = entries_of(program, program.run(arrays)[0][0])
        options = Options(strategy="forward-over-reverse", argnums=argnums, tier="reference")
        rows = compute(graph, "hessian", arrays, options=options).value
    sizes = [graph.inputs[k].size for k in argnums]
    exact = np.block([[b.reshape(h, w) for b, w in zip(row, sizes, strict=True)]
                      for row, h in zip(rows, sizes, strict=True)])
    if np.isfinite(exact).all():
        # what rounding does to the function itself shows in the asymmetry of its literal Hessian
        rounding = np.abs(exact - exact.T).max(initial=0.0)
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-10 * max(1.0, np.abs(exact).max()) + 2 * rounding)


# ---- a peer ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", cutest.HESSIANS)
def test_no_pattern_is_larger_than_asdex_finds(name: str) -> None:
    asdex = pytest.importorskip("asdex", reason="asdex is the peer that is compared with here")
    jnp = pytest.importorskip("jax", reason="asdex works on JAX functions").numpy
    f, n = cutest.HESSIANS[name]
    theirs = asdex.hessian_sparsity(lambda x: f(jnp, x), np.ones(n))
    trace = Trace("numpy")
    x = trace.input(np.ones(n), "x")
    problem = pose(trace.graph([f(hnp, x)], [x]), DERIVATIVES["hessian"], Options(layout="csr"))
    ours = compressed_hessian(problem)
    assert ours is not None
    assert ours.pattern.nnz <= theirs.nnz

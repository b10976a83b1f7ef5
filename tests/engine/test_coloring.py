"""Colorings by their definitions, checked the slow way, and matrices that come back as they were."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hesse_engine.backend import graphs as loading
from hesse_engine.backend.loops import load_loops
from hesse_engine.ir.graph import Array
from hesse_engine.structure.bicoloring import compress_jacobian
from hesse_engine.structure.coloring import (
    ORDERS,
    PLAIN,
    Adjacency,
    Compression,
    Kernels,
    adjacency,
    best_acyclic,
    best_star,
    compress_diagonal,
    compress_symmetric,
    orders,
    uncompressed,
)
from hesse_engine.structure.pattern import Pattern, from_keys

RNG = np.random.default_rng(3)
Marks = st.integers(1, 12).flatmap(lambda n: arrays(bool, (n, n)))
Rectangles = st.tuples(st.integers(1, 10), st.integers(1, 10)).flatmap(lambda shape: arrays(bool, shape))


@pytest.fixture(scope="module")
def compiled() -> Kernels:
    return load_loops()


def pattern_of(marks: Array) -> Pattern:
    return from_keys(np.flatnonzero(marks), marks.shape)


def banded(n: int, width: int) -> Array:
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= width


def arrow(n: int) -> Array:
    marks = np.eye(n, dtype=bool)
    marks[0] = marks[:, 0] = True
    return marks


def grid(n: int) -> Array:
    """The five-point stencil on n x n points."""
    line = banded(n, 1) & ~np.eye(n, dtype=bool)
    return np.kron(np.eye(n), line) + np.kron(line, np.eye(n)) + np.eye(n * n) > 0


def random_symmetric(n: int, density: float, diagonal: bool = True) -> Array:
    marks = RNG.random((n, n)) < density
    return marks | marks.T | (np.eye(n, dtype=bool) & diagonal)


def values_on(marks: Array, symmetric: bool = True) -> Array:
    values = RNG.normal(size=marks.shape)
    return (values + values.T if symmetric else values) * marks


# ---- definitions -----------------------------------------------------------------------------------------------------
def neighbors(graph: Adjacency, v: int) -> list[int]:
    found: list[int] = graph.indices[graph.indptr[v]:graph.indptr[v + 1]].tolist()
    return found


def is_proper(graph: Adjacency, color: Array) -> bool:
    return bool((color > 0).all()) and all(color[a] != color[b] for a, b in graph.ends)


def is_star_coloring(graph: Adjacency, color: Array) -> bool:
    """Proper, and no path of four vertices has two colors only."""
    for b, c in graph.ends:
        for a in neighbors(graph, b):
            for d in neighbors(graph, c):
                if len({a, b, c, d}) == 4 and color[a] == color[c] and color[b] == color[d]:
                    return False
    return is_proper(graph, color)


def is_acyclic_coloring(graph: Adjacency, color: Array) -> bool:
    """Proper, and the vertices of any two colors induce no cycle: as many edges as vertices less trees."""
    for pair in combinations(np.unique(color), 2):
        inside = np.isin(color, pair)
        edges = [(a, b) for a, b in graph.ends if inside[a] and inside[b]]
        parent = list(range(graph.size))
        for a, b in edges:
            while parent[a] != a:
                a = parent[a]
            while parent[b] != b:
                b = parent[b]
            if a == b:
                return False
            parent[a] = b
    return is_proper(graph, color)


def edges_of_stars(graph: Adjacency, color: Array, star: Array, hub: Array) -> None:
    """Each star is a center and its leaves, of two colors."""
    for s in range(len(hub)):
        ends = graph.ends[star == s]
        if len(ends) > 1:
            assert (ends == hub[s]).any(1).all()
            assert len(np.unique(color[ends])) == 2


@given(Marks)
def test_colorings_meet_their_definitions(marks: Array) -> None:
    graph = adjacency(pattern_of(marks | marks.T))
    for _, order in orders(graph.indptr, graph.indices, 1, PLAIN):
        assert sorted(order) == list(range(graph.size))
        assert is_proper(graph, PLAIN.color_distance_1(graph.indptr, graph.indices, order))
        color, star, hub = PLAIN.color_star(graph.indptr, graph.indices, graph.edges, order)
        assert is_star_coloring(graph, color)
        edges_of_stars(graph, color, star, hub)
        color, tree = PLAIN.color_acyclic(graph.indptr, graph.indices, graph.edges, order)
        assert is_acyclic_coloring(graph, color)
        for a, b in combinations(range(len(tree)), 2):  # edges of one tree have its two colors
            if tree[a] == tree[b]:
                assert set(color[graph.ends[a]]) == set(color[graph.ends[b]])


@given(Rectangles)
def test_columns_that_meet_in_a_row_differ(marks: Array) -> None:
    pattern = pattern_of(marks)
    turned = pattern.transposed()
    order = np.arange(marks.shape[1])
    color = PLAIN.color_columns(pattern.indptr, pattern.indices, turned.indptr, turned.indices, order)
    for a, b in combinations(range(marks.shape[1]), 2):
        assert color[a] != color[b] or not (marks[:, a] & marks[:, b]).any()


@pytest.mark.parametrize("name", ORDERS)
def test_orders_follow_the_degrees(name: str) -> None:
    graph = adjacency(pattern_of(random_symmetric(20, 0.15)))
    order = dict(orders(graph.indptr, graph.indices, 1, PLAIN))[name].tolist()
    degree = {v: len(neighbors(graph, v)) for v in range(20)}
    for k, v in enumerate(order):
        before, rest = order[:k], order[k:]
        if name == "natural":
            assert v == k
        elif name == "largest-first":
            assert degree[v] == max([degree[w] for w in rest])
        elif name == "smallest-last":  # among the first k + 1, v has the fewest neighbors
            inside = {w: sum([x in [*before, v] for x in neighbors(graph, w)]) for w in [*before, v]}
            assert inside[v] == min(inside.values())
        else:
            wanted = before if name == "incidence-degree" else rest
            count = {w: sum([x in wanted for x in neighbors(graph, w)]) for w in rest}
            assert count[v] == max(count.values())


# ---- there and back --------------------------------------------------------------------------------------------------
def comes_back(plan: Compression, marks: Array) -> None:
    values, pattern = values_on(marks), pattern_of(marks)
    found = plan.recover(values @ plan.coloring.seeds(float))
    wanted = np.diag(values)[np.diag(marks)] if plan.kind == "distance-1" else values[pattern.rows, pattern.indices]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * max(1.0, np.abs(values).max()))


@given(Marks)
def test_symmetric_matrices_come_back(marks: Array) -> None:
    marks = marks | marks.T
    pattern = pattern_of(marks)
    graph = adjacency(pattern)
    comes_back(best_star(pattern, graph), marks)
    comes_back(compress_symmetric(pattern), marks)
    comes_back(compress_diagonal(pattern), marks)
    comes_back(uncompressed(pattern), marks)
    acyclic = best_acyclic(pattern, graph)
    if acyclic is not None:
        comes_back(acyclic, marks)


@given(Rectangles, st.sampled_from(["auto", "forward", "reverse"]))
def test_jacobians_come_back(marks: Array, mode: str) -> None:
    pattern = pattern_of(marks)
    plan = compress_jacobian(pattern, mode=mode)
    values = values_on(marks, symmetric=False)
    forward, reverse = values @ plan.columns.seeds(float), values.T @ plan.rows.seeds(float)
    found = plan.recover(np.concatenate([forward.reshape(-1), reverse.reshape(-1)]))
    np.testing.assert_allclose(found, values[pattern.rows, pattern.indices], rtol=0, atol=1e-12)
    if mode != "auto":
        assert (plan.rows if mode == "forward" else plan.columns).count == 0


def test_half_of_a_coloring_is_half_of_its_seeds() -> None:
    coloring = best_star(pattern_of(banded(9, 2)), adjacency(pattern_of(banded(9, 2)))).coloring
    whole = coloring.seeds(float)
    assert whole.shape == (9, coloring.count)
    np.testing.assert_array_equal(np.hstack([coloring.seeds(float, 0, 2), coloring.seeds(float, 2)]), whole)
    assert coloring.seeds(float, 3, 9).shape == (9, 6)  # filled up with zeros


# ---- how many colors -------------------------------------------------------------------------------------------------
COLORS = {  # star, acyclic (None: its trees are too deep)
    "diagonal": (np.eye(6, dtype=bool), 1, 1),
    "tridiagonal": (banded(40, 1), 3, 2),
    "long tridiagonal": (banded(1000, 1), 3, None),
    "pentadiagonal": (banded(40, 2), 5, 3),
    "arrow": (arrow(40), 2, 2),
    "dense": (np.ones((7, 7), bool), 7, 7),
    "empty": (np.zeros((5, 5), bool), 0, 0),
    "blocks": (np.kron(np.eye(6), np.ones((3, 3))) > 0, 3, 3),
    "bipartite without a diagonal": (np.kron([[0, 1], [1, 0]], np.ones((4, 4))) > 0, 4, 4),
}


@pytest.mark.parametrize("name", COLORS)
def test_known_numbers_of_colors(name: str) -> None:
    marks, star, acyclic = COLORS[name]
    pattern = pattern_of(marks)
    graph = adjacency(pattern)
    assert best_star(pattern, graph).colors == star
    found = best_acyclic(pattern, graph)
    assert (None if found is None else found.colors) == acyclic


def test_neutral_colors_are_dropped() -> None:
    """Of an arrow without its diagonal only the hub is needed: one product instead of two."""
    marks = arrow(20) & ~np.eye(20, dtype=bool)
    plan = best_star(pattern_of(marks), adjacency(pattern_of(marks)))
    assert plan.colors == 1
    assert np.count_nonzero(plan.coloring.colors >= 0) == 1
    comes_back(plan, marks)


def test_a_full_row_and_a_full_column_cost_three_products() -> None:
    marks = arrow(50)
    plan = compress_jacobian(pattern_of(marks))
    assert (plan.kind, plan.colors) == ("bidirectional", 3)
    assert compress_jacobian(pattern_of(marks), mode="forward").colors == 50
    marks[:, 1:] &= ~np.eye(50, dtype=bool)[:, 1:]
    assert compress_jacobian(pattern_of(marks)).colors == 2


def test_the_direction_with_fewer_colors_is_taken() -> None:
    tall = np.zeros((30, 8), bool)
    tall[np.arange(30), np.arange(30) % 8] = True
    assert compress_jacobian(pattern_of(tall)).kind == "columns"
    assert compress_jacobian(pattern_of(tall)).colors == 1
    wide = np.zeros((8, 30), bool)
    wide[3] = True
    assert compress_jacobian(pattern_of(wide)).kind == "rows"
    assert compress_jacobian(pattern_of(wide)).colors == 1


def test_substitution_is_taken_where_it_saves_a_quarter() -> None:
    assert compress_symmetric(pattern_of(banded(40, 1))).kind == "acyclic"  # 2 colors, not 3
    assert compress_symmetric(pattern_of(np.ones((5, 5), bool))).kind == "star"
    assert compress_symmetric(pattern_of(banded(1000, 1))).kind == "star"  # 500 levels


def test_the_diagonal_alone_needs_a_coloring_of_distance_1() -> None:
    assert compress_diagonal(pattern_of(grid(6))).colors == 2
    assert compress_diagonal(pattern_of(np.zeros((4, 4), bool))).colors == 0


@pytest.mark.parametrize("name", ["bull", "petersen"])
def test_named_graphs(name: str) -> None:
    """The star chromatic number of the bull is 3, that of the Petersen graph 5 (G. Fertin et al., 2004)."""
    nx = pytest.importorskip("networkx", reason="NetworkX has the named graphs")
    source = nx.bull_graph() if name == "bull" else nx.petersen_graph()
    marks = nx.to_numpy_array(source) > 0
    graph = adjacency(pattern_of(marks))
    counts = []
    for _, order in orders(graph.indptr, graph.indices, 1, PLAIN):
        color, _, _ = PLAIN.color_star(graph.indptr, graph.indices, graph.edges, order)
        assert is_star_coloring(graph, color)
        counts.append(int(color.max()))
    assert min(counts) >= (3 if name == "bull" else 5)


# ---- compiled and plain ----------------------------------------------------------------------------------------------
def cases() -> list[Array]:
    return [banded(30, 2), arrow(25), grid(7), random_symmetric(40, 0.05), random_symmetric(30, 0.2, diagonal=False)]


@pytest.mark.parametrize("k", range(5))
def test_compiled_loops_give_the_same_colors(compiled: Kernels, k: int) -> None:
    marks = cases()[k]
    pattern = pattern_of(marks)
    graph = adjacency(pattern)
    plain = dict(orders(graph.indptr, graph.indices, 1, PLAIN))
    for name, order in orders(graph.indptr, graph.indices, 1, compiled):
        np.testing.assert_array_equal(order, plain[name])
        args = (graph.indptr, graph.indices, graph.edges, order)
        for a, b in zip(compiled.color_star(*args), PLAIN.color_star(*args), strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(compiled.color_acyclic(*args), PLAIN.color_acyclic(*args), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(compiled.color_distance_1(*args[:2], order),
                                      PLAIN.color_distance_1(*args[:2], order))
    turned = pattern.transposed()
    columns = (pattern.indptr, pattern.indices, turned.indptr, turned.indices, np.arange(len(marks)))
    np.testing.assert_array_equal(compiled.color_columns(*columns), PLAIN.color_columns(*columns))
    for plan in (compress_symmetric(pattern, compiled), compress_diagonal(pattern, compiled)):
        comes_back(plan, marks)
    assert compress_jacobian(pattern, compiled).colors <= compress_jacobian(pattern).colors


def test_little_work_is_done_at_once_and_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the compiled loops are there, the plain ones serve small graphs."""
    monkeypatch.setattr(loading, "_LOADING", loading._Loading())
    assert isinstance(loading.kernels(1), Kernels)
    assert loading.kernels(loading.PATIENCE + 1) is not PLAIN
    assert loading.kernels(1) is not PLAIN


def test_without_a_compiler_the_plain_loops_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(loading, "_LOADING", loading._Loading())
    monkeypatch.setattr("hesse_engine.backend.loops.load_loops", refuse)
    assert loading.kernels(loading.PATIENCE + 1) is PLAIN


def test_large_banded_matrices(compiled: Kernels) -> None:
    n = 20_000
    at = np.arange(n)
    keys = np.concatenate([at * n + at, at[1:] * n + at[:-1], at[:-1] * n + at[1:]])
    pattern = from_keys(np.sort(keys), (n, n))
    plan = compress_symmetric(pattern, compiled)
    assert (plan.kind, plan.colors) == ("star", 3)
    assert compress_jacobian(pattern, compiled).colors == 3

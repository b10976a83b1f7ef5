"""Compression of sparse matrices by coloring, and the way back, as index arrays.

    star            H from B = H S by reading: H_ij = B[spoke, color of the hub]             symmetric, direct
    acyclic         H from B = H S by substitution along trees                               symmetric, fewer colors
    columns, rows   J from J S, or from S'J                                                  one direction
    bidirectional   J from J S and T'J: star coloring of [[0, J'], [J, 0]]                   a dense row and column
    distance 1      the diagonal of H alone

Several orders are tried and the fewest colors kept. Colors that no entry is read from are dropped (neutral colors).

Source of the last: A. Montoison, G. Dalle and A. H. Gebremedhin, Revisiting sparse matrix coloring and bicoloring,
arXiv 2505.07308 (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse_engine.ir.graph import Array
from hesse_engine.structure import graphs
from hesse_engine.structure.pattern import Pattern

ORDERS = ("natural", "smallest-last", "largest-first", "incidence-degree", "dynamic-largest-first")
# visits of neighbors of neighbors that all orders together may cost
COMPILED_WORK, PLAIN_WORK = 1 << 23, 1 << 14  # about 0.2 s; 20 ms
ACYCLIC_SAVING = 0.75  # substitution cancels digits, so it must save a quarter of the products
MAX_LEVELS = 64  # of substitution: each is one step of NumPy, and one more subtraction


@dataclass(frozen=True, slots=True)
class Kernels:
    """The loops of `graphs`, as they stand or compiled."""

    degree_order: Callable[..., Any] = graphs.degree_order
    color_distance_1: Callable[..., Any] = graphs.color_distance_1
    color_columns: Callable[..., Any] = graphs.color_columns
    color_star: Callable[..., Any] = graphs.color_star
    color_acyclic: Callable[..., Any] = graphs.color_acyclic
    work: int = PLAIN_WORK


PLAIN = Kernels()


@dataclass(frozen=True, slots=True, eq=False)
class Adjacency:
    """The graph of a symmetric pattern: rows of neighbors, and the edge that each entry of them is."""

    indptr: Array
    indices: Array
    edges: Array
    ends: Array  # (edge, 2): its two vertices, the smaller first

    @property
    def size(self) -> int:
        return len(self.indptr) - 1

    @property
    def work(self) -> int:
        """Neighbors of neighbors."""
        degrees = np.diff(self.indptr)
        return int(degrees @ degrees)


def adjacency(pattern: Pattern) -> Adjacency:
    """Of a symmetric pattern; its diagonal does not matter."""
    rows, columns = pattern.rows.astype(np.int64), pattern.indices.astype(np.int64)
    off = rows != columns
    rows, columns = rows[off], columns[off]
    upper = np.flatnonzero(rows < columns)
    edges = np.empty(len(rows), np.int64)
    edges[upper] = np.arange(len(upper))
    # entries below the diagonal, by column and row, are those above it by row and column
    lower = np.flatnonzero(rows > columns)
    edges[lower[np.argsort(columns[lower], kind="stable")]] = np.arange(len(lower))
    counts = np.bincount(rows, minlength=pattern.shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return Adjacency(indptr, columns, edges, np.stack([rows[upper], columns[upper]], 1))


def orders(indptr: Array, indices: Array, work: int, kernels: Kernels) -> Iterator[tuple[str, Array]]:
    """Orders of the vertices of a graph, as many as the budget of work allows, one at least."""
    allowed = max(1, kernels.work // max(work, 1))
    modes = {"smallest-last": 0, "incidence-degree": 1, "dynamic-largest-first": 2}
    for name in ORDERS[:allowed]:
        if name == "natural":
            yield name, np.arange(len(indptr) - 1)
        elif name == "largest-first":
            yield name, np.argsort(-np.diff(indptr), kind="stable")
        else:
            yield name, kernels.degree_order(indptr, indices, modes[name])


# ---- symmetric matrices ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, eq=False)
class Coloring:
    """`colors[v]` is the column of the seed matrix that v's unit vector goes into, -1 for none; `order` gave it."""

    colors: Array
    count: int
    order: str

    def seeds(self, dtype: Any, start: int = 0, stop: int | None = None) -> Array:
        """Columns `start` to `stop` of the seed matrix."""
        stop = self.count if stop is None else stop
        found = np.zeros((len(self.colors), stop - start), dtype)
        chosen = np.flatnonzero((self.colors >= start) & (self.colors < stop))
        found[chosen, self.colors[chosen] - start] = 1
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Gather:
    """Recovery by reading: data = B[places], B flattened."""

    places: Array

    def __call__(self, compressed: Array) -> Array:
        return compressed.reshape(-1).take(self.places)


@dataclass(frozen=True, slots=True, eq=False)
class Substitution:
    """Recovery along trees, leaves first: value = B[place] - what is known already of the leaf's row in its tree."""

    diagonal: Array  # entries on the diagonal, and their places in B
    diagonal_places: Array
    levels: tuple[tuple[Array, Array, Array, Array], ...]  # (edges, places, slots of the leaf, slots of the parent)
    slots: int
    entries: Array  # (edge, 2): positions of its two entries in the data
    count: int

    def __call__(self, compressed: Array) -> Array:
        flat = compressed.reshape(-1)
        data = np.empty(self.count, flat.dtype)
        data[self.diagonal] = flat[self.diagonal_places]
        known, values = np.zeros(self.slots, flat.dtype), np.empty(len(self.entries), flat.dtype)
        for edges, places, leaves, parents in self.levels:
            found = flat[places] - known[leaves]
            values[edges] = found
            np.add.at(known, parents, found)
        data[self.entries] = values[:, None]
        return data


@dataclass(frozen=True, slots=True, eq=False)
class Compression:
    """How a symmetric matrix of some pattern is computed: H times `coloring.seeds`, then `recover`."""

    kind: str  # 'star', 'acyclic', 'distance-1' or 'uncompressed'
    coloring: Coloring
    recover: Gather | Substitution

    @property
    def colors(self) -> int:
        return self.coloring.count


def compress_symmetric(pattern: Pattern, kernels: Kernels = PLAIN) -> Compression:
    """The fewest products: star coloring, unless acyclic coloring saves a quarter of them in few levels."""
    graph = adjacency(pattern)
    star = best_star(pattern, graph, kernels)
    limit = int(ACYCLIC_SAVING * star.colors)
    acyclic = best_acyclic(pattern, graph, kernels, limit) if limit > 1 else None
    return star if acyclic is None or acyclic.colors > limit else acyclic


def uncompressed(pattern: Pattern) -> Compression:
    """A color for each vertex: for patterns so full that no coloring saves anything."""
    size = pattern.shape[0]
    places = pattern.rows.astype(np.int64) * size + pattern.indices
    return Compression("uncompressed", Coloring(np.arange(size), size, "natural"), Gather(places))


def compress_diagonal(pattern: Pattern, kernels: Kernels = PLAIN) -> Compression:
    """For the diagonal alone: neighbors must differ, and B[i, color of i] is H_ii where the pattern has it."""
    graph = adjacency(pattern)
    best: Coloring | None = None
    on_diagonal = pattern.indices[pattern.rows == pattern.indices]
    for name, order in orders(graph.indptr, graph.indices, len(graph.indices), kernels):
        color = kernels.color_distance_1(graph.indptr, graph.indices, order)
        found = _renumbered(color, color[on_diagonal], name)
        best = found if best is None or found.count < best.count else best
    assert best is not None
    return Compression("distance-1", best, Gather(on_diagonal.astype(np.int64) * best.count + best.colors[on_diagonal]))


def best_star(pattern: Pattern, graph: Adjacency, kernels: Kernels = PLAIN) -> Compression:
    """Over several orders, the star coloring with the fewest colors, neutral ones left out."""
    best: Compression | None = None
    degrees = np.diff(graph.indptr)
    enough = 3 if (degrees[graph.ends] > 1).all(1).any() else 2  # a path of four vertices has three colors
    for name, order in orders(graph.indptr, graph.indices, graph.work, kernels):
        color, star, hub = kernels.color_star(graph.indptr, graph.indices, graph.edges, order)
        hubs = _chosen_hubs(graph.ends, color, hub[star], color[_diagonal(pattern)])
        coloring = _renumbered(color, np.concatenate([color[_diagonal(pattern)], color[hubs]]), name)
        if best is None or coloring.count < best.colors:
            best = Compression("star", coloring, _star_recovery(pattern, graph, coloring, hubs))
            if best.colors <= enough:
                break
    assert best is not None
    return best


def best_acyclic(
    pattern: Pattern, graph: Adjacency, kernels: Kernels = PLAIN, limit: int | None = None
) -> Compression | None:
    """Over several orders, the acyclic coloring with the fewest colors; None if its trees are too deep.

    What needs more than `limit` colors, one neutral color not counted, is not looked at further.
    """
    best: Compression | None = None
    for name, order in orders(graph.indptr, graph.indices, graph.work, kernels):
        color, tree = kernels.color_acyclic(graph.indptr, graph.indices, graph.edges, order)
        is_hopeful = limit is None or color.max(initial=0) <= limit + 1
        peeled = _peeled(graph, tree) if is_hopeful else None
        if peeled is None:
            continue
        parents = [graph.ends[edges, side] for edges, side, _, _ in peeled[0]]
        used = np.concatenate([color[_diagonal(pattern)], *[color[p] for p in parents]])
        coloring = _renumbered(color, used, name)
        if best is None or coloring.count < best.colors:
            best = Compression("acyclic", coloring, _tree_recovery(pattern, graph, coloring, peeled))
            if best.colors <= 2:
                break
    return best


def _diagonal(pattern: Pattern) -> Array:
    """Vertices whose diagonal entry is in the pattern."""
    found: Array = pattern.indices[pattern.rows == pattern.indices]
    return found


def _renumbered(color: Array, used: Array, order: str) -> Coloring:
    """Colors from 0, those that nothing is read from left out."""
    present = np.unique(used)
    numbers = np.full(int(color.max(initial=0)) + 1, -1, np.int64)
    numbers[present] = np.arange(len(present))
    return Coloring(numbers[color], len(present), order)


def _chosen_hubs(ends: Array, color: Array, hubs: Array, used: Array) -> Array:
    """The hub of each edge's star; of a single edge the end whose color is needed anyway, else by majority."""
    hubs = hubs.copy()
    needed = np.zeros(int(color.max(initial=0)) + 1, bool)
    needed[used] = True
    needed[color[hubs[hubs >= 0]]] = True
    open_edges = np.flatnonzero(hubs < 0)
    while len(open_edges):
        both = color[ends[open_edges]]
        side = np.where(needed[both[:, 0]], 0, 1)
        settled = needed[both].any(1)
        chosen = open_edges[settled]
        hubs[chosen] = ends[chosen, side[settled]]
        open_edges = open_edges[~settled]
        if len(open_edges):
            needed[np.bincount(color[ends[open_edges]].reshape(-1)).argmax()] = True
    return hubs


def _entry_places(pattern: Pattern, graph: Adjacency, diagonal: Array, of_edge: Array) -> Array:
    """One number for each entry of the pattern: those of the diagonal, and for the rest that of their edge."""
    on_diagonal = pattern.rows == pattern.indices
    places = np.empty(pattern.nnz, np.int64)
    places[on_diagonal] = diagonal
    places[~on_diagonal] = of_edge[graph.edges]
    return places


def _star_recovery(pattern: Pattern, graph: Adjacency, coloring: Coloring, hubs: Array) -> Gather:
    spokes = graph.ends.sum(1) - hubs
    vertices = _diagonal(pattern).astype(np.int64)
    diagonal = vertices * coloring.count + coloring.colors[vertices]
    return Gather(_entry_places(pattern, graph, diagonal, spokes * coloring.count + coloring.colors[hubs]))


Peeled = tuple[list[tuple[Array, Array, Array, Array]], int]


def _peeled(graph: Adjacency, tree: Array) -> Peeled | None:
    """Trees taken apart, leaves first: levels of (edges, which end is the parent, slots of leaf and parent).

    A slot is a vertex in a tree. None where more than MAX_LEVELS levels are needed. Each leaf that goes makes one other
    at most, so levels never grow: what is left of a path is known to be too deep after the first.
    """
    keys = tree[:, None] * graph.size + graph.ends
    present, slots = np.unique(keys, return_inverse=True)
    slots = slots.reshape(-1, 2)
    degrees = np.bincount(slots.reshape(-1), minlength=len(present))
    levels: list[tuple[Array, Array, Array, Array]] = []
    left = np.arange(len(slots))
    while len(left):
        is_leaf = degrees[slots[left]] == 1
        ready = is_leaf.any(1)
        if np.count_nonzero(is_leaf) * (MAX_LEVELS - len(levels)) < len(left):
            return None
        edges, side = left[ready], np.where(is_leaf[ready, 0], 1, 0)
        leaves, parents = slots[edges, 1 - side], slots[edges, side]
        levels.append((edges, side, leaves, parents))
        np.subtract.at(degrees, parents, 1)
        left = left[~ready]
    return levels, len(present)


def _tree_recovery(pattern: Pattern, graph: Adjacency, coloring: Coloring, peeled: Peeled) -> Substitution:
    levels = []
    for edges, side, leaves, parents in peeled[0]:
        leaf, parent = graph.ends[edges, 1 - side], graph.ends[edges, side]
        levels.append((edges, leaf * coloring.count + coloring.colors[parent], leaves, parents))
    off = np.flatnonzero(pattern.rows != pattern.indices)
    entries = off[np.argsort(graph.edges, kind="stable")].reshape(-1, 2)
    on_diagonal = np.flatnonzero(pattern.rows == pattern.indices)
    vertices = _diagonal(pattern).astype(np.int64)
    places = vertices * coloring.count + coloring.colors[vertices]
    return Substitution(on_diagonal, places, tuple(levels), peeled[1], entries, pattern.nnz)

"""Compression of Jacobians: by columns (J S, forward), by rows (T'J, reverse), or from both sides.

Both sides, in two ways, of which the one with fewer colors is kept:

    star       a star coloring of the graph of [[0, J'], [J, 0]]: entry (r, c) is read from J S if the hub of its star
               is column c, from T'J if it is row r
    apart      a few long rows by reverse products, the others by forward ones; or a few long columns forward

The second finds 3 colors for an arrow (a full row, a full column, a diagonal), where the greedy first needs n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hesse_engine.ir.graph import Array
from hesse_engine.structure.coloring import (
    PLAIN,
    Adjacency,
    Coloring,
    Gather,
    Kernels,
    _chosen_hubs,
    _renumbered,
    orders,
)
from hesse_engine.structure.pattern import Pattern


@dataclass(frozen=True, slots=True, eq=False)
class JacobianCompression:
    """`columns` seeds forward products (rows of J by colors), `rows` reverse ones (columns of J by colors).

    `recover` reads the flattened [J S, J' T], one after the other.
    """

    kind: str  # 'columns', 'rows' or 'bidirectional'
    columns: Coloring
    rows: Coloring
    recover: Gather

    @property
    def colors(self) -> int:
        return self.columns.count + self.rows.count


def compress_jacobian(pattern: Pattern, kernels: Kernels = PLAIN, mode: str = "auto") -> JacobianCompression:
    """The fewest products; of equals forward, then one direction. `mode` 'forward' or 'reverse' allows no other."""
    found: list[JacobianCompression] = []
    transposed = pattern.transposed()
    if mode in ("auto", "forward"):
        found.append(_one_sided(pattern, transposed, kernels, "columns"))
    if mode in ("auto", "reverse"):
        found.append(_one_sided(transposed, pattern, kernels, "rows"))
    if mode == "auto" and min([c.colors for c in found]) > 2:
        found.append(_two_sided(pattern, transposed, kernels))
        found.extend(_long_rows_apart(pattern, kernels, min([c.colors for c in found])))
        by_column = _long_rows_apart(transposed, kernels, min([c.colors for c in found]))
        found.extend([_mirrored(c, transposed) for c in by_column])
    return min(found, key=lambda c: c.colors)


def _none(size: int) -> Coloring:
    return Coloring(np.full(size, -1, np.int64), 0, "natural")


def _one_sided(pattern: Pattern, transposed: Pattern, kernels: Kernels, kind: str) -> JacobianCompression:
    """Columns of `pattern` that meet in no row share a color; fewer colors than the longest row has are impossible."""
    high = pattern.shape[0]
    longest = int(np.diff(pattern.indptr).max(initial=0))
    best: Coloring | None = None
    # a column's degree is its number of entries; the orders of changing degree are those of the columns' graph
    graph = _column_graph(pattern, transposed)
    work = int(np.diff(pattern.indptr).astype(np.int64) @ np.diff(pattern.indptr))
    for name, order in orders(*graph, work, kernels):
        color = kernels.color_columns(pattern.indptr, pattern.indices, transposed.indptr, transposed.indices, order)
        color[np.diff(transposed.indptr) == 0] = 0  # an empty column here may be full in the other part of a split
        coloring = _renumbered(color, color[pattern.indices], name)
        best = coloring if best is None or coloring.count < best.count else best
        if best.count <= longest:
            break
    assert best is not None
    places = pattern.rows.astype(np.int64) * best.count + best.colors[pattern.indices]
    if kind == "columns":
        return JacobianCompression(kind, best, _none(high), Gather(places))
    # `pattern` is that of J': its entries, put in the order of those of J
    by_row = np.argsort(pattern.indices.astype(np.int64) * high + pattern.rows)
    return JacobianCompression(kind, _none(high), best, Gather(places[by_row]))


def _column_graph(pattern: Pattern, transposed: Pattern) -> tuple[Array, Array]:
    """The bipartite graph of the columns and rows, as rows of neighbors of the columns.

    Orders by degree are taken in it as if each row were an edge of its first two columns: enough to tell which
    columns are long, without the quadratic number of pairs.
    """
    starts = pattern.indptr[:-1][np.diff(pattern.indptr) > 1]
    a, b = pattern.indices[starts].astype(np.int64), pattern.indices[starts + 1].astype(np.int64)
    rows, columns = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=transposed.shape[0])
    return np.concatenate([[0], np.cumsum(counts)]), columns[order]


def _two_sided(pattern: Pattern, transposed: Pattern, kernels: Kernels) -> JacobianCompression:
    high, wide = pattern.shape
    graph = _bipartite(pattern, transposed)
    best: JacobianCompression | None = None
    for name, order in orders(graph.indptr, graph.indices, graph.work, kernels):
        color, star, hub = kernels.color_star(graph.indptr, graph.indices, graph.edges, order)
        # the colors of columns and of rows are two families: the same number is a product of its own on each side
        color[wide:] += color.max(initial=0)
        hubs = _chosen_hubs(graph.ends, color, hub[star], np.zeros(0, np.int64))
        is_column = hubs < wide
        columns = _renumbered(color[:wide], color[hubs[is_column]], name)
        rows = _renumbered(color[wide:], color[hubs[~is_column]], name)
        if best is None or columns.count + rows.count < best.colors:
            spokes = graph.ends.sum(1) - hubs
            places = np.empty(len(hubs), np.int64)
            places[is_column] = (spokes[is_column] - wide) * columns.count + columns.colors[hubs[is_column]]
            places[~is_column] = (
                high * columns.count + spokes[~is_column] * rows.count + rows.colors[hubs[~is_column] - wide]
            )
            # edges are numbered by column and row
            by_row = np.argsort((graph.ends[:, 1] - wide) * wide + graph.ends[:, 0])
            best = JacobianCompression("bidirectional", columns, rows, Gather(places[by_row]))
    assert best is not None
    return best


def _long_rows_apart(pattern: Pattern, kernels: Kernels, best: int) -> list[JacobianCompression]:
    """The 1, 2, 4, ... longest rows by reverse products, the rest by forward ones, while that can save colors."""
    lengths = np.diff(pattern.indptr)
    by_length = np.argsort(-lengths, kind="stable")
    found = []
    apart = 1
    while apart < min(best, len(lengths)):
        if lengths[by_length[apart]] < best:  # else the rest alone needs as many
            is_long = np.zeros(len(lengths), bool)
            is_long[by_length[:apart]] = True
            found.append(_split(pattern, is_long[pattern.rows], kernels))
            best = min(best, found[-1].colors)
        apart *= 2
    return found


def _split(pattern: Pattern, in_reverse: Array, kernels: Kernels) -> JacobianCompression:
    short, long = pattern.selected(~in_reverse), pattern.selected(in_reverse)
    columns = _one_sided(short, short.transposed(), kernels, "columns")
    rows = _one_sided(long.transposed(), long, kernels, "rows")
    places = np.empty(pattern.nnz, np.int64)
    places[~in_reverse] = columns.recover.places
    places[in_reverse] = pattern.shape[0] * columns.columns.count + rows.recover.places
    return JacobianCompression("bidirectional", columns.columns, rows.rows, Gather(places))


def _mirrored(found: JacobianCompression, pattern: Pattern) -> JacobianCompression:
    """The compression of J' (of `pattern`) as one of J: forward and reverse change places."""
    first = pattern.shape[0] * found.columns.count
    second = pattern.shape[1] * found.rows.count
    places = found.recover.places
    places = np.where(places < first, places + second, places - first)
    by_row = np.argsort(pattern.indices.astype(np.int64) * pattern.shape[0] + pattern.rows)
    return JacobianCompression(found.kind, found.rows, found.columns, Gather(places[by_row]))


def _bipartite(pattern: Pattern, transposed: Pattern) -> Adjacency:
    """Vertices are the columns, then the rows."""
    wide = pattern.shape[1]
    counts = np.concatenate([np.diff(transposed.indptr), np.diff(pattern.indptr)])
    indices = np.concatenate([transposed.indices.astype(np.int64) + wide, pattern.indices.astype(np.int64)])
    from_column = np.arange(pattern.nnz)
    by_row = np.argsort(transposed.indices, kind="stable")
    ends = np.stack([transposed.rows.astype(np.int64), transposed.indices.astype(np.int64) + wide], 1)
    return Adjacency(
        np.concatenate([[0], np.cumsum(counts)]), indices, np.concatenate([from_column, by_row]), ends
    )

"""The loops of graph coloring, over index arrays: plain Python that Numba compiles as it stands.

A graph is given by rows of neighbors (`indptr`, `indices`, no loops) and, for each of them, the number of its edge in
`edges`, the same from both ends. `order` lists the vertices as they are to be colored. Colors count from 1; 0 is none.
Each function stands alone and uses nothing but numbers and NumPy arrays.

Sources: A. H. Gebremedhin, F. Manne and A. Pothen, What color is your Jacobian?, SIAM Review 47 (2005);
A. H. Gebremedhin, A. Tarafdar, F. Manne and A. Pothen, New acyclic and star coloring algorithms with application to
computing Hessians, SIAM J. Sci. Comput. 29 (2007).
"""

from __future__ import annotations

from typing import Any

import numpy as np


def degree_order(indptr: Any, indices: Any, mode: int) -> Any:  # noqa: C901  (one nest of loops, compiled as it stands)
    """Orders that follow a degree as it changes, by a bucket queue.

    mode 0, smallest last: take out a vertex of smallest remaining degree, and color in the opposite order.
    mode 1, incidence degree: next is the vertex with the most neighbors that were chosen already.
    mode 2, dynamic largest first: next is the vertex of largest remaining degree.
    """
    n = len(indptr) - 1
    key, most = np.zeros(n, np.int64), 0
    for v in range(n):
        most = max(most, indptr[v + 1] - indptr[v])
        if mode != 1:
            key[v] = indptr[v + 1] - indptr[v]
    head, after, before = np.full(most + 1, -1), np.full(n, -1), np.full(n, -1)
    for at in range(n):
        v = n - 1 - at  # the lowest number comes first among equals
        k = key[v]
        after[v] = head[k]
        if head[k] >= 0:
            before[head[k]] = v
        head[k] = v
    chosen, order = np.zeros(n, np.bool_), np.zeros(n, np.int64)
    current = most if mode == 2 else 0
    for at in range(n):
        if mode == 0:
            while head[current] < 0:
                current += 1
        else:
            while head[current] < 0:
                current -= 1
        v = head[current]
        head[current] = after[v]
        if after[v] >= 0:
            before[after[v]] = -1
        chosen[v] = True
        order[n - 1 - at if mode == 0 else at] = v
        for p in range(indptr[v], indptr[v + 1]):
            w = indices[p]
            if not chosen[w]:
                k = key[w]
                if before[w] >= 0:
                    after[before[w]] = after[w]
                else:
                    head[k] = after[w]
                if after[w] >= 0:
                    before[after[w]] = before[w]
                k += 1 if mode == 1 else -1
                key[w] = k
                before[w] = -1
                after[w] = head[k]
                if head[k] >= 0:
                    before[head[k]] = w
                head[k] = w
                if (mode == 0 and k < current) or (mode == 1 and k > current):
                    current = k
    return order


def color_distance_1(indptr: Any, indices: Any, order: Any) -> Any:
    """Neighbors differ."""
    n = len(indptr) - 1
    color, forbidden = np.zeros(n, np.int32), np.full(n + 2, -1)
    for v in order:
        for p in range(indptr[v], indptr[v + 1]):
            forbidden[color[indices[p]]] = v
        c = 1
        while forbidden[c] == v:
            c += 1
        color[v] = c
    return color


def color_columns(rows_ptr: Any, columns: Any, columns_ptr: Any, rows: Any, order: Any) -> Any:
    """Columns that meet in a row differ (partial distance-2 coloring); the matrix by its rows and by its columns."""
    n = len(columns_ptr) - 1
    color, forbidden = np.zeros(n, np.int32), np.full(n + 2, -1)
    for v in order:
        for p in range(columns_ptr[v], columns_ptr[v + 1]):
            r = rows[p]
            for q in range(rows_ptr[r], rows_ptr[r + 1]):
                forbidden[color[columns[q]]] = v
        c = 1
        while forbidden[c] == v:
            c += 1
        color[v] = c
    return color


def color_star(indptr: Any, indices: Any, edges: Any, order: Any) -> Any:  # noqa: C901  (one nest of loops, compiled as it stands)
    """Every path of four vertices has three colors: two colors induce stars (Algorithm 4.1 of 2007).

    Returns (color, star of each edge, hub of each star; -1 for a star of a single edge).
    """
    n = len(indptr) - 1
    color, forbidden = np.zeros(n, np.int32), np.full(n + 2, -1)
    first_v, first_w, first_e = np.full(n + 2, -1), np.full(n + 2, -1), np.full(n + 2, -1)
    treated = np.full(n, -1)
    star, hub = np.full(len(indices) // 2, -1), np.full(len(indices) // 2, -1)
    stars = 0
    for v in order:
        for p in range(indptr[v], indptr[v + 1]):
            w = indices[p]
            c = color[w]
            if c == 0:
                continue
            forbidden[c] = v
            if first_v[c] == v:  # a second neighbor of this color: no other neighbor of either may have v's color
                q = first_w[c]
                if treated[q] != v:
                    for i in range(indptr[q], indptr[q + 1]):
                        forbidden[color[indices[i]]] = v
                    treated[q] = v
                for i in range(indptr[w], indptr[w + 1]):
                    forbidden[color[indices[i]]] = v
                treated[w] = v
            else:
                first_v[c], first_w[c], first_e[c] = v, w, edges[p]
                for i in range(indptr[w], indptr[w + 1]):
                    x = indices[i]
                    if color[x] != 0 and hub[star[edges[i]]] == x:  # x - w is in a star around x: v may not join it
                        forbidden[color[x]] = v
        c = 1
        while forbidden[c] == v:
            c += 1
        color[v] = c
        for p in range(indptr[v], indptr[v + 1]):
            w, found = indices[p], -1
            if color[w] == 0:
                continue
            for i in range(indptr[w], indptr[w + 1]):
                if indices[i] != v and color[indices[i]] == c:
                    found = star[edges[i]]
                    hub[found] = w
                    break
            if found < 0 and first_w[color[w]] != w:
                found = star[first_e[color[w]]]
                hub[found] = v
            if found < 0:
                found = stars
                stars += 1
            star[edges[p]] = found
    return color, star, hub[:stars]


def color_acyclic(indptr: Any, indices: Any, edges: Any, order: Any) -> Any:  # noqa: C901  (one nest of loops, compiled as it stands)
    """Every cycle has three colors: two colors induce trees (Algorithm 3.1 of 2007).

    Returns (color, tree of each edge, by the number of one of its edges).
    """
    n, count = len(indptr) - 1, len(indices) // 2
    color, forbidden = np.zeros(n, np.int32), np.full(n + 2, -1)
    first_v, first_e = np.full(n + 2, -1), np.full(n + 2, -1)
    visit_v, visit_w = np.full(count, -1), np.full(count, -1)
    parent = np.arange(count)
    for v in order:
        for p in range(indptr[v], indptr[v + 1]):
            forbidden[color[indices[p]]] = v
        for p in range(indptr[v], indptr[v + 1]):
            w = indices[p]
            if color[w] == 0:
                continue
            for i in range(indptr[w], indptr[w + 1]):
                x = indices[i]
                if color[x] != 0 and forbidden[color[x]] != v:
                    t = edges[i]
                    while parent[t] != t:
                        parent[t] = parent[parent[t]]
                        t = parent[t]
                    if visit_v[t] != v:
                        visit_v[t], visit_w[t] = v, w
                    elif visit_w[t] != w:  # v would join this tree twice
                        forbidden[color[x]] = v
        c = 1
        while forbidden[c] == v:
            c += 1
        color[v] = c
        for p in range(indptr[v], indptr[v + 1]):
            w = indices[p]
            if color[w] == 0:
                continue
            mine = edges[p]
            while parent[mine] != mine:
                parent[mine] = parent[parent[mine]]
                mine = parent[mine]
            if first_v[color[w]] != v:
                first_v[color[w]], first_e[color[w]] = v, edges[p]
            # the trees that v - w joins: that of v's first neighbor of w's color, and those of w's others of v's
            for i in range(indptr[w] - 1, indptr[w + 1]):
                t = first_e[color[w]] if i < indptr[w] else edges[i]
                if i < indptr[w] or color[indices[i]] == c:
                    while parent[t] != t:
                        parent[t] = parent[parent[t]]
                        t = parent[t]
                    parent[t] = mine
    for e in range(count):
        t = e
        while parent[t] != t:
            parent[t] = parent[parent[t]]
            t = parent[t]
        parent[e] = t
    return color, parent

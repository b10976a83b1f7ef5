"""Cases of sorting, searching and scattering: see `op_cases`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from op_cases import Case, real
from oracles import MP, Array, Reference


def along(f: Callable[[list[Any]], list[Any]], axis: int) -> Reference:
    """f of the list of elements on every line along an axis."""

    def reference(x: Array) -> Array:
        lines = np.moveaxis(x, axis, -1)
        found = {at: f(list(lines[at])) for at in np.ndindex(lines.shape[:-1])}
        count = len(next(iter(found.values()))) if found else 0
        out = np.empty((*lines.shape[:-1], count), object)
        for at, values in found.items():
            out[at] = values
        return np.moveaxis(out, -1, axis)

    return reference


def ranked(values: list[Any], descending: bool = False) -> list[int]:
    """Selection, first of equal ones first."""
    rest, order = list(range(len(values))), []
    while rest:
        best = rest[0]
        for k in rest:
            if (values[k] > values[best]) if descending else (values[k] < values[best]):
                best = k
        order.append(best)
        rest.remove(best)
    return order


def running(values: list[Any], smallest: bool = False) -> list[int]:
    found: list[int] = []
    for k, v in enumerate(values):
        best = values[found[-1]] if found else v
        found.append(k if (v <= best if smallest else v >= best) else found[-1])
    return found


def most_frequent(values: list[Any]) -> list[int]:
    counts = [sum(w == v for w in values) for v in values]
    value = min(v for v, c in zip(values, counts, strict=True) if c == max(counts))
    return [max(k for k, v in enumerate(values) if v == value)]


def dropped(reference: Reference, axis: int) -> Reference:
    return lambda x: np.take(reference(x), 0, axis)


def below(a: Array, v: Array, right: bool = False) -> Array:
    out = np.empty(v.shape, object)
    for at in np.ndindex(v.shape):
        out[at] = sum(bool(e <= v[at] if right else e < v[at]) for e in a[at[:-1]])
    return out


def last_of(size: int) -> Reference:
    def reference(index: Array) -> Array:
        out = np.empty((size, *index.shape[1:]), object)
        for at in np.ndindex(out.shape):
            out[at] = max([k for k in range(index.shape[0]) if index[(k, *at[1:])] % size == at[0]], default=-1)
        return out

    return reference


def picked(axis: int) -> Reference:
    """y[i, j] = x[index[i, j], j] for axis 0"""

    def reference(x: Array, index: Array) -> Array:
        out = np.empty(index.shape, object)
        for at in np.ndindex(out.shape):
            out[at] = x[(*at[:axis], index[at], *at[axis + 1:])]
        return out

    return reference


def collected(axis: int, size: int) -> Reference:
    def reference(x: Array, index: Array) -> Array:
        out = np.full((*x.shape[:axis], size, *x.shape[axis + 1:]), MP.mpf(0), object)
        for at in np.ndindex(x.shape):
            out[(*at[:axis], index[at] % size, *at[axis + 1:])] += x[at]
        return out

    return reference


TIES = np.array([[2.0, 1.0, 2.0, 1.0, 3.0], [0.5, 0.5, -1.0, 0.5, -1.0]])
COUNTS = np.array([3, 1, 2, 1, 3, 2])
SORTED = np.array([-1.0, 0.0, 0.0, 2.0])
PLACES = np.array([[2, 0, -1], [1, 1, 2]])

ORDERING: dict[str, tuple[Case, ...]] = {
    "argsort": (
        Case((real(2, 4, seed=1),), along(ranked, 1)),
        Case((TIES,), along(ranked, 0), {"axis": 0}),
        Case((TIES,), along(lambda v: ranked(v, True), 1), {"axis": -1, "descending": True}),
        Case((COUNTS,), along(lambda v: ranked(v, True), 0), {"descending": True}),
        Case((COUNTS,), along(ranked, 0)),
    ),
    "cumulative_argmax": (
        Case((TIES,), along(running, 1)),
        Case((TIES,), along(lambda v: running(v, True), 1), {"axis": 1, "smallest": True}),
        Case((real(3, 2, seed=2),), along(running, 0), {"axis": 0}),
    ),
    "argmode": (
        Case((TIES,), dropped(along(most_frequent, 1), 1), {"axis": 1}),
        Case((COUNTS,), dropped(along(most_frequent, 0), 0), {"axis": 0}),
        Case((real(2, 3, seed=3),), dropped(along(most_frequent, 0), 0), {"axis": 0}),
    ),
    "searchsorted": (
        Case((SORTED, np.array([0.0, -2.0, 5.0, 1.0])), below),
        Case((SORTED, np.array([0.0, -2.0, 5.0, 1.0])), lambda a, v: below(a, v, True), {"right": True}),
        Case((np.stack([SORTED, SORTED + 1]), np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0]])), below),
        Case((np.array([1, 3, 5]), np.array([0, 3, 9])), below),
    ),
    "last_writer": (
        Case((np.array([3, 1, 3, 0]),), last_of(5), {"size": 5}),
        Case((np.array([[0, 1], [0, -1], [2, 0]]),), last_of(3), {"size": 3}),
    ),
    "take_along": (
        Case((real(2, 4, seed=4), PLACES), picked(1), {"axis": 1}),
        Case((real(2, 4, seed=4), PLACES), picked(1), constant=(1,)),
        Case((real(3, 3, seed=5), PLACES), picked(0), {"axis": 0}),
        Case((real(4, seed=6), np.array([3, 3, 0])), picked(0), {"axis": 0}),
    ),
    "add_along": (
        Case((real(2, 3, seed=7), PLACES), collected(1, 4), {"axis": 1, "size": 4}),
        Case((real(2, 3, seed=7), PLACES), collected(1, 4), {"axis": -1, "size": 4}, constant=(1,)),
        Case((real(2, 3, seed=8), PLACES), collected(0, 3), {"axis": 0, "size": 3}),
    ),
}

"""Sets of input positions, many at once: a table of rows in index arrays, never a Python set for an element.

A node's dependence is an array of row numbers, one for each of its elements. Elements that depend on the same inputs
share a row, so views and gathers move row numbers and touch no set, and a broadcast costs nothing.
"""

from __future__ import annotations

import numpy as np

from hesse_engine.ir.graph import Array

EMPTY = 0  # the row that is the empty set, so that NumPy's zeros mean "no dependence"
MAX_ENTRIES = 1 << 26  # of all rows together; beyond it a union is replaced by one coarser set


class IndexSets:
    """Rows are subsets of {0, ..., size - 1}, sorted. Row 0 is empty, row 1 + k is {k}; equal rows may occur twice."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._starts = np.arange(-1, size)
        self._lengths = np.ones(size + 1, np.int64)
        self._starts[EMPTY] = self._lengths[EMPTY] = 0
        self._values = np.arange(size)
        self._rows, self._used = size + 1, size
        self._merged: dict[tuple[int, int], tuple[Array, Array, Array]] = {}
        self._pairs: dict[tuple[int, int], int] = {}
        self._known: dict[bytes, int] = {}

    def __len__(self) -> int:
        return self._rows

    def lengths(self, rows: Array) -> Array:
        """How many elements each of `rows` has."""
        found: Array = self._lengths[rows]
        return found

    def expand(self, rows: Array) -> tuple[Array, Array]:
        """(k, element) for every element of every rows[k], in the order of k."""
        lengths, starts = self._lengths[rows], self._starts[rows]
        width = int(lengths[0]) if len(lengths) else 0
        if (lengths == width).all():
            if width <= 1:
                return np.arange(len(rows) * width), self._values[starts[:len(rows) * width]]
            return np.repeat(np.arange(len(rows)), width), self._values[starts[:, None] + np.arange(width)].reshape(-1)
        owners = np.repeat(np.arange(len(rows)), lengths)
        before = np.cumsum(lengths) - lengths
        return owners, self._values[np.arange(len(owners)) + (starts - before)[owners]]

    def add(self, rows: Array) -> int:
        """The number of the union of `rows`."""
        return int(self.unions(np.zeros(len(rows), np.int64), rows, 1)[0])

    def unions(self, groups: Array, rows: Array, count: int) -> Array:
        """For each group k < count the number of the union of all rows[i] with groups[i] = k."""
        found = np.zeros(count, np.int64)
        keys = distinct((groups * self._rows + rows)[rows != EMPTY])
        groups, rows = keys // self._rows, keys % self._rows
        sizes = np.bincount(groups, minlength=count)
        single = sizes[groups] == 1
        found[groups[single]] = rows[single]
        if single.all():
            return found
        return self._append_unions(groups[~single], rows[~single], found)

    def _append_unions(self, groups: Array, rows: Array, found: Array) -> Array:
        """Unions of two rows or more; where they would be too long together, each is the union of all."""
        total = int(self._lengths[rows].sum())
        if self._used + total > MAX_ENTRIES:
            found[groups] = self._append(np.array([0]), np.flatnonzero(self.membership(rows)), 1)
            return found
        owners, values = self.expand(rows)
        keys = distinct(groups[owners] * self.size + values)
        owners, values = keys // self.size, keys % self.size
        present = distinct(groups)
        found[present] = self._append(np.searchsorted(present, owners), values, len(present))
        return found

    def _append(self, owners: Array, values: Array, count: int) -> Array:
        """`count` new rows; the elements of row k are those with owner k."""
        lengths = np.bincount(owners, minlength=count) if count > 1 else np.array([len(values)])
        self._values = _held(self._values, self._used, len(values))
        self._values[self._used:self._used + len(values)] = values
        self._starts, self._lengths = (_held(a, self._rows, count) for a in (self._starts, self._lengths))
        new = np.arange(self._rows, self._rows + count)
        self._starts[new], self._lengths[new] = self._used + np.cumsum(lengths) - lengths, lengths
        self._rows, self._used = self._rows + count, self._used + len(values)
        return new

    def merge(self, a: Array, b: Array) -> Array:
        """Row numbers of the unions, element by element; `a` and `b` have one shape."""
        if a is b:
            return a
        if a.size == 1:
            return self._merge_one(a, b)
        known = self._merged.get((id(a), id(b)))
        if known is not None:
            return known[2]
        result = np.where(a == EMPTY, b, a)
        differs = (a != b) & (a != EMPTY) & (b != EMPTY)
        if differs.any():
            keys = a[differs] * self._rows + b[differs]
            inverse: Array | None = None
            if not (keys[1:] > keys[:-1]).all():
                keys, inverse = np.unique(keys, return_inverse=True)
            count, split = len(keys), np.concatenate([keys // self._rows, keys % self._rows])
            united = self.unions(np.tile(np.arange(count), 2), split, count)
            result[differs] = united if inverse is None else united[inverse]
        self._merged[id(a), id(b)] = self._merged[id(b), id(a)] = a, b, result  # a, b are kept: ids stay theirs
        return result

    def _merge_one(self, a: Array, b: Array) -> Array:
        """As `merge` for one element: expressions of many scalars meet the same sets again and again."""
        p, q = int(a.flat[0]), int(b.flat[0])
        if EMPTY in (p, q) or p == q:
            return b if p == EMPTY else a
        pair = (p, q) if p < q else (q, p)
        found = self._pairs.get(pair)
        if found is None:
            values = distinct(np.concatenate([self.values(p), self.values(q)]))
            name = values.tobytes()
            found = self._known.get(name)
            if found is None:
                found = self._known[name] = int(self._append(np.array([0]), values, 1)[0])
            self._pairs[pair] = found
        return np.full(a.shape, found)

    def values(self, row: int) -> Array:
        """The elements of one row."""
        start = self._starts[row]
        found: Array = self._values[start:start + self._lengths[row]]
        return found

    def along(self, rows: Array, axes: tuple[int, ...]) -> Array:
        """Unions over `axes`."""
        kept = [k for k in range(rows.ndim) if k not in axes]
        shape = tuple([rows.shape[k] for k in kept])
        table = rows.transpose([*kept, *axes]).reshape(int(np.prod(shape)), -1)
        if table.shape[1] == 1:
            return table.reshape(shape)
        groups = np.repeat(np.arange(table.shape[0]), table.shape[1])
        return self.unions(groups, table.reshape(-1), table.shape[0]).reshape(shape)

    def membership(self, rows: Array) -> Array:
        """A boolean for each element: whether any of `rows` has it."""
        found = np.zeros(self.size, bool)
        found[self.expand(distinct(rows))[1]] = True
        return found


def distinct(keys: Array) -> Array:
    """The different ones, sorted; several times faster than `np.unique` on integers that are sorted already."""
    if len(keys) < 2:
        return keys
    if not (keys[1:] > keys[:-1]).all():
        keys = np.sort(keys)
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    return keys


def _held(array: Array, used: int, more: int) -> Array:
    """`array` with room for `more` beyond the first `used`; its length at least doubles when it grows."""
    if used + more <= len(array):
        return array
    grown = np.empty(max(2 * len(array), used + more), array.dtype)
    grown[:used] = array[:used]
    return grown

"""Where the entries of H are kept: for each layout, the places of contributions in one flat array of values.

    dense    row * n + column              packed   the upper triangle, row by row
    diag     row                           csr      the position in the sorted pattern

Places are forms wherever they can be: an affine one costs neither memory nor a look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse_engine.ir.graph import Array, Builder, Node, Shape
from hesse_engine.structure.contributions import affine, elements, table_key
from hesse_engine.structure.forms import contiguous
from hesse_engine.structure.images import Contribution, IndexImage
from hesse_engine.structure.pattern import Pattern
from hesse_engine.structure.periodic import periodic
from hesse_engine.structure.regions import Sink, Table
from hesse_engine.structure.scattering import TABLE_LIMIT

MIRROR_FREE = 4096  # entries of a dense H below which it is not worth a pass to make it symmetric


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """`size` values; `sinks` that add the weights to them; `pattern` of the csr layout.

    `is_half`: the values are T of H = T + T'.
    """

    size: int
    sinks: list[Sink]
    pattern: Pattern | None = None
    is_half: bool = False


SAMPLE = 4096  # entries of a table that are looked at


class TooManySlots(Exception):
    """Places do not fit the int32 of a table."""


def dense(found: Sequence[Contribution], n: int) -> Slots:
    """All of H. Where most of it is touched, one triangle's worth of additions is made and mirrored afterwards."""
    is_half = n * n > MIRROR_FREE and 4 * elements([c for c in found if c.is_mirrored]) > n * n
    tables, sinks = _Tables(), []
    for c in found:
        rows, columns, weight = c.rows, c.columns, c.weight
        if is_half:
            if not c.is_mirrored:
                weight = weight * 0.5
            if _pace(columns) > _pace(rows):  # the column is what moves in small steps: neighbors in memory
                rows, columns = columns, rows
        sinks.append(tables.sink(weight, _product(rows, n, columns), n * n))
        if c.is_mirrored and not is_half:
            sinks.append(tables.sink(weight, _product(columns, n, rows), n * n))
    return Slots(n * n, sinks, None, is_half)


def diag(found: Sequence[Contribution], n: int) -> Slots:
    """The diagonal; what lies beside it goes to a value of its own, at the end."""
    tables, sinks = _Tables(), []
    for c in found:
        if (c.rows.offset, c.rows.steps) == (c.columns.offset, c.columns.steps) and _same_table(c.rows, c.columns):
            sinks.append(tables.sink(c.weight, [(1, c.rows)], n))
        else:
            rows, columns = c.rows.index, c.columns.index
            if not (rows == columns).any():
                continue
            sinks.append(tables.at(c.weight, np.where(rows == columns, rows, n), n + 1))
        if c.is_mirrored:
            sinks.append(sinks[-1])
    return Slots(n + 1, sinks)


def packed(found: Sequence[Contribution], n: int) -> Slots:
    """Row i <= column j at i n - i (i - 1) / 2 + j - i; an entry of the diagonal takes both sides of a mirrored one."""
    tables, sinks = _Tables(), []
    size = n * (n + 1) // 2
    for c in found:
        rows, columns = c.rows.index, c.columns.index
        low, high = np.minimum(rows, columns), np.maximum(rows, columns)
        at = low * n - low * (low - 1) // 2 + high - low
        if c.is_mirrored:
            sinks.append(tables.at(c.weight, at, size + 1))
            if (low == high).any():
                sinks.append(tables.at(c.weight, np.where(low == high, at, size), size + 1))
        else:  # a whole block, or the diagonal: the lower triangle is not kept
            sinks.append(tables.at(c.weight, np.where(rows <= columns, at, size), size + 1))
    return Slots(size + 1, sinks)


def csr(found: Sequence[Contribution], n: int) -> Slots:
    """The sorted pattern of all places, and the position of each in it."""
    sides = [(c, r, k) for c in found for r, k in [(c.rows, c.columns), (c.columns, c.rows)][:1 + c.is_mirrored]]
    tables = _Tables()
    banded = periodic([(r, k) for _, r, k in sides], n)
    if banded is not None:
        pattern, starts = banded
        sinks = [
            tables.at(c.weight, at, pattern.nnz) if isinstance(at, np.ndarray)
            else Sink(c.weight, 0, at[0], at[1])
            for (c, _, _), at in zip(sides, starts, strict=True)
        ]
        return Slots(pattern.nnz, sinks, pattern)
    blocks = _Blocks([(r, k) for _, r, k in sides], n)
    sinks = []
    for k, (c, _, _) in enumerate(sides):
        offset, positions = blocks.positions(k)
        sinks.append(tables.at(c.weight, positions, blocks.pattern.nnz, offset))
    return Slots(blocks.pattern.nnz, sinks, blocks.pattern)


LAYOUTS = {"dense": dense, "diag": diag, "packed": packed, "csr": csr, "coo": csr}


class _Tables:
    """Makes sinks, and each table of offsets once."""

    def __init__(self) -> None:
        self._made: dict[Any, tuple[Node, Shape]] = {}
        self._at: dict[int, tuple[Array, tuple[int, Shape] | None, Node | None]] = {}

    def sink(self, weight: Node, parts: Sequence[tuple[int, IndexImage]], size: int) -> Sink:
        """At sum_p factor_p * image_p."""
        offset = sum([f * i.offset for f, i in parts])
        steps = tuple([sum(s) for s in zip(*[[f * s for s in i.steps] for f, i in parts], strict=True)])
        tables = [(f * i.scale, i.table) for f, i in parts if i.table is not None]
        offset += sum([f * int(t.flat[0]) for f, t in tables if _is_still(t)])
        tabled = [(f, t) for f, t in tables if not _is_still(t)]
        if len(tabled) == 2 and table_key(tabled[0][1]) == table_key(tabled[1][1]):
            tabled = [(tabled[0][0] + tabled[1][0], tabled[0][1])]
        if tabled and size >= TABLE_LIMIT:
            raise TooManySlots
        return Sink(weight, 0, offset, steps, tuple([self._table(weight.builder, t, f) for f, t in tabled]))

    def at(self, weight: Node, positions: Array, size: int, offset: int = 0) -> Sink:
        """At `positions` + offset, element by element."""
        known = self._at.get(id(positions))
        if known is None:
            form = affine(positions)
            node = None
            if form is None:
                if size >= TABLE_LIMIT:
                    raise TooManySlots
                node = weight.builder.table(np.ascontiguousarray(positions, np.int32))
            known = self._at[id(positions)] = positions, form, node
        _, form, node = known
        if form is not None:
            return Sink(weight, 0, form[0] + offset, form[1])
        assert node is not None
        return Sink(weight, 0, offset, (0,) * weight.ndim, (Table(node, contiguous(weight.shape)),))

    def _table(self, builder: Builder, table: Array, scale: int) -> Table:
        key = (table_key(table), scale)
        if key not in self._made:
            core = table[tuple([slice(None) if s else slice(0, 1) for s in table.strides])]
            compact = np.multiply(core, scale, dtype=np.int32, casting="unsafe", order="C")  # `inner` counts rows
            inner = contiguous(compact.shape)
            strides = tuple([i if s else 0 for i, s in zip(inner, table.strides, strict=True)])
            self._made[key] = builder.table(compact), strides
        return Table(*self._made[key])


def _is_still(table: Array) -> bool:
    """Whether a table has one number for all elements."""
    return table.size > 0 and not any([s for s, n in zip(table.strides, table.shape, strict=True) if n > 1])


def _product(rows: IndexImage, n: int, columns: IndexImage) -> list[tuple[int, IndexImage]]:
    return [(n, rows), (1, columns)]


def _pace(image: IndexImage) -> float:
    """How far an image moves from one element to the next; what does not move belongs in the rows."""
    for axis in reversed(range(len(image.shape))):
        if image.shape[axis] > 1:
            if image.table is not None and image.table.strides[axis]:
                sample = np.moveaxis(image.table, axis, -1)[(0,) * (image.table.ndim - 1)][:SAMPLE]
                changes = float((sample[1:] != sample[:-1]).mean())
                return -changes
            return float(abs(image.steps[axis])) or float("inf")
    return 0.0


def _same_table(a: IndexImage, b: IndexImage) -> bool:
    if a.table is None or b.table is None:
        return a.table is None and b.table is None
    return a.scale == b.scale and table_key(a.table) == table_key(b.table)


class _Blocks:
    """The pattern by sorting, in square blocks of the largest size g for which every block is full.

    Row g I + c, column g J + d: the pattern of the blocks (I, J) is found once for all c, d.
    """

    def __init__(self, sides: Sequence[tuple[IndexImage, IndexImage]], n: int) -> None:
        self.sides, self.size = sides, _block_size(sides, n)
        g = self.size
        self.keys = [(_block_key(r, g), _block_key(k, g)) for r, k in sides]
        pairs: dict[Any, tuple[Array, Array]] = {}
        for key, (r, k) in zip(self.keys, sides, strict=True):
            if key not in pairs:
                pairs[key] = _block_index(r, g), _block_index(k, g)
        count = n // g if g else 0
        joined = [rows.reshape(-1) * count + columns.reshape(-1) for rows, columns in pairs.values()]
        number, keys = ranks(np.concatenate(joined) if joined else np.zeros(0, np.int64))
        self.rows = keys // max(count, 1)
        counts = np.bincount(self.rows, minlength=count)
        self.start = np.concatenate([[0], np.cumsum(counts)])
        self.counts = counts
        at = 0
        self.pairs: dict[Any, tuple[Array, Array]] = {}
        for key, (rows, _) in pairs.items():
            self.pairs[key] = rows, number[at:at + rows.size].reshape(rows.shape)
            at += rows.size
        self._found: dict[Any, Array] = {}
        self.pattern = self._scalar_pattern(n, keys - self.rows * count)

    def _entry(self, rows: Array, number: Array, c: int) -> Array:
        """Positions of the entries (g I + c, g J): g g start_I + c g count_I + g (number - start_I)."""
        g = self.size
        if g == 1:
            return number
        found: Array = g * (g - 1) * self.start[rows] + c * g * self.counts[rows] + g * number
        return found

    def _scalar_pattern(self, n: int, columns: Array) -> Pattern:
        g = self.size
        if g == 1:
            return Pattern((n, n), self.start.astype(np.int32), columns.astype(np.int32))
        indices = np.empty(g * g * len(columns), np.int32)
        inner = np.arange(g)
        wide = (g * columns[:, None] + inner).astype(np.int32)
        for c in range(g):
            indices[self._entry(self.rows, np.arange(len(columns)), c)[:, None] + inner] = wide
        indptr = np.concatenate([[0], np.cumsum(np.repeat(self.counts * g, g))])
        return Pattern((n, n), indptr.astype(np.int32), indices)

    def positions(self, k: int) -> tuple[int, Array]:
        """(offset, positions) of side k; sides of one block row share an array."""
        (rows, columns), key, g = self.sides[k], self.keys[k], self.size
        c = rows.offset % g
        if (key, c) not in self._found:
            self._found[key, c] = self._entry(*self.pairs[key], c)
        return columns.offset % g, self._found[key, c]


def ranks(keys: Array) -> tuple[Array, Array]:
    """(the rank of each key among the distinct ones, the distinct keys in order)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_first = np.ones(len(keys), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    number = np.empty(len(keys), np.int64)
    number[order] = np.cumsum(is_first) - 1
    return number, ordered[is_first]


def _block_size(sides: Sequence[tuple[IndexImage, IndexImage]], n: int) -> int:
    """The largest g that divides n and every step, if the offsets of each block pair cover all of it; else 1."""
    numbers = [n]
    for pair in sides:
        for image in pair:
            numbers += [s for s, length in zip(image.steps, image.shape, strict=True) if length > 1]
            numbers += [image.scale] if image.table is not None else []
    g = int(np.gcd.reduce(numbers)) if sides else 1
    if g <= 1:
        return 1
    inside: dict[Any, set[tuple[int, int]]] = {}
    for r, k in sides:
        inside.setdefault((_block_key(r, g), _block_key(k, g)), set()).add((r.offset % g, k.offset % g))
    return g if all([len(offsets) == g * g for offsets in inside.values()]) else 1


def _block_key(image: IndexImage, g: int) -> Any:
    table = None if image.table is None else table_key(image.table)
    return image.shape, image.offset // g, image.steps, image.scale, table


def _block_index(image: IndexImage, g: int) -> Array:
    steps = tuple([s // g for s in image.steps])
    return IndexImage(image.shape, image.offset // g, steps, image.table, image.scale // g).index

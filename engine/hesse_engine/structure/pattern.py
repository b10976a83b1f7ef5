"""Sparsity patterns: the entries of a Jacobian or a Hessian that may differ from 0. Never too few.

    Jacobian   row e is the set of inputs that output element e may depend on
    Hessian    from the quadratic form of edge pushing, where there is one: the pairs of its images;
               else from interaction: phi_ab != 0 at a live element e makes every input of a[e] meet every one of b[e]

Second source: A. Walther, Computing sparse Hessians with automatic differentiation, ACM Trans. Math. Softw. 34 (2008),
nonlinear interaction domains; one boolean product of index sets in the place of a loop over elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hesse_engine.ir.graph import Array, Node, flat, size_of
from hesse_engine.ir.rows import ROWS
from hesse_engine.structure.dependence import (
    MATRICES,
    Dependence,
    contraction_labels,
    curved_pairs,
    matrix_rows,
    spread,
)
from hesse_engine.structure.images import IndexImage, MatrixImage
from hesse_engine.structure.pushing import QuadraticForm
from hesse_engine.structure.sets import EMPTY, IndexSets, distinct

MAX_NNZ = 1 << 28  # entries of a pattern; what has more is not worth one
BITMAP = 1 << 24  # a matrix of up to so many entries, and 16 for each one found, is marked in booleans, not by keys
CHUNK = 1 << 22  # entries made at once
MAX_PRODUCTS = 1 << 30  # entries made in all, repetitions counted
MAX_BLOCK = 1 << 26  # entries of a full matrix that are listed, and of one product of sets
PAIRS = 1 << 18  # terms of a product of two variable arrays that are looked at one by one; 10 ms


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """Compressed rows: the columns of row i are `indices[indptr[i]:indptr[i + 1]]`, sorted; both int32."""

    shape: tuple[int, int]
    indptr: Array
    indices: Array

    @property
    def nnz(self) -> int:
        return len(self.indices)

    @property
    def rows(self) -> Array:
        """The row of each entry."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int32), np.diff(self.indptr))

    def transposed(self) -> Pattern:
        """The pattern of the transposed matrix."""
        high, wide = self.shape
        keys = np.sort(self.indices.astype(np.int64) * high + self.rows)
        return from_keys(keys, (wide, high))

    def to_dense(self) -> Array:
        """The pattern as booleans."""
        marks = np.zeros(self.shape, bool)
        marks[self.rows, self.indices] = True
        return marks

    def selected(self, kept: Array) -> Pattern:
        """The entries where the boolean `kept` holds."""
        counts = np.bincount(self.rows[kept], minlength=self.shape[0])
        return Pattern(self.shape, _pointers(counts), self.indices[kept])


def from_keys(keys: Array, shape: tuple[int, int]) -> Pattern:
    """The pattern with the entries row * width + column, sorted and distinct."""
    rows = keys // max(shape[1], 1)
    indices = (keys - rows * shape[1]).astype(np.int32)
    return Pattern(shape, _pointers(np.bincount(rows, minlength=shape[0])), indices)


def dense_pattern(shape: tuple[int, int]) -> Pattern:
    """Every entry."""
    high, wide = shape
    indices = np.tile(np.arange(wide, dtype=np.int32), high)
    return Pattern(shape, np.arange(high + 1, dtype=np.int32) * np.int32(wide), indices)


def _pointers(counts: Array) -> Array:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def jacobian_pattern(outputs: Sequence[Node], wrt: Sequence[Node]) -> Pattern | None:
    """Of d outputs / d wrt, both flattened one after the other; None where it has too many entries to be of use."""
    known = Dependence(outputs, wrt)
    rows = np.concatenate([known.of(y).reshape(-1) for y in outputs]) if outputs else np.zeros(0, np.int64)
    lengths = known.sets.lengths(rows)
    if int(lengths.sum()) > MAX_NNZ:
        return None
    indices = known.sets.expand(rows)[1].astype(np.int32)
    return Pattern((len(rows), known.sets.size), _pointers(lengths), indices)


def hessian_pattern(output: Node, wrt: Sequence[Node], form: QuadraticForm | None = None) -> Pattern | None:
    """Of d² output / d wrt²; None where it has too many entries to be of use. It is symmetric."""
    entries = _Entries(flat(wrt))
    if form is None or form.outer or form.products or not _add_form(form, entries):
        entries = _Entries(flat(wrt))
        if not _add_interactions(output, wrt, entries):
            return None
    return entries.pattern()


class _Entries:
    """Entries of a symmetric matrix, collected from either triangle."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._is_full = False
        self._marks: Array | None = None
        self._keys: list[Array] = []
        self._held = 0

    def expect(self, count: int) -> None:
        """`count` entries will be added, repetitions counted."""
        if self._marks is None and self.size**2 <= min(BITMAP, 16 * count):
            self._marks = np.zeros(self.size**2, bool)

    def fill(self) -> None:
        """Every entry is in."""
        self._is_full = True

    def add(self, rows: Array, columns: Array) -> None:
        keys = (rows * self.size + columns).reshape(-1)
        if self._marks is not None:
            self._marks[keys] = True
            return
        self._keys.append(distinct(keys))
        self._held += len(self._keys[-1])
        if self._held > 8 * CHUNK:
            self._keys = [distinct(np.concatenate(self._keys))]
            self._held = len(self._keys[0]) // 2  # so that the next time is not at once

    def pattern(self) -> Pattern | None:
        shape = (self.size, self.size)
        if self._is_full:
            return dense_pattern(shape) if self.size**2 <= MAX_BLOCK else None
        if self._marks is not None and not self._keys:
            marks = self._marks.reshape(shape)
            marks |= marks.T.copy()
            if marks.all():
                return dense_pattern(shape)
            return from_keys(np.flatnonzero(marks), shape)
        marked = np.zeros(0, np.int64) if self._marks is None else np.flatnonzero(self._marks)
        keys = np.concatenate([marked, *self._keys])
        rows = keys // self.size
        mirrored = (keys - rows * self.size) * self.size + rows
        keys = distinct(np.concatenate([keys, mirrored]))
        return from_keys(keys, shape) if len(keys) <= MAX_NNZ else None


# ---- from a quadratic form over images -------------------------------------------------------------------------------
def _add_form(form: QuadraticForm, entries: _Entries) -> bool:
    """The entries that the pairs of images reach; False where they are too many to be listed."""
    matrices = [i.matrix for pair in form.pairs for i in (form.images[pair[0]], form.images[pair[1]])
                if isinstance(i, MatrixImage)]
    known = Dependence([*[w for _, _, w in form.pairs], *matrices], [])
    entries.expect(sum([w.size for _, _, w in form.pairs]))
    for a, b, weight in form.pairs:
        mask = known.nonzero(weight)
        left, right = form.images[a], form.images[b]
        if mask is not None and not mask.any():
            continue
        if isinstance(left, IndexImage) and isinstance(right, IndexImage):
            chosen = slice(None) if mask is None else mask.reshape(-1)
            entries.add(left.index.reshape(-1)[chosen], right.index.reshape(-1)[chosen])
            continue
        if isinstance(left, IndexImage):
            left, right = right, left
        assert isinstance(left, MatrixImage)
        if not _add_matrix_pair(known, left, right, weight.size, entries):
            return False
    return True


def _add_matrix_pair(
    known: Dependence, left: MatrixImage, right: IndexImage | MatrixImage, size: int, entries: _Entries
) -> bool:
    """columns[b, k] meets index[b, e] where A[e, k] != 0, and columns[b, l] where A[:, k] meets B[:, l]."""
    batches, terms = left.columns.shape
    zeros = known.nonzero(left.matrix)
    if isinstance(right, IndexImage):
        others = right.index.transpose(left.order).reshape(batches, -1)
        touched = None if zeros is None else zeros.T
    else:
        others, theirs = right.columns, known.nonzero(right.matrix)
        touched = _met(left.matrix, zeros, right.matrix, theirs)
    if batches * terms * others.shape[1] > max(MAX_PRODUCTS // 8, 1):
        return False
    shape = (batches, terms, others.shape[1])
    entries.expect(batches * terms * others.shape[1])
    rows, columns = (np.broadcast_to(a, shape) for a in (left.columns[:, :, None], others[:, None, :]))
    if touched is None:
        entries.add(rows, columns)
    else:
        entries.add(rows[:, touched], columns[:, touched])
    return True


def _met(a: Node, mine: Array | None, b: Node, theirs: Array | None) -> Array | None:
    """Which columns of A and B have a row in which both are not 0; None: all."""
    if mine is None and theirs is None:
        return None
    left, right = (np.ones(n.shape, bool) if m is None else m for n, m in ((a, mine), (b, theirs)))
    met: Array = left.T.astype(np.float32) @ right.astype(np.float32) > 0
    return met


# ---- from interactions -----------------------------------------------------------------------------------------------
def _add_interactions(output: Node, wrt: Sequence[Node], entries: _Entries) -> bool:
    """The entries that nonlinear nodes reach; False where they are too many to be listed."""
    known = Dependence([output], wrt)
    live = known.live([output])
    found, single = [np.zeros((0, 2), np.int64)], set[tuple[int, int]]()
    for node in known.order:
        mask = live.get(node)
        if mask is None or node in known.wrt or node not in known.active or not mask.any():
            continue
        for a, b in _interacting(known, node, mask):
            if a.size == 1:
                single.add((int(a.flat[0]), int(b.flat[0])))
                continue
            pairs = np.sort(np.stack([a.reshape(-1), b.reshape(-1)], 1), axis=1)
            pairs = _distinct_pairs(pairs[pairs[:, 0] != EMPTY], len(known.sets))
            if (known.sets.lengths(pairs) == entries.size).all(1).any():
                entries.fill()
                return True
            found.append(pairs)
    found.append(np.sort(np.array([p for p in single if EMPTY not in p], np.int64).reshape(-1, 2), axis=1))
    pairs = _distinct_pairs(np.concatenate(found), len(known.sets))
    return _add_products(known.sets, pairs, entries)


def _distinct_pairs(pairs: Array, count: int) -> Array:
    keys = distinct(pairs[:, 0] * count + pairs[:, 1])
    return np.stack([keys // count, keys % count], 1)


def _interacting(known: Dependence, node: Node, mask: Array) -> Iterator[tuple[Array, Array]]:
    """Row numbers that meet in a second derivative of the elements `mask` of `node`."""
    row = ROWS[node.op]
    if row.vm is not None:
        for i, j in curved_pairs(node):
            a, b = node.args[i], node.args[j]
            if a in known.active and b in known.active:
                yield known.of(a)[mask], known.of(b)[mask]
    elif node.op == "contract":
        if all([a in known.active for a in node.args]):
            yield _contracted_pairs(known, node, mask)
    elif row.kind not in ("linear", "leaf") and node.op not in ("max", "min"):  # max, min: linear between ties
        if all([k in row.linear_slots(node) for k, a in enumerate(node.args) if a in known.active]):
            return
        if node.op in MATRICES:
            live = mask.any(tuple(range(node.args[0].ndim - 2, node.ndim)))
            whole = matrix_rows(known, node)[live]
        else:
            rows = np.concatenate([known.of(a).reshape(-1) for a in node.args if a in known.active])
            whole = np.array([known.sets.add(rows)])
        yield whole, whole


def _contracted_pairs(known: Dependence, node: Node, mask: Array) -> tuple[Array, Array]:
    """a[i, k] meets b[k, j] where the sum over k is live; beyond a limit all a[i, :] meet all b[:, j]."""
    labels, lengths = contraction_labels(node)
    out = labels[2]
    rows, owns = [known.of(a) for a in node.args], list(labels[:2])
    letters = out + "".join([c for c in labels[0] if c not in out])
    if size_of(tuple(lengths.values())) > PAIRS:
        letters = out
        for slot, own in enumerate(owns):
            rows[slot] = known.sets.along(rows[slot], tuple([k for k, c in enumerate(own) if c not in out]))
            owns[slot] = "".join([c for c in own if c in out])
    wide = spread(mask, out, letters, lengths)
    a, b = (spread(r, own, letters, lengths)[wide] for r, own in zip(rows, owns, strict=True))
    return a, b


def _add_products(sets: IndexSets, pairs: Array, entries: _Entries) -> bool:
    left, right = pairs[:, 0], pairs[:, 1]
    sizes = sets.lengths(left) * sets.lengths(right)
    if len(sizes) and sizes.max() == entries.size**2:
        entries.fill()
        return True
    if len(sizes) and sizes.max() > MAX_BLOCK:
        return False
    if int(sizes.sum()) > max(4 * entries.size**2, CHUNK):
        # the same rows again and again: first unite what each of the left rows meets
        present, groups = np.unique(left, return_inverse=True)
        left, right = present, sets.unions(groups, right, len(present))
        sizes = sets.lengths(left) * sets.lengths(right)
    if int(sizes.sum()) > MAX_PRODUCTS:
        return False
    entries.expect(int(sizes.sum()))
    ends = np.cumsum(sizes)
    at = 0
    while at < len(left):
        until = max(at + 1, int(np.searchsorted(ends, (ends[at - 1] if at else 0) + CHUNK, side="right")))
        owners, rows = sets.expand(left[at:until])
        again, columns = sets.expand(right[at:until][owners])
        entries.add(rows[again], columns)
        at = until
    return True

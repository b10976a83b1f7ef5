"""Patterns made of diagonals with one step, found without sorting: banded sums of any length.

Every side runs along (r + s t, c + s t), t = 0 .. count - 1. Between two ends of such runs the rows repeat with period
s, so the pattern is a few strided copies and most positions are affine.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hesse_engine.ir.graph import Array, Shape
from hesse_engine.structure.images import IndexImage
from hesse_engine.structure.pattern import Pattern

LONG = 4096  # elements in all; below, sorting takes no longer
MAX_SIDES = 128

Start = Array | tuple[int, Shape]


def periodic(sides: Sequence[tuple[IndexImage, IndexImage]], n: int) -> tuple[Pattern, list[Start]] | None:
    """The pattern of (rows(e), columns(e)) over all sides, and per side its positions: (offset, steps) or an array.

    None where the sides are not all of this kind, or too short to be worth it.
    """
    step = _common_step(sides)
    if step is None:
        return None
    runs = [(r.offset, k.offset - r.offset, r.shape[0] if r.shape else 1) for r, k in sides]
    cuts = _cuts(runs, step, n)
    counts = np.zeros(n, np.int64)
    pieces = []  # (first row, periods, for each residue its sorted diagonals)
    for low, high in itertools.pairwise(cuts):
        active = _diagonals(runs, step, low, high)
        pieces.append((low, high, active))
        for residue, diagonals in enumerate(active):
            counts[low + residue:high:step] = len(diagonals)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    indices = np.empty(int(indptr[-1]), np.int32)
    for low, high, active in pieces:
        period = sum([len(d) for d in active])
        at = int(indptr[low])
        for residue, diagonals in enumerate(active):
            rows = np.arange(low + residue, high, step, dtype=np.int32)
            for diagonal in diagonals:
                # the last period of a piece may be cut short, so the number of rows decides
                indices[at:at + (len(rows) - 1) * period + 1:period] = rows + diagonal
                at += 1
    pattern = Pattern((n, n), indptr.astype(np.int32), indices)
    return pattern, [_positions(run, side, step, pieces, indptr) for run, side in zip(runs, sides, strict=True)]


def _common_step(sides: Sequence[tuple[IndexImage, IndexImage]]) -> int | None:
    steps = set()
    if not sides or len(sides) > MAX_SIDES or sum([r.shape[0] for r, _ in sides if r.shape]) < LONG:
        return None
    for pair in sides:
        for image in pair:
            if image.table is not None or len(image.shape) > 1:
                return None
            if image.shape and image.shape[0] > 1:
                steps.add(image.steps[0])
    if len(steps) != 1 or min(steps) <= 0:
        return None
    return steps.pop()


def _cuts(runs: Sequence[tuple[int, int, int]], step: int, n: int) -> list[int]:
    """Rows between which, residue by residue, the same diagonals occur in every period."""
    ends = {0, n}
    for row, _, count in runs:
        ends.update((row, min(n, row + step * (count - 1) + 1)))
    return sorted(ends)


def _diagonals(runs: Sequence[tuple[int, int, int]], step: int, low: int, high: int) -> list[list[int]]:
    """For each residue of the row, counted from `low`: the diagonals of the runs that pass there."""
    found: list[set[int]] = [set() for _ in range(min(step, high - low))]
    for row, diagonal, count in runs:
        residue = (row - low) % step
        if row <= low + residue and residue < len(found) and low + residue <= row + step * (count - 1):
            found[residue].add(diagonal)
    return [sorted(d) for d in found]


def _positions(
    run: tuple[int, int, int], side: tuple[IndexImage, IndexImage], step: int,
    pieces: Sequence[tuple[int, int, list[list[int]]]], indptr: Array,
) -> Start:
    """Piece by piece: indptr[row] + the rank of the diagonal in that row."""
    row, diagonal, count = run
    shape = side[0].shape
    parts: list[tuple[int, int, int]] = []  # (position, stride, how many)
    for low, high, active in pieces:
        first = row if row >= low else low + (row - low) % step
        last = min(high - 1, row + step * (count - 1))
        if first > last:
            continue
        diagonals = active[(first - low) % step]
        position = int(indptr[first]) + diagonals.index(diagonal)
        parts.append((position, sum([len(d) for d in active]), (last - first) // step + 1))
    start, stride, many = parts[0]
    if many == 1 and len(parts) > 1:
        stride = parts[1][0] - start
    at, is_affine = start, True
    for position, own_stride, many in parts:
        is_affine = is_affine and position == at and (many == 1 or own_stride == stride)
        at += many * stride
    if is_affine:
        return start, (stride if count > 1 else 0,) * len(shape)
    joined = np.concatenate([position + own_stride * np.arange(many) for position, own_stride, many in parts])
    return joined.reshape(shape)

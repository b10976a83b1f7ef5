"""Sums of shifted arrays without a pass that zeroes them first.

    y[i + c] += a[i],  y[i + d] += b[i],  c > d,    i ascending

The term that is furthest ahead reaches each element first, so it may store where the others add: y is written once and
read while it is still in the cache. Only what the leading term does not reach starts as zero. Over threads, the last
strip of each piece is left for the end, when it adds every term, to elements that started as zero too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.emit import Emitted
from hesse_engine.backend.split import Interval, Piece, Split


@dataclass(frozen=True, slots=True)
class Lead:
    """`code` stores the leading terms; `starts` are the elements of buffers at which they do. `is_whole`: all that the
    region adds is led, and no shift is longer than a strip."""

    code: Emitted
    starts: dict[int, int]
    is_whole: bool

    def zeros(self, buffer: int, size: int, seams: Iterable[Piece]) -> tuple[Interval, ...]:
        """The elements of `buffer` that have to start as zero."""
        start = self.starts[buffer]
        return ((0, start), (start + self.code.axes.inner, size), *[(start + a, start + b) for _, a, b in seams])

    def split(self, count: int) -> Split | None:
        """Pieces for `count` threads, then the strips between them; None where they would not write apart."""
        code = self.code
        strips = -(-code.axes.inner // oc.STRIP)
        if not self.is_whole or strips < 4 * count:
            return None
        cuts = [min(strips * k // count * oc.STRIP, code.axes.inner) for k in range(count + 1)]
        seams = tuple([(-1, b - oc.STRIP, b) for b in cuts[1:-1]])
        pieces = tuple([(-1, a, b - oc.STRIP if b < cuts[-1] else b) for a, b in pairwise(cuts)])
        return Split((pieces, seams), tuple(sorted({code.addresses[a][0] for a in code.reducing})))


def lead(code: Emitted, buffers: Iterable[int]) -> Lead | None:
    """The lead in `buffers`, which nothing but `code` adds into; None where no term leads."""
    if code.axes.outer or code.axes.inner == 1:
        return None
    order = [int(at) for op, at in code.code[:, [0, 3]] if op == oc.ADD]
    leading: dict[int, int] = {}
    reach = 0
    for buffer in buffers:
        terms = [at for at, _ in code.added if code.addresses[at][0] == buffer]
        offsets = {at: code.addresses[at][1] for at in terms}
        first = next((at for at in order if at in offsets), -1)
        if set(terms) <= set(order) and len(order) == len(set(order)) and first >= 0 and all(
                [code.axes.inner_steps[at] == 1 for at in terms]) and offsets[first] == max(offsets.values()):
            leading[buffer] = first
            reach = max(reach, offsets[first] - min(offsets.values()))
    if not leading:
        return None
    words = code.code.copy()
    words[(words[:, 0] == oc.ADD) & np.isin(words[:, 3], list(leading.values())), 0] = oc.STORE
    is_whole = reach <= oc.STRIP and all([code.addresses[at][0] in leading for at, _ in code.added])
    return Lead(replace(code, code=words), {b: code.addresses[at][1] for b, at in leading.items()}, is_whole)

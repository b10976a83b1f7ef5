"""A region over several threads: pieces of its iteration space, and what must not be written by two of them at once.

Along the axis that is cut, a piece writes memory of its own, or memory that only its neighbors write too (then pieces
run in two rounds, every other one), or it adds into a small copy of its own, summed up after the last round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.emit import Emitted
from hesse_engine.ir.graph import Array

PRIVATE_BYTES = 1 << 20  # of a target that each piece may have a copy of

Piece = tuple[int, int, int]  # axis (-1 the inner one), start, stop
Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Split:
    """`rounds` of pieces that may run at once; `private`: buffers that every piece but the first has a copy of."""

    rounds: tuple[tuple[Piece, ...], ...]
    private: tuple[int, ...]


def split(code: Emitted, count: int, tables: Mapping[int, Array], lengths: Sequence[int]) -> Split | None:
    """Pieces for `count` threads; None where no axis can be cut.

    Strips stay whole, so without private copies the bits do not depend on the number of pieces. `tables`: the offsets
    in each buffer that holds a table; `lengths`: bytes of the buffers.
    """
    best: Split | None = None
    for axis in [*range(len(code.axes.outer)), -1]:
        for rounds in (1, 2):
            found = _along(code, axis, rounds, count, tables, lengths)
            if found is not None and not found.private:
                return found
            best = best or found
    return best


def _along(
    code: Emitted, axis: int, rounds: int, count: int, tables: Mapping[int, Array], lengths: Sequence[int]
) -> Split | None:
    axes, total = code.axes, rounds * count
    length = axes.outer[axis] if axis >= 0 else -(-axes.inner // oc.STRIP)
    if length < total or (rounds == 2 and not code.added):
        return None
    cuts = [length * k // total for k in range(total + 1)]
    if axis < 0:
        cuts = [min(c * oc.STRIP, axes.inner) for c in cuts]
    pieces = [(axis, a, b) for a, b in pairwise(cuts)]
    private = {code.addresses[a][0] for a in code.reducing if _stride(code, a, axis) == 0}
    hulls: dict[int, list[Interval]] = {}
    for address, offsets in code.added:
        spans = [_reach(code, address, offsets, piece, tables) for piece in pieces]
        buffer = code.addresses[address][0]
        before = hulls.get(buffer, spans)
        hulls[buffer] = [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(before, spans, strict=True)]
    for buffer, spans in hulls.items():
        if not _are_apart(spans, rounds):
            private.add(buffer)
    if any([lengths[b] > PRIVATE_BYTES for b in private]):
        return None
    return Split(tuple([tuple(pieces[k::rounds]) for k in range(rounds)]), tuple(sorted(private)))


def _stride(code: Emitted, address: int, axis: int) -> int:
    return code.axes.inner_steps[address] if axis < 0 else code.axes.outer_strides[address][axis]


def _reach(
    code: Emitted, address: int, offsets: Sequence[int], piece: Piece, tables: Mapping[int, Array]
) -> Interval:
    """The least and the largest element that `piece` adds into."""
    low, high = _extent(code, address, piece)
    for table in offsets:
        first, last = _extent(code, table, piece)
        used = tables[code.addresses[table][0]].reshape(-1)[first:last + 1]
        low, high = low + int(used.min()), high + int(used.max())
    return low, high


def _extent(code: Emitted, address: int, piece: Piece) -> Interval:
    """The least and the largest element of `address` over `piece`."""
    axes, (axis, start, stop) = code.axes, piece
    low = high = code.addresses[address][1]
    lengths = [*enumerate(axes.outer), (-1, axes.inner)]
    for k, length in lengths:
        stride = _stride(code, address, k)
        a, b = (start, stop - 1) if k == axis else (0, length - 1)
        low, high = low + min(a * stride, b * stride), high + max(a * stride, b * stride)
    return low, high


def _are_apart(spans: Sequence[Interval], distance: int) -> bool:
    """Whether pieces at least `distance` from each other write apart."""
    for i, (low, high) in enumerate(spans):
        for other_low, other_high in spans[i + distance:]:
            if low <= other_high and other_low <= high:
                return False
    return True

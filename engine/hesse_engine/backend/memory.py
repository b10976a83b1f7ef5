"""One arena for what a program computes on the way: 64-byte aligned, first fit, reused once the last reader has run."""

from __future__ import annotations

from collections.abc import Sequence

from hesse_engine.ir.graph import Array

ALIGNMENT = 64


def address_of(array: Array) -> int:
    found: int = array.__array_interface__["data"][0]
    return found


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def place(spans: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets for (bytes, first step, last step), ordered by first step, and the arena's size.

    Two spans share bytes only if one's last step comes before the other's first.
    """
    offsets: list[int] = []
    live: list[tuple[int, int, int]] = []  # (offset, end, last step), by offset
    top = 0
    for size, first, last in spans:
        live = [block for block in live if block[2] >= first]
        need, at, position = aligned(size), 0, len(live)
        for k, (start, end, _) in enumerate(live):
            if start - at >= need:
                position = k
                break
            at = end
        live.insert(position, (at, at + need, last))
        offsets.append(at)
        top = max(top, at + need)
    return offsets, top

"""The iteration space of a region: axes merged where all addresses allow it, and a long one innermost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hesse_engine.backend.opcodes import STRIP
from hesse_engine.ir.graph import Shape

Strides = tuple[int, ...]
Axis = tuple[int, Strides]  # length, and the stride of each address along it

# Nanoseconds, measured: a strip's fixed cost, an instruction's, an address's, and an element read with a stride.
_STRIP_NS, _CODE_NS, _ADDRESS_NS, _STRIDED_NS = 12.0, 6.0, 3.0, 0.6


@dataclass(frozen=True, slots=True)
class Axes:
    """Outer lengths, the inner length, and per address its inner step and outer strides, in elements.

    `is_tiled`: strips of the inner axis are the outermost loop, because memory is contiguous along another axis.
    """

    outer: tuple[int, ...]
    inner: int
    inner_steps: Strides
    outer_strides: tuple[Strides, ...]
    is_uniform: tuple[bool, ...]
    is_tiled: bool

    @property
    def elements(self) -> int:
        count = self.inner
        for length in self.outer:
            count *= length
        return count


def plan_axes(shape: Shape, strides: Sequence[Strides], stores: set[int], reducing: Sequence[int], nodes: int) -> Axes:
    """The cheapest order found for addresses with `strides`; no length may be 0."""
    axes = merge([a for a in zip(shape, zip(*strides, strict=True), strict=True) if a[0] != 1])
    position = len(axes) - 1
    if len(axes) > 1:
        position = min(range(len(axes)), key=lambda k: (_cost(axes, k, nodes), -k))
        is_last = position == len(axes) - 1
        axes = [*merge(axes[:position] + axes[position + 1:]), axes[position]]
    else:
        is_last = True
    count = len(strides)
    inner, steps = axes[-1] if axes else (1, (0,) * count)
    outer = axes[:-1]
    if inner == 1:  # one element: any step will do, and a store has to be contiguous
        steps = tuple([1 if k in stores else 0 for k in range(count)])
    columns = tuple(zip(*[s for _, s in outer], strict=True)) if outer else ((),) * count
    uniform = tuple([s == 0 and not any(c) for s, c in zip(steps, columns, strict=True)])
    return Axes(tuple([n for n, _ in outer]), inner, steps, columns, uniform, not is_last)


def merge(axes: Sequence[Axis]) -> list[Axis]:
    """Neighbors become one axis where every address steps through both as through one."""
    found: list[Axis] = []
    for length, strides in axes:
        if found:
            before, wide = found[-1]
            if all([w == s * length for w, s in zip(wide, strides, strict=True)]):
                found[-1] = (before * length, strides)
                continue
        found.append((length, strides))
    return found


def _cost(axes: Sequence[Axis], inner: int, nodes: int) -> float:
    """Estimated nanoseconds with axis `inner` innermost."""
    total = 1
    for length, _ in axes:
        total *= length
    length, steps = axes[inner]
    strips = total // length * -(-length // STRIP)
    strided = sum([s not in (0, 1) for s in steps])
    fixed = _STRIP_NS + _CODE_NS * (nodes + len(steps)) + _ADDRESS_NS * len(steps)
    return strips * fixed + _STRIDED_NS * strided * total

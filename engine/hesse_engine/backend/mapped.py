"""A program over many points: the function's graph batched, run piece by piece over the points.

The caller's points are on a leading axis; inside, the batch axis is the last, where a piece of it stays in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from hesse_engine import progress
from hesse_engine.backend.program import Program, build_program
from hesse_engine.backend.workspace import executor
from hesse_engine.ir.graph import Array, Node
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.simplify.passes import simplify_nodes
from hesse_engine.transforms.batch import batch, from_last, to_last

PIECE_BYTES = 1 << 20  # 100,000 Hessians of 6 variables: 6.5 ms in pieces of 1 MB, 12 ms in pieces of 256 kB
LANES = 8  # doubles in the widest vector register


class MappedProgram:
    """`outputs` at each of `count` points.

    Args:
        inputs: of the function of one point, in the order in which `run` takes arrays.
        outputs: nodes of the function of one point.
        mapped: the inputs whose arrays have the points on a leading axis.
        count: how many points.
        is_mapped: for each output, whether it gets the leading axis (repeated where it depends on no point); one that
            does not must depend on none.
        cap: most points at once; None leaves it to the cache model.
        threads: how many threads the pieces, or the regions of a single piece, may use.
        tier: as of a program.
    """

    def __init__(
        self, inputs: Sequence[Node], outputs: Sequence[Node], mapped: Collection[Node], count: int, *,
        is_mapped: Sequence[bool], cap: int | None, threads: int, tier: str,
    ) -> None:
        self.count, self.threads, self.mapped = count, threads, [n in mapped for n in inputs]
        self.is_mapped = list(is_mapped)
        live = dependents(reachable(outputs), mapped)
        widest = max([n.size for n in live], default=1)
        itemsize = max([n.dtype.itemsize for n in outputs], default=8)
        self.width = piece_width(count, widest * itemsize, cap)
        self.chunks = -(-count // self.width)
        points = {n: n.builder.input(n.attrs["name"], (self.width, *n.shape), n.dtype) for n in mapped}
        replaced = {n: to_last(many, 0) for n, many in points.items()}
        batched = batch([n for n, m in zip(outputs, self.is_mapped, strict=True) if m], replaced, self.width)
        found = iter([from_last(n, 0) for n in batched])
        self.outputs = simplify_nodes([next(found) if m else n for n, m in zip(outputs, self.is_mapped, strict=True)])
        self.program: Program = build_program(
            [points.get(n, n) for n in inputs], self.outputs, threads=threads if self.chunks == 1 else 1, tier=tier
        )
        self.shapes = [(n.shape, n.dtype) for n in outputs]

    @property
    def tier(self) -> str:
        return self.program.tier

    @property
    def node_count(self) -> int:
        return self.program.node_count

    @property
    def fallbacks(self) -> tuple[str, ...]:
        return self.program.fallbacks

    @property
    def interpreted(self) -> tuple[int, int]:
        """Of all pieces, as `Program.interpreted`."""
        slow, total = self.program.interpreted
        return slow * self.chunks, total * self.chunks

    @property
    def predicted_bytes(self) -> int:
        """Work memory of the pieces in flight, and the results."""
        if self.chunks == 1:
            return self.program.predicted_bytes
        sizes = zip(self.outputs, self.shapes, self.is_mapped, strict=True)
        return min(self.threads, self.chunks) * self.program.predicted_bytes + sum([
            n.size * n.dtype.itemsize // self.width * self.count for n, _, m in sizes if m
        ])

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Values of the outputs: fresh row-major arrays."""
        if self.chunks == 1:
            values = self.program.run(arrays)
            progress.report(1, 1)
            return values
        found: list[Array] = [np.empty((self.count, *s) if m else s, d)
                              for (s, d), m in zip(self.shapes, self.is_mapped, strict=True)]

        def piece(start: int, stop: int) -> None:
            parts = self.program.run([filled(a[start:stop], self.width) if m else a
                                       for a, m in zip(arrays, self.mapped, strict=True)])
            for whole, value, is_mapped in zip(found, parts, self.is_mapped, strict=True):
                if is_mapped:
                    whole[start:stop] = value[:stop - start]
                elif start == 0:
                    whole[...] = value

        over_pieces(piece, self.count, self.width, self.threads)
        return found


def filled(points: Array, width: int) -> Array:
    """`points`, filled up to `width` of them with the last one."""
    short = width - len(points)
    return points if short == 0 else np.concatenate([points, np.repeat(points[-1:], short, axis=0)])


def piece_width(count: int, point_bytes: int, cap: int | None) -> int:
    """Points at once: the widest array within `PIECE_BYTES`, whole lanes, evenly spread, at most `cap`."""
    fitting = max(LANES, PIECE_BYTES // max(point_bytes, 1) // LANES * LANES)
    largest = max(1, min(count, fitting if cap is None else min(fitting, cap)))
    even = -(-count // -(-count // largest)) if count else 1
    rounded = -(-even // LANES) * LANES
    return rounded if rounded <= largest else even


def over_pieces(piece: Callable[[int, int], None], count: int, width: int, threads: int) -> None:
    """`piece(start, stop)` for all pieces of `count` points, by up to `threads` threads, each with a run of its own."""
    starts = range(0, count, width)
    step = progress.counter(len(starts))

    def run(mine: range) -> None:
        for start in mine:
            piece(start, min(start + width, count))
            step()

    lanes = min(threads, len(starts))
    if lanes <= 1:
        run(starts)
        return
    share = -(-len(starts) // lanes)
    for done in [executor().submit(run, starts[k:k + share]) for k in range(0, len(starts), share)]:
        done.result()

"""Hessians at many points by direct assembly: the terms of one Hessian, their weights batched, added into every H.

The pattern of a sum over points is block diagonal, every block the same: the places of one H serve all, a batch axis
further on. A piece of the points is cleared, computed and added while it lies in cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hesse_engine.backend.device import check_threads
from hesse_engine.backend.lower import Target
from hesse_engine.backend.mapped import filled, over_pieces, piece_width
from hesse_engine.backend.matrix import Blocks
from hesse_engine.backend.plan import flops_of
from hesse_engine.backend.program import Program, build_program
from hesse_engine.ir.graph import Array, Node, flat
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.simplify.passes import simplify_nodes
from hesse_engine.structure.contributions import contributions
from hesse_engine.structure.pushing import QuadraticForm
from hesse_engine.structure.regions import Sink, Table
from hesse_engine.structure.slots import LAYOUTS
from hesse_engine.transforms.batch import batch, to_last

if TYPE_CHECKING:
    from hesse_engine.derivatives import Problem


class BatchedAssembly:
    """Hessians, dense or their diagonals, at `count` points; every input has a leading axis of points.

    dense: blocks [i][j] of shape (count, *in_i, *in_j). diag: [[values of shape (count, n)]].
    """

    pattern = None

    def __init__(self, form: QuadraticForm, problem: Problem, count: int) -> None:
        options, inputs = problem.options, problem.graph.inputs
        self.layout, self.columns, self.wrt = options.layout, count, problem.wrt
        self.size, self.dtype = flat(problem.wrt), problem.wrt[0].dtype
        self.threads = check_threads(options.threads)
        self.lead = problem.outputs[0].shape if problem.is_func else ()
        slots = LAYOUTS[self.layout](contributions(form, problem.wrt), self.size)
        self.is_half, self.stride = slots.is_half, slots.size
        weights = simplify_nodes([s.node for s in slots.sinks])
        live = dependents(reachable(weights), set(inputs))
        widest = max([self.stride, *[n.size for n in live]])
        self.width = piece_width(count, widest * self.dtype.itemsize, options.chunk_size)
        self.chunks = -(-count // self.width)
        points = [n.builder.input(n.attrs["name"], (self.width, *n.shape), n.dtype) for n in inputs]
        replaced = {n: to_last(many, 0) for n, many in zip(inputs, points, strict=True)}
        self.nodes: list[Node] = simplify_nodes(batch(weights, replaced, self.width))
        sinks = [
            Sink(w, 0, s.offset, (*s.strides, self.stride), tuple([Table(t.node, (*t.strides, 0)) for t in s.tables]))
            for w, s in zip(self.nodes, slots.sinks, strict=True)
        ]
        self.program: Program = build_program(
            points, [], threads=self.threads if self.chunks == 1 else 1, tier=options.tier, sinks=sinks,
            targets=[Target((self.width * self.stride,), self.dtype)],
        )

    @property
    def programs(self) -> list[Program]:
        return [self.program]

    @property
    def flops(self) -> int:
        return self.chunks * (flops_of(reachable(self.nodes)) + sum([n.size for n in self.nodes]))

    @property
    def result_bytes(self) -> int:
        return self.columns * self.stride * self.dtype.itemsize

    @property
    def workspace_bytes(self) -> int:
        copies = self.result_bytes if self.layout != "dense" or len(self.wrt) > 1 else 0
        return min(self.threads, self.chunks) * self.program.predicted_bytes + copies

    def run(self, inputs: Sequence[Array], out: Array | None = None) -> Blocks:
        n, width = self.size, self.width
        values = np.empty((self.columns, self.stride), self.dtype) if out is None else out.reshape(-1, self.stride)

        def compute(start: int, stop: int) -> None:
            piece = values[start:stop] if stop - start == width else np.empty((width, self.stride), self.dtype)
            piece.fill(0.0)
            arrays = [filled(a[start:stop], width) for a in inputs]
            self.program.run(arrays, (piece.reshape(-1),))
            if self.is_half:
                matrices = piece.reshape(width, n, n)
                matrices += matrices.transpose(0, 2, 1)
            if stop - start < width:
                values[start:stop] = piece[:stop - start]

        over_pieces(compute, self.columns, width, self.threads)
        if self.layout == "diag":
            return [[np.ascontiguousarray(values[:, :n])]]
        if len(self.wrt) == 1:
            return [[values.reshape((self.columns, *self.lead, *self.wrt[0].shape, *self.wrt[0].shape))]]
        matrices = values.reshape(self.columns, n, n)
        return [[self._block(matrices, i, j) for j in range(len(self.wrt))] for i in range(len(self.wrt))]

    def _block(self, matrices: Array, i: int, j: int) -> Array:
        (top, high), (left, wide) = [(flat(self.wrt[:k]), self.wrt[k].size) for k in (i, j)]
        part = matrices[:, top:top + high, left:left + wide].copy()
        found: Array = part.reshape((self.columns, *self.lead, *self.wrt[i].shape, *self.wrt[j].shape))
        return found

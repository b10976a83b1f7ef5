"""A Jacobian by chunks of seeds: columns J e_k forward, rows e_k' J reverse.

What does not depend on the seeds is computed once; per chunk runs only what does. Seeds ride on the last axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hesse_engine import progress
from hesse_engine.backend.device import check_threads
from hesse_engine.backend.matrix import Blocks, check_budget
from hesse_engine.backend.plan import chosen_chunk, flops_of
from hesse_engine.backend.program import Program, build_program
from hesse_engine.derivatives import Columns, Sweep, concatenated
from hesse_engine.ir.graph import Array, DType, Node, apply, flat, is_zero
from hesse_engine.ir.rows import VIEWS
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.simplify.passes import simplify_nodes
from hesse_engine.transforms.batch import batch
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import pull_back

if TYPE_CHECKING:
    from hesse_engine.derivatives import Problem


class LinearMap:
    """The seeded pass of a sweep: `images` are linear in `seeds`, both flattened in the order of `seeded` and `faces`.

    forward: seeded = wrt, faces = rows, images = J t.  reverse: seeded = rows, faces = wrt, images = ct' J.
    An image that is None is zero for every seed.
    """

    def __init__(self, sweep: Sweep) -> None:
        is_forward = sweep.mode == "forward"
        self.is_forward = is_forward
        self.seeded, self.faces = (sweep.wrt, sweep.rows) if is_forward else (sweep.rows, sweep.wrt)
        self.count = flat(self.seeded)
        self.dtype: DType = np.result_type(*[n.dtype for n in self.seeded]) if self.seeded else np.dtype(np.float64)
        builder = (self.seeded or self.faces)[0].builder
        self.placeholders = [builder.input("seed", n.shape, n.dtype) for n in self.seeded]
        moved = _moved(sweep, self.placeholders)
        live = [t if t is not None and not is_zero(t) else None for t in moved]
        simple = iter(simplify_nodes([t for t in live if t is not None]))
        self.images: list[Node | None] = [None if t is None else next(simple) for t in live]

    def batched(self, width: int) -> tuple[Node, list[Node]]:
        """The seed matrix (count, width) as an input, and the images with the seeds on their last axis."""
        builder = (self.seeded or self.faces)[0].builder
        seeds = builder.input("seeds", (self.count, width), self.dtype)
        replaced, at = {}, 0
        for placeholder in self.placeholders:
            part = apply("slice", seeds, start=(at, 0), count=(placeholder.size, width))
            part = apply("reshape", part, shape=(*placeholder.shape, width))
            replaced[placeholder] = apply("convert", part, dtype=placeholder.dtype)
            at += placeholder.size
        return seeds, batch([n for n in self.images if n is not None], replaced, width)

    @property
    def widest(self) -> int:
        """Elements of the largest array that depends on the seeds, for one seed."""
        order = reachable([n for n in self.images if n is not None])
        return max([n.size for n in dependents(order, set(self.placeholders))], default=1)


def _moved(sweep: Sweep, seeds: Sequence[Node]) -> Sequence[Node | None]:
    """J t forward, t' J reverse; chosen columns are spread into tangents, or picked from cotangents."""
    columns = sweep.columns
    if sweep.mode == "forward":
        tangents = seeds if columns is None else _spread(seeds[0], columns)
        return push_forward(sweep.rows, dict(zip(sweep.wrt if columns is None else columns.of, tangents, strict=True)))
    if columns is None:
        return pull_back(sweep.rows, seeds, sweep.wrt)
    pulled = pull_back(sweep.rows, seeds, columns.of)
    if all([c is None for c in pulled]):
        return [None]
    filled = [x.builder.zeros(x.shape, x.dtype) if c is None else c for c, x in zip(pulled, columns.of, strict=True)]
    return [apply("take", concatenated(filled), columns.positions)]


def _spread(seed: Node, columns: Columns) -> list[Node]:
    """The tangents of all inputs whose elements at the chosen positions are those of `seed`, the others zero."""
    whole, found, at = apply("scatter_add", seed, columns.positions, axis=0, size=flat(columns.of)), [], 0
    for x in columns.of:
        part = apply("reshape", apply("slice", whole, start=(at,), count=(x.size,)), shape=x.shape)
        found.append(apply("convert", part, dtype=x.dtype))
        at += x.size
    return found


def frontier(outputs: Sequence[Node], seeds: Node) -> list[Node]:
    """What the seeded part of `outputs` takes from the rest; views are left to the seeded part."""
    order = reachable(outputs)
    seeded = dependents(order, {seeds})
    found: dict[Node, None] = {}
    for node in order:
        if node in seeded:
            for arg in node.args:
                while arg.op in VIEWS:
                    arg = arg.args[0]
                if arg not in seeded and arg.args:
                    found[arg] = None
    for node in outputs:
        if node not in seeded and node.args:
            found[node] = None
    return list(found)


class SweepProgram:
    """A sweep of fixed width: `run(inputs)` gives the blocks [row][wrt] of shape row.shape + wrt.shape.

    `extra` nodes, which depend on no seed, are evaluated along with it.
    """

    layout = "dense"

    def __init__(self, linear: LinearMap, problem: Problem, width: int, extra: Sequence[Node] = ()) -> None:
        options, inputs = problem.options, problem.graph.inputs
        threads, tier = check_threads(options.threads), options.tier
        self.linear, self.width, self.preallocate = linear, width, options.preallocate
        self.columns = linear.count
        rows, wrt = (linear.faces, linear.seeded) if linear.is_forward else (linear.seeded, linear.faces)
        self.rows, self.wrt = rows, wrt
        # torch.autograd.functional gives block [i][j] the dtype of input j; torch.func that of row i going forward
        by_row = problem.is_func and linear.is_forward
        self.dtypes = [[r.dtype if by_row else x.dtype for x in wrt] for r in rows]
        self.chunks = -(-linear.count // width) if width else 0
        self.seeds, self.images = linear.batched(max(width, 1))
        # with one chunk there is nothing to hoist
        self.hoisted = frontier(self.images, self.seeds) if self.chunks > 1 else []
        self.extra = list(extra)
        early, late = (self.extra, []) if self.chunks != 1 else ([], self.extra)
        self.before: Program | None = None
        if self.hoisted or early:
            self.before = build_program(inputs, [*self.hoisted, *early], threads=threads, tier=tier)
        outputs = [*self.images, *late]
        self.program = build_program([*inputs, *self.hoisted, self.seeds], outputs, threads=threads, tier=tier)

    @property
    def programs(self) -> list[Program]:
        return [p for p in (self.before, self.program) if p is not None]

    @property
    def workspace_bytes(self) -> int:
        """Everything but inputs and blocks; a single chunk's images are the blocks where no copy is needed."""
        images = sum([n.size * n.dtype.itemsize for n in self.images])
        hoisted = sum([n.size * n.dtype.itemsize for n in self.hoisted])
        seeds = self.linear.count * self.width * self.linear.dtype.itemsize
        before = 0 if self.before is None else self.before.predicted_bytes - hoisted
        copies = images * self.chunks if not self.preallocate else 0
        kept = 0 if self._is_direct else images
        return seeds + hoisted + max(before, self.program.predicted_bytes - images + kept) + copies

    @property
    def _is_direct(self) -> bool:
        """The images are the blocks: one chunk, forward, one input."""
        return self.chunks == 1 and self.linear.is_forward and len(self.linear.seeded) == 1

    @property
    def result_bytes(self) -> int:
        return sum([r.size * x.size * self.dtypes[i][j].itemsize
                    for i, r in enumerate(self.rows) for j, x in enumerate(self.wrt)])

    @property
    def nodes(self) -> list[Node]:
        return [*self.hoisted, *self.extra, *self.images]

    @property
    def flops(self) -> int:
        once = reachable([*self.hoisted, *self.extra])
        return flops_of(once) + self.chunks * flops_of(set(reachable(self.images)) - set(once))

    def run(self, inputs: Sequence[Array], out: Array | None = None) -> Blocks:
        """The blocks; the only one may be written into `out`, of its shape and dtype."""
        return self.run_with_extra(inputs, out)[0]

    def run_with_extra(self, inputs: Sequence[Array], out: Array | None = None) -> tuple[Blocks, list[Array]]:
        """The blocks, and the values of the extra nodes."""
        extra: list[Array] = []
        pieces = self.pieces(inputs, extra)
        if not self.preallocate and self.chunks > 1:  # all chunks kept, then joined: torch's default for jacrev
            kept = [parts for _, parts in pieces]
            pieces = iter([(0, [np.concatenate(parts, axis=1) for parts in zip(*kept, strict=True)])])
        elif self._is_direct and out is None:
            ((_, parts),) = pieces
            return [[self._shaped(p, i)] for i, p in enumerate(parts)], extra
        blocks = self._empty() if out is None else [[out.reshape(self.rows[0].size, self.wrt[0].size)]]
        for start, parts in pieces:
            self._place(blocks, parts, start)
        return [[b.reshape(self._shape(i, j)) for j, b in enumerate(row)] for i, row in enumerate(blocks)], extra

    def pieces(
        self, inputs: Sequence[Array], extra: list[Array] | None = None, chosen: Array | None = None
    ) -> Iterator[tuple[int, list[Array]]]:
        """(start, the images of seeds start, start + 1, ...) chunk by chunk; values of the extra nodes go to `extra`.

        With `chosen`, seed k is that of the position chosen[k], so that one program serves any choice.
        The last chunk is computed with zero seeds, then cut.
        """
        found = [] if self.before is None else self.before.run(inputs)
        hoisted, kept = found[:len(self.hoisted)], found[len(self.hoisted):]
        at = np.arange(self.linear.count) if chosen is None else chosen
        count, live = len(at), len(self.images)
        step = progress.counter(-(-count // max(self.width, 1)))
        for start in range(0, count, max(self.width, 1)):
            seeds = np.zeros((self.linear.count, self.width), self.linear.dtype)
            width = min(self.width, count - start)
            seeds[at[start:start + width], np.arange(width)] = 1.0
            outputs = self.program.run([*inputs, *hoisted, seeds])
            kept = kept or outputs[live:]
            images, faces = iter(outputs), zip(self.linear.faces, self.linear.images, strict=True)
            yield start, [
                np.zeros((face.size, width), face.dtype) if image is None
                else next(images).reshape(face.size, self.width)[:, :width]
                for face, image in faces
            ]
            step()
        if extra is not None:
            extra.extend(kept)

    def _shape(self, i: int, j: int) -> tuple[int, ...]:
        return (*self.rows[i].shape, *self.wrt[j].shape)

    def _shaped(self, part: Array, i: int) -> Array:
        return np.ascontiguousarray(part.astype(self.dtypes[i][0], copy=False)).reshape(self._shape(i, 0))

    def _empty(self) -> Blocks:
        return [[np.empty((r.size, x.size), self.dtypes[i][j]) for j, x in enumerate(self.wrt)]
                for i, r in enumerate(self.rows)]

    def _place(self, blocks: Blocks, parts: Sequence[Array], start: int) -> None:
        """Distribute the images of seeds start, ... over the blocks of the seeded side."""
        at = 0
        for s, node in enumerate(self.linear.seeded):
            width = parts[0].shape[1] if parts else 0
            low, high = max(start, at), min(start + width, at + node.size)
            if low < high:
                for f, part in enumerate(parts):
                    piece = part[:, low - start:high - start]
                    if self.linear.is_forward:
                        blocks[f][s][:, low - at:high - at] = piece
                    else:
                        blocks[s][f][low - at:high - at, :] = piece.T
            at += node.size


def fitting_sweep(sweep: Sweep, problem: Problem, extra: Sequence[Node] = (), layout: str = "dense") -> SweepProgram:
    """The sweep in chunks of the planned width, or of a smaller one whose predicted peak is within the budget."""
    linear, options = LinearMap(sweep), problem.options
    width = chosen_chunk(linear.count, linear.widest, linear.dtype.itemsize, options.chunk_size)
    budget = options.max_memory_bytes
    if budget is not None and layout != "diag":
        result = sum([r.size for r in sweep.rows]) * sum([x.size for x in sweep.wrt]) * linear.dtype.itemsize
        check_budget(result, options, result)
    while True:
        program = SweepProgram(linear, problem, width, extra)
        result = program.result_bytes if layout != "diag" else linear.count * linear.dtype.itemsize
        peak = result + program.workspace_bytes
        if budget is None or peak <= budget:
            return program
        if width <= 1:
            check_budget(peak, options, result)
        spare = max(0, budget - result)
        width = max(1, min(width - 1, int(width * spare / max(1, program.workspace_bytes))))

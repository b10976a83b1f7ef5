"""Sparse Hessians and Jacobians by compressed products: seeds that belong to several columns at once, then recovery.

For functions that direct assembly does not cover. A Hessian costs one Hessian-vector product a color of its pattern,
whatever its size; a Jacobian one product a color, forward, reverse, or from both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hesse_engine import progress
from hesse_engine.backend import graphs
from hesse_engine.backend.device import check_threads
from hesse_engine.backend.matrix import Blocks
from hesse_engine.backend.plan import chosen_chunk, flops_of
from hesse_engine.backend.program import Program, build_program
from hesse_engine.backend.sweep import LinearMap, frontier
from hesse_engine.derivatives import Mode, Sweep
from hesse_engine.ir.graph import Array, DType, Node, flat
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.structure.bicoloring import compress_jacobian
from hesse_engine.structure.coloring import (
    Coloring,
    Compression,
    compress_diagonal,
    compress_symmetric,
    uncompressed,
)
from hesse_engine.structure.identities import vanishing
from hesse_engine.structure.pattern import Pattern, hessian_pattern, jacobian_pattern
from hesse_engine.transforms.vjp import gradient

if TYPE_CHECKING:
    from hesse_engine.derivatives import Problem
    from hesse_engine.options import Options

MIN_SIZE = 16  # columns; a dense matrix with fewer is swept whole
SAVING = 0.5  # of the products that a sweep of a dense matrix takes: then coloring is worth its plan
TIGHTENING = 1 << 20  # elements that looking for vanishing entries may evaluate, three times over; 0.1 s
KEPT_SEEDS = 1 << 24  # bytes of seed matrices kept between calls
Recovery = Callable[[Array], Array]


class Products:
    """A linear map times the seeds of a coloring: an array (faces, colors), by chunks of colors."""

    def __init__(self, linear: LinearMap, coloring: Coloring, problem: Problem, width: int) -> None:
        options, inputs = problem.options, problem.graph.inputs
        threads, tier = check_threads(options.threads), options.tier
        self.linear, self.coloring, self.width = linear, coloring, max(min(width, coloring.count), 1)
        self.chunks = -(-coloring.count // self.width)
        self.height = flat(linear.faces)
        self.seeds, self.images = linear.batched(self.width)
        self.hoisted = frontier(self.images, self.seeds) if self.chunks > 1 else []
        self.before: Program | None = None
        if self.hoisted:
            self.before = build_program(inputs, self.hoisted, threads=threads, tier=tier)
        self.program = build_program([*inputs, *self.hoisted, self.seeds], self.images, threads=threads, tier=tier)
        self._kept: dict[int, Array] = {}

    @property
    def programs(self) -> list[Program]:
        return [p for p in (self.before, self.program) if p is not None]

    @property
    def nodes(self) -> list[Node]:
        return [*self.hoisted, *self.images]

    @property
    def flops(self) -> int:
        once = reachable(self.hoisted)
        return flops_of(once) + self.chunks * flops_of(set(reachable(self.images)) - set(once))

    @property
    def bytes(self) -> int:
        """Products, seeds and work memory."""
        item, count = self.linear.dtype.itemsize, self.coloring.count
        kept = min(KEPT_SEEDS, len(self.coloring.colors) * count * item) + len(self.coloring.colors) * self.width * item
        hoisted = sum([n.size * n.dtype.itemsize for n in self.hoisted])
        before = 0 if self.before is None else self.before.predicted_bytes
        return self.height * count * item + kept + hoisted + max(before, self.program.predicted_bytes)

    def run(self, inputs: Sequence[Array]) -> Array:
        if self.chunks == 1 and len(self.images) == len(self.linear.faces) == 1 and self.width == self.coloring.count:
            (whole,) = self.program.run([*inputs, self._seeds(0)])
            progress.report(1, 1)
            return whole.reshape(self.height, self.width)
        found = np.zeros((self.height, self.coloring.count), self.linear.dtype)
        hoisted = [] if self.before is None else self.before.run(inputs)
        step = progress.counter(self.chunks)
        for start in range(0, self.coloring.count, self.width):
            stop = min(start + self.width, self.coloring.count)
            images, at = iter(self.program.run([*inputs, *hoisted, self._seeds(start)])), 0
            for face, image in zip(self.linear.faces, self.linear.images, strict=True):
                if image is not None:
                    part = next(images).reshape(face.size, self.width)
                    found[at:at + face.size, start:stop] = part[:, :stop - start]
                at += face.size
            step()
        return found

    def _seeds(self, start: int) -> Array:
        """Seeds of the colors start, start + 1, ...; the last chunk is filled up with zeros."""
        seeds = self._kept.get(start)
        if seeds is None:
            seeds = self.coloring.seeds(self.linear.dtype, start, start + self.width)
            if seeds.nbytes * (len(self._kept) + 1) <= KEPT_SEEDS:
                self._kept[start] = seeds
        return seeds


class CompressedProgram:
    """A matrix by `products` and `recover`, in the layout of the problem; see `MatrixProgram`.

    `strategy` names how: 'star-coloring', 'acyclic-coloring', 'column-coloring', ...
    """

    def __init__(
        self, strategy: str, pattern: Pattern, products: Sequence[Products], recover: Recovery, problem: Problem,
        rows: Sequence[Node],
    ) -> None:
        self.strategy, self.pattern, self.layout = strategy, pattern, problem.options.layout
        self.products, self.recover = [p for p in products if p.coloring.count], recover
        self.rows, self.wrt, self.dtype = tuple(rows), problem.wrt, problem.wrt[0].dtype
        self.lead = problem.outputs[0].shape if problem.is_func and self.is_symmetric else ()
        self.count, self._targets, self._chosen = _targets(pattern, self.layout)

    @property
    def is_symmetric(self) -> bool:
        return self.strategy in ("star-coloring", "acyclic-coloring", "distance-1-coloring", "uncompressed")

    @property
    def columns(self) -> int:
        return sum([p.coloring.count for p in self.products])

    @property
    def width(self) -> int:
        return max([p.width for p in self.products], default=0)

    @property
    def chunks(self) -> int:
        return sum([p.chunks for p in self.products])

    @property
    def nodes(self) -> list[Node]:
        return [n for p in self.products for n in p.nodes]

    @property
    def programs(self) -> list[Program]:
        return [q for p in self.products for q in p.programs]

    @property
    def flops(self) -> int:
        return sum([p.flops for p in self.products])

    @property
    def result_bytes(self) -> int:
        held = self.pattern.indices.nbytes + self.pattern.indptr.nbytes if self.layout in ("csr", "coo") else 0
        return self.count * self.dtype.itemsize + held

    @property
    def workspace_bytes(self) -> int:
        """Products, the values before they are put in place, and index arrays of the way back."""
        values = 3 * self.pattern.nnz * self.dtype.itemsize
        copies = self.count * self.dtype.itemsize if len(self.rows) + len(self.wrt) > 2 else 0
        return sum([p.bytes for p in self.products]) + values + copies

    def run(self, inputs: Sequence[Array], out: Array | None = None) -> Blocks:
        values = self.values(inputs, None if out is None else out.reshape(-1))
        if self.layout != "dense":
            return [[values]]
        matrix = values.reshape(self.pattern.shape)
        if len(self.rows) == len(self.wrt) == 1:
            return [[matrix.reshape((*self.lead, *self.rows[0].shape, *self.wrt[0].shape))]]
        return [[self._block(matrix, i, j) for j in range(len(self.wrt))] for i in range(len(self.rows))]

    def values(self, inputs: Sequence[Array], out: Array | None = None) -> Array:
        """The flat values of the layout."""
        with np.errstate(all="ignore"):
            found = [self._product(k, inputs) for k in range(len(self.products))]
            compressed = found[0] if len(found) == 1 else np.concatenate([np.zeros(0, self.dtype), *found])
            data = self.recover(compressed)
        if self._targets is None:
            if out is None:
                return data
            out[...] = data
            return out
        values = np.empty(self.count, self.dtype) if out is None else out
        values[...] = 0.0
        values[self._targets] = data if self._chosen is None else data[self._chosen]
        return values

    def _product(self, k: int, inputs: Sequence[Array]) -> Array:
        with progress.part(sum([p.chunks for p in self.products[:k]]), self.chunks):
            return self.products[k].run(inputs).reshape(-1)

    def _block(self, matrix: Array, i: int, j: int) -> Array:
        top, left = flat(self.rows[:i]), flat(self.wrt[:j])
        part = matrix[top:top + self.rows[i].size, left:left + self.wrt[j].size]
        found: Array = part.reshape((*self.lead, *self.rows[i].shape, *self.wrt[j].shape))
        return found.copy()


def _targets(pattern: Pattern, layout: str) -> tuple[int, Array | None, Array | None]:
    """(values of the layout, where the entries go among them, which entries go); None: all, in their order."""
    high, wide = pattern.shape
    if layout in ("csr", "coo"):
        return pattern.nnz, None, None
    rows, columns = pattern.rows.astype(np.int64), pattern.indices.astype(np.int64)
    if layout == "dense":
        return high * wide, rows * wide + columns, None
    if layout == "diag":
        return high, columns[rows == columns], None
    chosen = np.flatnonzero(rows <= columns)
    rows, columns = rows[chosen], columns[chosen]
    # row i of the upper triangle starts behind n + (n - 1) + ... + (n - i + 1) values
    return high * (high + 1) // 2, rows * high - rows * (rows - 1) // 2 + columns - rows, chosen


# ---- planning --------------------------------------------------------------------------------------------------------
def is_crowded(pattern: Pattern) -> bool:
    """Whether a pattern of many columns has most of its entries, so that another method might find fewer."""
    high, wide = pattern.shape
    return wide >= MIN_SIZE and len(pattern.indices) > SAVING * high * wide


def compressed_hessian(problem: Problem, *, sparse_only: bool = False) -> CompressedProgram | None:
    """A program for a Hessian that is sparse; None where a sweep of all columns is the better way.

    A layout that lists entries is served whatever the pattern, unless `sparse_only`.
    """
    options, wrt = problem.options, problem.wrt
    size, layout = flat(wrt), options.layout
    is_scalar = len(problem.outputs) == 1 and problem.outputs[0].size == 1
    if not _is_plain(options, [*wrt, *problem.outputs]) or not is_scalar or (layout == "dense" and size < MIN_SIZE):
        return None
    if options.strategy != "auto":
        return None
    pattern = hessian_pattern(problem.outputs[0], wrt)
    if pattern is None or (layout in ("dense", "packed") and pattern.nnz > SAVING * size * size):
        return None
    rows = tuple(gradient(problem.outputs[0], wrt))
    linear = LinearMap(Sweep(rows, wrt, "forward"))
    plan = _compression(pattern, layout)
    if layout in ("csr", "coo"):
        tight = tightened(pattern, linear, plan)
        if tight is not pattern:
            pattern, plan = tight, _compression(tight, layout)
        if sparse_only and plan.kind == "uncompressed":
            return None
    elif layout != "diag" and plan.colors > SAVING * size:
        return None

    def build(width: int) -> CompressedProgram:
        products = Products(linear, plan.coloring, problem, width)
        strategy = plan.kind if plan.kind == "uncompressed" else f"{plan.kind}-coloring"
        return CompressedProgram(strategy, pattern, [products], plan.recover, problem, wrt)

    return _fitting(build, [linear], plan.colors, options)


def tight_hessian_pattern(problem: Problem) -> Pattern | None:
    """The pattern of the Hessian of one output element, vanishing entries left out where that is cheap."""
    (output,), wrt = problem.outputs, problem.wrt
    pattern = hessian_pattern(output, wrt)
    if pattern is None:
        return None
    linear = LinearMap(Sweep(tuple(gradient(output, wrt)), wrt, "forward"))
    return tightened(pattern, linear, _compression(pattern, "csr"))


def tightened(pattern: Pattern, linear: LinearMap, plan: Compression) -> Pattern:
    """Without the entries that vanish identically, where finding them is cheap. `linear` gives Hessian products.

    What is left is symmetric, as the pattern is.
    """
    live = [n for n in linear.images if n is not None]
    order = reachable(live)
    seeded = dependents(order, set(linear.placeholders))
    work = sum([n.size * (plan.colors if n in seeded else 1) for n in order])
    if work > TIGHTENING or not live:
        return pattern
    seeds, images = linear.batched(plan.colors)

    def read(values: list[Array]) -> Array:
        found = iter(values)
        parts = [np.zeros((face.size, plan.colors), np.int64) if image is None
                 else next(found).reshape(face.size, plan.colors)
                 for face, image in zip(linear.faces, linear.images, strict=True)]
        return plan.recover(np.concatenate(parts))

    zero = vanishing(images, {seeds: plan.coloring.seeds(np.int64)}, read)
    if zero is None or not zero.any():
        return pattern
    # an entry may vanish visibly in one of its two places only: what loops compute is compared as it is written
    rows, columns, n = pattern.rows.astype(np.int64), pattern.indices.astype(np.int64), pattern.shape[0]
    mirrored = np.searchsorted(rows * n + columns, columns * n + rows)
    return pattern.selected(~(zero | zero[mirrored]))


def _compression(pattern: Pattern, layout: str) -> Compression:
    size = pattern.shape[0]
    work = int(np.square(np.diff(pattern.indptr).astype(np.int64)).sum())
    if layout == "diag":
        return compress_diagonal(pattern, graphs.kernels(pattern.nnz))
    if pattern.nnz > SAVING * size * size:
        return uncompressed(pattern)
    return compress_symmetric(pattern, graphs.kernels(work))


def compressed_jacobian(problem: Problem) -> CompressedProgram | None:
    """A program for a Jacobian that is sparse; None where a sweep of all columns or rows is the better way."""
    options, wrt, outputs = problem.options, problem.wrt, problem.outputs
    high, wide, layout = flat(outputs), flat(wrt), options.layout
    if not _is_plain(options, [*wrt, *outputs]) or (layout == "dense" and min(high, wide) < MIN_SIZE):
        return None
    if options.strategy != "auto" and layout == "dense":  # a named mode is swept as it is named
        return None
    pattern = jacobian_pattern(outputs, wrt)
    if pattern is None or (layout == "dense" and pattern.nnz > SAVING * high * wide):
        return None
    strategy = options.strategy
    work = int(np.square(np.diff(pattern.indptr).astype(np.int64)).sum())
    plan = compress_jacobian(pattern, graphs.kernels(work), strategy if strategy in ("forward", "reverse") else "auto")
    if layout == "dense" and plan.colors > SAVING * min(high, wide):
        return None
    modes: tuple[tuple[Mode, Coloring], ...] = ("forward", plan.columns), ("reverse", plan.rows)
    sides = [(LinearMap(Sweep(outputs, wrt, mode)), coloring) for mode, coloring in modes if coloring.count]
    name = {"columns": "column-coloring", "rows": "row-coloring"}.get(plan.kind, "bidirectional-coloring")

    def build(width: int) -> CompressedProgram:
        products = [Products(linear, coloring, problem, width) for linear, coloring in sides]
        return CompressedProgram(name, pattern, products, plan.recover, problem, outputs)

    return _fitting(build, [linear for linear, _ in sides], plan.colors, options)


def _is_plain(options: Options, nodes: Sequence[Node]) -> bool:
    """One floating dtype throughout, and all rows and columns."""
    dtypes: set[DType] = {n.dtype for n in nodes}
    return len(dtypes) == 1 and nodes[0].is_floating and not options.is_selective and bool(flat(nodes))


def _fitting(
    build: Callable[[int], CompressedProgram], linears: Sequence[LinearMap], colors: int, options: Options
) -> CompressedProgram | None:
    """In chunks of the planned width, or of a smaller one within the budget; None where none is."""
    widest = max([m.widest for m in linears], default=1)
    width = chosen_chunk(colors, widest, 8, options.chunk_size)
    budget = options.max_memory_bytes
    while True:
        program = build(width)
        if budget is None or program.result_bytes + program.workspace_bytes <= budget:
            return program
        if width <= 1:
            return None
        width //= 2

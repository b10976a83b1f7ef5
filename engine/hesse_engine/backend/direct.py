"""Direct assembly: one program computes the weights of a quadratic form and adds them into H, strip by strip.

Nothing here depends on how many columns H has: a term costs its own elements, in every layout. No weight is kept: the
VM adds it where it belongs as soon as it is computed. What does not depend on the inputs is added once, at planning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from hesse_engine.backend.device import check_threads
from hesse_engine.backend.lower import Target
from hesse_engine.backend.matrix import Blocks
from hesse_engine.backend.plan import flops_of
from hesse_engine.backend.program import Program, add_into, build_program
from hesse_engine.backend.reference import run as interpret
from hesse_engine.backend.refill import is_refill
from hesse_engine.backend.symmetry import add_transpose
from hesse_engine.ir.graph import Array, Node, flat, scalar_value
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.simplify.passes import simplify_nodes
from hesse_engine.structure.contributions import contributions
from hesse_engine.structure.forms import is_contiguous
from hesse_engine.structure.pattern import Pattern
from hesse_engine.structure.pushing import QuadraticForm
from hesse_engine.structure.regions import Sink
from hesse_engine.structure.slots import LAYOUTS

if TYPE_CHECKING:
    from hesse_engine.derivatives import Problem

SPARSE = 8  # an array given again is cleared entry by entry if it has so many times more
KEPT_CONSTANT = 0.5  # the share of values from which on a copy of the constant part of H is kept


class DirectProgram:
    """The Hessian of a covered function. `layout` is the problem's.

    dense: blocks [i][j] over the inputs. csr, coo: [[values of `pattern`]]. packed: [[n (n + 1) / 2 values]].
    diag: [[n values]]. `extra` nodes are evaluated along with the weights, most of which they share.
    """

    columns = width = chunks = 0  # no seeds, so any cap on chunks is kept

    def __init__(self, form: QuadraticForm, problem: Problem, extra: Sequence[Node] = ()) -> None:
        options = problem.options
        self.wrt, self.size, self.dtype = problem.wrt, flat(problem.wrt), problem.wrt[0].dtype
        self.lead = problem.outputs[0].shape if problem.is_func else ()
        self.layout = options.layout
        self.threads = check_threads(options.threads)
        found = contributions(form, problem.wrt)
        slots = LAYOUTS[self.layout](found, self.size)
        self.pattern: Pattern | None = slots.pattern
        self.is_half, self.count = slots.is_half, slots.size
        simple = simplify_nodes([*[s.node for s in slots.sinks], *extra])
        weights, self.extra = simple[:len(slots.sinks)], simple[len(slots.sinks):]
        sinks = [Sink(w, s.target, s.offset, s.strides, s.tables) for w, s in zip(weights, slots.sinks, strict=True)]
        self.base, self.sinks = self._settle(sinks, problem.graph.inputs)
        self.whole = self._split_whole()
        self.nodes = [*self.extra, *self.whole, *[s.node for s in self.sinks]]
        whole = (*self.lead, *self.wrt[0].shape, *self.wrt[0].shape)
        self.shape = whole if self.layout == "dense" and len(self.wrt) == 1 else (self.count,)
        base = None if self.base is None else self.base.reshape(self.shape)
        self.program: Program = build_program(
            problem.graph.inputs, [*self.extra, *self.whole], threads=self.threads, tier=options.tier, sinks=self.sinks,
            targets=[Target(self.shape, self.dtype, base, len(self.extra) if self.whole else None)],
        )

    def _settle(self, sinks: list[Sink], inputs: Sequence[Node]) -> tuple[Array | None, list[Sink]]:
        """(the constant part of the values, what else is added in each run).

        Where constant weights are few for all those values, they are computed now and added anew in each run.
        """
        moving = dependents(reachable([s.node for s in sinks]), set(inputs))
        fixed = [s for s in sinks if s.node not in moving]
        values = interpret([s.node for s in fixed], {})
        if sum([s.node.size for s in fixed]) > KEPT_CONSTANT * self.count:
            base = np.zeros(self.count, self.dtype)
            for sink, value in zip(fixed, values, strict=True):
                add_into(base, sink, value)
            return base, [s for s in sinks if s.node in moving]
        known = {
            s.node: s.node.builder.table(np.array(v, self.dtype, order="C"))
            for s, v in zip(fixed, values, strict=True) if scalar_value(s.node) is None and s.node.args
        }
        return None, [replace(s, node=known.get(s.node, s.node)) for s in sinks]

    def _split_whole(self) -> list[Node]:
        """A matrix product that is a weight for every entry of H, in order: H starts as it, and costs no zeros."""
        for k, sink in enumerate(self.sinks if self.base is None and not self.is_half else []):
            node = sink.node
            while node.op == "reshape":
                node = node.args[0]
            is_whole = sink.offset == 0 and not sink.tables and node.size == self.count
            if not is_whole or node.op != "contract" or not is_contiguous(sink.node.shape, sink.strides):
                continue
            others = [*self.extra, *[s.node for s in self.sinks if s is not sink]]
            if node not in reachable(others):  # who reads it must not find what is added to it
                del self.sinks[k]
                return [node]
        return []

    @property
    def programs(self) -> list[Program]:
        return [self.program]

    @property
    def flops(self) -> int:
        return flops_of(reachable(self.nodes)) + sum([n.size for n in self.nodes])

    @property
    def result_bytes(self) -> int:
        return self.count * self.dtype.itemsize

    @property
    def workspace_bytes(self) -> int:
        copies = self.result_bytes if len(self.wrt) > 1 and self.layout == "dense" else 0
        kept = 0 if self.base is None else self.base.nbytes
        tables = {t.node for s in self.sinks for t in s.tables}
        pattern = 0 if self.pattern is None else self.pattern.indices.nbytes + self.pattern.indptr.nbytes
        return self.program.predicted_bytes + copies + kept + pattern + sum([t.size * 4 for t in tables])

    def run(self, inputs: Sequence[Array], out: Array | None = None) -> Blocks:
        """The blocks; one array that is the whole result is written into `out`, where that is given."""
        return self.run_with_extra(inputs, out)[0]

    def run_with_extra(self, inputs: Sequence[Array], out: Array | None = None) -> tuple[Blocks, list[Array]]:
        """The blocks, and the values of the extra nodes."""
        values, extra = self._values(inputs, out)
        if self.layout != "dense":
            return [[values if self.layout in ("csr", "coo") else values[:-1]]], extra
        if len(self.wrt) == 1:
            return [[values]], extra
        matrix = values.reshape(self.size, self.size)
        return [[self._block(matrix, i, j) for j in range(len(self.wrt))] for i in range(len(self.wrt))], extra

    def quick(self) -> Callable[[Array], Array] | None:
        """`run` for one small input, without what only other programs need; gives the one array of the result."""
        run = None if self.is_half or len(self.wrt) > 1 or self.extra else self.program.quick()
        if run is None or self.layout in ("dense", "csr", "coo"):
            return run
        values = run
        return lambda x: values(x)[:-1]

    def _values(self, inputs: Sequence[Array], out: Array | None) -> tuple[Array, list[Array]]:
        if out is None or out.shape != self.shape:
            found = self.program.run(inputs)
            values = found[-1].reshape(self.shape)
        else:
            values = out
            is_own = is_refill(out, self)
            if not self.whole:
                self._clear(out, is_own)
            found = self.program.run(inputs, (out.reshape(self.whole[0].shape) if self.whole else out,))
        if self.is_half:
            add_transpose(values.reshape(self.size, self.size), self.threads, by_vm=self.program.tier != "reference")
        return values, found[:len(self.extra)]

    def _clear(self, out: Array, is_own: bool) -> None:
        """Set `out` to the start of the sums: only what the sinks touch, if this program was the last to fill it."""
        touched = sum([s.node.size for s in self.sinks])
        if self.base is not None:
            out[...] = self.base.reshape(self.shape)
        elif is_own and SPARSE * touched < self.count and not any([s.tables for s in self.sinks]):
            item = self.dtype.itemsize
            for s in self.sinks:
                np.ndarray(s.node.shape, self.dtype, out, s.offset * item, [k * item for k in s.strides])[...] = 0.0
        else:
            out.fill(0.0)

    def _block(self, matrix: Array, i: int, j: int) -> Array:
        (top, high), (left, wide) = [(flat(self.wrt[:k]), self.wrt[k].size) for k in (i, j)]
        part = matrix[top:top + high, left:left + wide]
        return cast(Array, part.reshape((*self.lead, *self.wrt[i].shape, *self.wrt[j].shape)).copy())

"""A prepared operation: arrays in, checks, programs, a nested result out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hesse_engine import progress
from hesse_engine.arguments import check_inputs, check_vector, check_weights
from hesse_engine.backend.direct import DirectProgram
from hesse_engine.backend.finite import check_finite
from hesse_engine.backend.layouts import with_extra
from hesse_engine.backend.mapped import MappedProgram
from hesse_engine.backend.matrix import Blocks, MatrixProgram
from hesse_engine.backend.plan import Plan
from hesse_engine.backend.program import Program
from hesse_engine.backend.refill import disown
from hesse_engine.backend.verification import Verifier, verifier
from hesse_engine.derivatives import Derivative, Problem
from hesse_engine.errors import InputError
from hesse_engine.ir.graph import Array, Node, flat
from hesse_engine.result import Result, SparseMatrix, check_out, written
from hesse_engine.structure.pattern import Pattern


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One operation, ready to be called; thread-safe."""

    outline: Plan  # without what takes long to predict
    explain: Callable[[], Plan]
    problem: Problem
    row: Derivative
    inputs: tuple[Node, ...]  # what `inputs`, `weights` and v have to fit
    weights: tuple[Node, ...]
    seeds: tuple[Node, ...]
    direct: Program | MappedProgram | None
    matrix: MatrixProgram | None
    counts: tuple[int, int, int, int]  # of value, output, gradient and auxiliary nodes
    is_bare: bool
    programs: tuple[Program | MappedProgram, ...]
    shared: tuple[Pattern, Array] | None = None  # of a sparse result
    known_stats: dict[str, dict[str, Any]] = field(default_factory=dict)  # by tier
    explained: list[Plan] = field(default_factory=list)
    verifiers: list[Verifier] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """How it is computed and what that will cost."""
        if not self.explained:
            self.explained.append(self.explain())
        return self.explained[0]

    def __call__(
        self,
        inputs: Sequence[Array],
        v: Sequence[Array] | None = None,
        weights: Sequence[Array] | None = None,
        out: Any = None,
    ) -> Result:
        """`out` takes the result: an array of its shape and dtype, or such arrays nested as the result is.

        Raises:
            InputError: `wrong-inputs`, `bad-weights`, `bad-out`: they do not have the shapes and dtypes planned for.
            FunctionError: `bad-v`, `nonfinite-result`.
        """
        started = time.perf_counter()
        arrays = check_inputs(self.inputs, inputs)
        if weights is not None or self.weights:
            arrays += check_weights(self.weights, weights)
        seeds = check_vector(self.row, self.seeds, v)
        if self.problem.options.verify and not self.verifiers:
            self.verifiers.append(verifier(self.problem, self.row))
        found, blocks = self._run(arrays, seeds, out)
        if not self.outline.chunks:
            progress.report(1, 1)
        n_value, n_output, n_gradient, _ = self.counts
        at, end = n_value + n_output, n_value + n_output + n_gradient
        value = self._value(found[:n_value], blocks)
        if out is not None:
            value = written(value, out)
        output = _bare(found[n_value:at], n_output == 1) if n_output else None
        slope = _bare(found[at:end], self.is_bare) if n_gradient else None
        if self.problem.options.nonfinite == "error":
            check_finite([output, slope, value], self.problem.source, arrays, self.problem.options.batch)
        result = Result(value, output, found[end:], self._stats(time.perf_counter() - started), slope)
        if not self.verifiers:
            return result
        return replace(result, verification=self.verifiers[0](result, arrays, seeds))

    def quick(self) -> Callable[[Array], Any] | None:
        """`self((x,)).value` for a small x that has been checked, in a few microseconds; None where there is none.

        For the Hessian by direct assembly of a function of one small input, once the VM is loaded.
        """
        options, matrix = self.problem.options, self.matrix
        is_checked = options.nonfinite == "error" or options.verify
        is_plain = self.row.name == "hessian" and self.direct is None and len(self.inputs) == 1 and not self.weights
        if not is_plain or not isinstance(matrix, DirectProgram) or not self.is_bare or is_checked:
            return None
        run = matrix.quick()
        if run is None or matrix.layout in ("dense", "packed"):
            return run
        values = run
        if self.shared is None:
            shape = self.inputs[0].shape
            return lambda x: values(x).reshape(shape)
        pattern, rows = self.shared
        return lambda x: sparse_matrix(pattern, matrix.layout, values(x), rows)

    def _run(
        self, arrays: list[Array], seeds: list[Array], out: Any
    ) -> tuple[list[Array], Blocks | None]:
        """Values of the nodes, and the blocks of the matrix program where there is one."""
        matrix = self.matrix
        if out is not None and not isinstance(matrix, DirectProgram):
            disown(out)
        if matrix is None:
            return [] if self.direct is None else self.direct.run([*arrays, *seeds]), None
        target = None if out is None else self._target(matrix, out)
        if out is not None and target is None:
            disown(out)
        if target is not None and any([np.may_share_memory(target, a) for a in arrays]):
            raise InputError("bad-out", "out shares memory with an input.", hint="Give it memory of its own.")
        both = with_extra(matrix)
        if both is not None:
            blocks, found = both.run_with_extra(arrays, target)
            return found, blocks
        first = self.direct.chunks if isinstance(self.direct, MappedProgram) else 0
        with progress.part(0, first + matrix.chunks):
            found = [] if self.direct is None else self.direct.run(arrays)
        with progress.part(first, first + matrix.chunks):
            return found, matrix.run(arrays) if target is None else matrix.run(arrays, target)

    def _target(self, matrix: MatrixProgram, out: Any) -> Array | None:
        """`out` where the matrix program can write straight into it."""
        shape = self.block_shape(matrix)
        if shape is None or self.row.reads == "trace":
            return None
        wrt = self.problem.wrt
        is_dense = matrix.layout == "dense"
        target = check_out(out, shape, wrt[0].dtype if is_dense else np.result_type(*[x.dtype for x in wrt]))
        return target if is_dense else target.reshape(-1)

    def block_shape(self, matrix: MatrixProgram) -> tuple[int, ...] | None:
        """The shape of the one array that the matrix program's result is; None where it is several."""
        n, wrt, batch = flat(self.problem.wrt), self.problem.wrt, self.problem.options.batch
        points = () if batch is None else (batch,)
        if matrix.layout in ("csr", "coo"):
            assert self.shared is not None
            return (self.shared[0].nnz,)
        if matrix.layout == "packed":
            return (n * (n + 1) // 2,)
        if len(wrt) > 1 or not self.is_bare or len(self.problem.outputs) > 1 or self.problem.options.is_selective:
            return None
        if matrix.layout == "diag":
            return None if points else wrt[0].shape
        first = self.problem.outputs[0].shape
        if self.row.name == "jacobian":
            return (*first, *wrt[0].shape)
        lead = first if self.row.name == "hessian" and self.problem.is_func else ()
        return (*points, *lead, *wrt[0].shape, *wrt[0].shape)

    def _value(self, nodes: list[Array], blocks: Blocks | None) -> Any:
        row, width = self.row, len(self.problem.wrt)
        if blocks is None and row.is_matrix:
            blocks = [nodes[k:k + width] for k in range(0, len(nodes), width)]
        elif blocks is None:
            is_by_output = row.name in ("value", "jvp")
            is_one = row.reads == "trace" or (len(nodes) == 1 if is_by_output else self.is_bare)
            return _bare(nodes, is_one)
        layout = "dense" if self.matrix is None else self.matrix.layout
        if layout == "dense":
            return blocks[0][0] if self.problem.options.is_selective else self._nested(blocks)
        (values,), = blocks
        if row.reads == "trace":
            return np.asarray(values.sum(-1))
        if layout == "diag":
            return _bare(_split(values, self.problem.wrt), self.is_bare)
        if self.shared is None:
            return values  # packed
        pattern, rows = self.shared
        return sparse_matrix(pattern, layout, values, rows)

    def _nested(self, blocks: Blocks) -> Any:
        """Blocks [row][wrt] as torch nests them: outputs, then (for a Hessian) inputs i, then inputs j."""
        if self.is_bare and len(blocks) == 1:
            return blocks[0][0]
        rows = [_bare(row, self.is_bare) for row in blocks]
        if self.row.is_second_order:
            width = len(self.problem.wrt)
            rows = [_bare(rows[k:k + width], self.is_bare) for k in range(0, len(rows), width)]
        return _bare(rows, len(self.problem.outputs) == 1)

    def _stats(self, seconds: float) -> dict[str, Any]:
        tiers = {p.tier for p in self.programs}
        tier = "reference" if "reference" in tiers else "jit" if tiers == {"jit"} else "vm"
        known = self.known_stats.get(tier)
        if known is None:
            known = self.known_stats[tier] = self._described(tier)
        return {**known, "seconds": seconds}

    def _described(self, tier: str) -> dict[str, Any]:
        plan, works = self.outline, [p.interpreted for p in self.programs]
        slow, total = sum([w[0] for w in works]), sum([w[1] for w in works])
        return {
            "operation": plan.operation,
            "strategy": plan.strategy,
            "tier": tier,
            "fallbacks": sorted({name for p in self.programs for name in p.fallbacks}),
            "fallback_elements": slow,
            "fallback_share": round(slow / max(total, 1), 3),
            "device": plan.device,
            "threads": plan.threads,
            "columns": plan.columns,
            "chunk_size": plan.chunk_size,
            "chunks": plan.chunks,
            "nodes": plan.derived_nodes,
            "predicted_peak_bytes": plan.predicted_peak_bytes,
        }


def _bare(values: list[Any], is_bare: bool) -> Any:
    return values[0] if is_bare else values


def _split(values: Array, wrt: Sequence[Node]) -> list[Array]:
    """A vector over the concatenated inputs, or several, as one array for each input, of its shape."""
    lead = values.shape[:-1]
    if len(wrt) == 1:
        return [values.reshape((*lead, *wrt[0].shape))]
    parts = np.split(values, np.cumsum([x.size for x in wrt])[:-1], axis=-1)
    return [part.astype(x.dtype).reshape((*lead, *x.shape)) for part, x in zip(parts, wrt, strict=True)]


def sparse_matrix(pattern: Pattern, layout: str, values: Array, rows: Array | None) -> SparseMatrix:
    """`values` at the entries of a pattern, whose index arrays all results share: they are read-only."""
    if layout == "csr":
        return SparseMatrix(layout, pattern.shape, values, pattern.indices, indptr=pattern.indptr)
    return SparseMatrix(layout, pattern.shape, values, pattern.indices, rows=rows)


def shared_pattern(matrix: MatrixProgram) -> tuple[Pattern, Array] | None:
    """The pattern of a sparse program with the row of each entry, read-only."""
    pattern: Pattern | None = getattr(matrix, "pattern", None)
    if pattern is None or matrix.layout not in ("csr", "coo"):
        return None
    rows = pattern.rows if matrix.layout == "coo" else pattern.indptr
    for array in (pattern.indptr, pattern.indices, rows):
        array.flags.writeable = False
    return pattern, rows

"""A Hessian or Jacobian by blocks of rows: for matrices that no memory holds whole.

Which rows a block has is an argument of the call, not part of what is prepared: they are the seeds of a sweep. So one
program serves all blocks, and a block costs its own rows.

    Hessian     rows are columns, H' = H: the seeds e_k of a forward sweep over the gradient give H e_k
    Jacobian    e_k' J by a reverse sweep; forward where all columns, once a block, are fewer passes than all rows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hesse_engine.arguments import check_asked, check_inputs, check_weights
from hesse_engine.backend.device import check_device, check_threads
from hesse_engine.backend.finite import check_finite
from hesse_engine.backend.matrix import check_budget
from hesse_engine.backend.plan import Plan, chosen_chunk, flops_of
from hesse_engine.backend.sweep import LinearMap, SweepProgram
from hesse_engine.compute import pose
from hesse_engine.derivatives import DERIVATIVES, Derivative, Problem, Sweep, positions
from hesse_engine.errors import InputError
from hesse_engine.ir.collection import uncollected
from hesse_engine.ir.graph import Array, DType, Graph, flat
from hesse_engine.ir.walk import reachable
from hesse_engine.options import Options

OPERATIONS = ("hessian", "jacobian")
BLOCK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, eq=False)
class RowBlocks:
    """A matrix over the concatenated flattened elements, as `options.rows` and `options.columns` choose; thread-safe.

    Attributes:
        shape: of the whole result.
        dtype: of its elements.
        height: rows of a block that keeps to the budget; the last may have fewer.
        predicted_bytes: memory that computing one block takes, the block twice (it is copied on its way out).
    """

    problem: Problem
    row: Derivative
    strategy: str
    program: SweepProgram
    is_by_row: bool  # whether the seeds are rows; else all columns are computed and the rows picked
    chosen: tuple[Array, Array]  # rows, columns
    dtype: DType
    height: int
    predicted_bytes: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.chosen[0]), len(self.chosen[1])

    def describe(self) -> dict[str, Any]:
        """How it is computed, as the `stats` of a result."""
        options, program = self.problem.options, self.program
        return {
            "operation": self.row.name,
            "strategy": self.strategy,
            "device": check_device(options.device),
            "threads": check_threads(options.threads),
            "chunk_size": program.width,
            "block_rows": self.height,
            "blocks": -(-self.shape[0] // self.height),
            "nodes": sum([p.node_count for p in program.programs]),
            "predicted_peak_bytes": self.predicted_bytes,
        }

    @property
    def plan(self) -> Plan:
        """The whole matrix: what computing each of its blocks once takes."""
        program, (height, width) = self.program, self.shape
        blocks = -(-height // max(1, self.height))
        seeds = self.height if self.is_by_row else width
        passes = -(-seeds // max(1, program.width))
        if self.is_by_row and blocks:  # the last block may have fewer rows
            last = -(-(height - (blocks - 1) * self.height) // max(1, program.width))
            passes_in_all = (blocks - 1) * passes + last
        else:
            passes_in_all = blocks * passes
        once = reachable(program.hoisted)
        each = set(reachable(program.images)) - set(once)
        result = height * width * self.dtype.itemsize
        return Plan(
            self.row.name, self.strategy, check_device(self.problem.options.device),
            check_threads(self.problem.options.threads), height if self.is_by_row else width, program.width,
            passes_in_all, len(self.problem.graph.builder.nodes), sum([p.node_count for p in program.programs]),
            blocks * flops_of(once) + passes_in_all * flops_of(each), result, self.predicted_bytes,
            bytes_written=result,
        )

    def __call__(
        self, inputs: Sequence[Array], start: int, stop: int, weights: Sequence[Array] | None = None
    ) -> Array:
        """The rows start, ..., stop - 1 of the result, row-major.

        Raises:
            InputError: `wrong-inputs`, `bad-weights`.
            FunctionError: `nonfinite-result`.
        """
        graph, problem = self.problem.graph, self.problem
        given = len(graph.inputs) - len(problem.weights)
        arrays = check_inputs(graph.inputs[:given], inputs)
        if weights is not None or problem.weights:
            arrays += check_weights(problem.weights, weights)
        rows, columns = self.chosen[0][start:stop], self.chosen[1]
        found = np.empty((len(rows), len(columns)), self.dtype)
        if self.is_by_row:
            self._by_row(arrays, rows, found)
        else:
            self._by_column(arrays, rows, found)
        if problem.options.nonfinite == "error":
            check_finite([found], problem.source, arrays, None, start)
        return found

    def _by_row(self, arrays: list[Array], rows: Array, found: Array) -> None:
        columns = self.chosen[1]
        is_whole = len(columns) == flat(self.program.linear.faces) and np.array_equal(columns, np.arange(len(columns)))
        for at, parts in self.program.pieces(arrays, None, rows):
            piece = found[at:at + parts[0].shape[1]]
            if not is_whole:
                piece[...] = np.concatenate(parts)[columns].T
                continue
            left = 0
            for part in parts:
                piece[:, left:left + len(part)] = part.T
                left += len(part)

    def _by_column(self, arrays: list[Array], rows: Array, found: Array) -> None:
        for at, parts in self.program.pieces(arrays, None, self.chosen[1]):
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
            found[:, at:at + whole.shape[1]] = whole[rows]


@uncollected()
def prepare_rows(
    graph: Graph, operation: str, options: Options | None = None, block_bytes: int = BLOCK_BYTES
) -> RowBlocks:
    """Derive, plan and lower once for all blocks of rows, which are of about `block_bytes` and within the budget.

    Raises:
        InputError: `bad-option`: the operation or an option knows no blocks of rows; others as `prepare`.
        LimitError: `over-memory-budget`: not even one row would fit.
    """
    chosen = (options or Options()).checked()
    row = _check_rows(operation, chosen)
    problem = pose(graph, row, replace(chosen, rows=None, columns=None, preallocate=True))
    sweep = row.derive(problem).sweep
    assert sweep is not None
    positions_of = (positions("rows", chosen.rows, flat(sweep.rows)),
                    positions("columns", chosen.columns, flat(sweep.wrt)))
    itemsize = max([n.dtype.itemsize for n in sweep.wrt])
    height = max(1, min(len(positions_of[0]), block_bytes // max(1, itemsize * len(positions_of[1]))))
    sweep, is_by_row = _oriented(sweep, problem, row, -(-len(positions_of[0]) // height))
    by_rows = problem.is_func and sweep.mode == "forward" and not is_by_row
    dtype = np.result_type(*[n.dtype for n in (sweep.rows if by_rows else sweep.wrt)])
    row_bytes = 2 * dtype.itemsize * len(positions_of[1])
    program, height = _fitting(LinearMap(sweep), problem, height, row_bytes, is_by_row)
    inner = "" if row.name == "jacobian" else "-over-reverse" if problem.is_func else _inner(problem)
    return RowBlocks(problem, row, f"{sweep.mode}{inner} by blocks of rows", program, is_by_row, positions_of, dtype,
                     height, height * row_bytes + program.workspace_bytes)


def _inner(problem: Problem) -> str:
    """What the named strategy says of the gradient."""
    inner = problem.options.strategy.partition("-over-")[2]
    return f"-over-{inner or 'reverse'}"


def _check_rows(operation: str, options: Options) -> Derivative:
    if operation not in OPERATIONS:
        raise InputError("bad-option", f"{operation} cannot be streamed; {' and '.join(OPERATIONS)} can.",
                         pointer="/options/stream")
    row = DERIVATIVES[operation]
    check_asked(row, options)
    refused = {"layout": options.layout != "dense", "batched": options.batch is not None, "aux": options.aux > 0,
               "verify": options.verify}
    for name, is_given in refused.items():
        if is_given:
            raise InputError("bad-option", f"A matrix in blocks of rows is dense and of one point: leave out {name}.",
                             pointer=f"/options/{name}")
    return row


def _oriented(sweep: Sweep, problem: Problem, row: Derivative, blocks: int) -> tuple[Sweep, bool]:
    """The sweep that gives blocks of rows in the fewest passes, and whether its seeds are rows."""
    if row.is_second_order and flat(problem.outputs) == 1:
        return sweep, True  # symmetric: either mode gives rows
    is_named = problem.options.strategy != "auto"
    if row.is_second_order or (not is_named and flat(sweep.rows) <= blocks * flat(sweep.wrt)):
        sweep = replace(sweep, mode="reverse")
    elif not is_named:
        sweep = replace(sweep, mode="forward")
    return sweep, sweep.mode == "reverse"


def _fitting(
    linear: LinearMap, problem: Problem, height: int, row_bytes: int, is_by_row: bool
) -> tuple[SweepProgram, int]:
    """The program, and the rows of a block, that keep the predicted peak within the budget."""
    options = problem.options
    budget = options.max_memory_bytes
    most = min(linear.count, height) if is_by_row else linear.count
    width = chosen_chunk(most, linear.widest, linear.dtype.itemsize, options.chunk_size)
    while True:
        program = SweepProgram(linear, problem, max(width, 1))
        work = program.workspace_bytes
        if budget is None or work + height * row_bytes <= budget:
            return program, height
        fitting = (budget - work) // max(1, row_bytes)
        if fitting >= min(height, width) or (fitting >= 1 and width <= 1):
            return program, int(min(height, fitting))
        if width <= 1:
            check_budget(work + row_bytes, options, row_bytes // 2)
        width = max(1, width // 2)

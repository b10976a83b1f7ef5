"""The whole pipeline on one page: graph -> simplify -> derive -> plan -> run -> Result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hesse_engine.arguments import check_differentiable, check_inputs, check_vector
from hesse_engine.backend import reference
from hesse_engine.backend.device import check_device, check_threads
from hesse_engine.backend.plan import Plan, chosen_chunk, flops_of, readable_bytes
from hesse_engine.backend.program import Program, build_program
from hesse_engine.backend.sweep import LinearMap, SweepProgram
from hesse_engine.derivatives import DERIVATIVES, Derivative, Derived, Problem
from hesse_engine.errors import InputError, LimitError, StateError
from hesse_engine.ir.graph import Array, DType, Graph, Node
from hesse_engine.ir.walk import reachable
from hesse_engine.options import Options, normalized_argnums
from hesse_engine.result import Result
from hesse_engine.simplify.passes import simplify, simplify_nodes
from hesse_engine.strict import check_strict


def compute(
    graph: Graph,
    operation: str,
    inputs: Sequence[Array],
    v: Sequence[Array] | None = None,
    options: Options | None = None,
) -> Result:
    """`operation` of `graph` at `inputs`: `prepare` and one call of what it returns."""
    return prepare(graph, operation, options)(inputs, v)


def prepare(graph: Graph, operation: str, options: Options | None = None) -> Prepared:
    """Derive, plan and lower once; the result may be called for any inputs of the graph's shapes and dtypes.

    Raises:
        StateError: `unknown-operation`.
        InputError, LimitError, FunctionError: the options, the budget or the function do not allow it.
    """
    chosen = (options or Options()).checked()
    row = DERIVATIVES.get(operation) if isinstance(operation, str) else None
    if row is None:
        raise StateError("unknown-operation", f"The operations are {', '.join(DERIVATIVES)}.")
    problem = pose(graph, row, chosen)
    derived = row.derive(problem)
    direct = simplify_nodes([*derived.value, *derived.output, *problem.aux])
    linear = LinearMap(derived.sweep) if derived.sweep is not None else None
    return _lower(graph, row, problem, derived, direct, linear)


def pose(graph: Graph, row: Derivative, options: Options) -> Problem:
    """Split outputs from auxiliaries, resolve argnums, decide `strict` on the graph as written, then simplify."""
    count = len(graph.outputs) - options.aux
    if count < 1:
        raise InputError("bad-option", f"aux is {options.aux}, but the graph has {len(graph.outputs)} output(s).",
                         pointer="/options/aux")
    argnums = differentiated(options, len(graph.inputs))
    wrt = tuple([graph.inputs[k] for k in argnums])
    if row.name != "value":
        check_differentiable(row.name, graph.outputs[:count], wrt, options)
    if options.strict:
        check_strict(graph, row.name, count, argnums, options)
    simple = simplify(graph)
    return Problem(simple, simple.outputs[:count], simple.outputs[count:], wrt, options)


def differentiated(options: Options, count: int) -> tuple[int, ...]:
    """Positions of the differentiated inputs."""
    if options.argnums is None:
        return tuple(range(count)) if options.api == "functional" else (0,)
    return normalized_argnums(options.argnums, count)


def guards_hold(graph: Graph, inputs: Sequence[Array]) -> bool:
    """Whether the branches taken when the graph was traced are those that `inputs` would take."""
    if not graph.guards:
        return True
    found = reference.run([n for n, _ in graph.guards], dict(zip(graph.inputs, inputs, strict=True)))
    return all([bool(f) == value for f, (_, value) in zip(found, graph.guards, strict=True)])


@dataclass(frozen=True, slots=True)
class Prepared:
    """One operation, ready to be called; thread-safe."""

    plan: Plan
    problem: Problem
    row: Derivative
    seeds: tuple[Node, ...]
    direct: Program | None
    sweep: SweepProgram | None
    counts: tuple[int, int, int]  # of value, output and auxiliary nodes in `direct`
    dtypes: tuple[tuple[DType, ...], ...]
    is_bare: bool

    def __call__(self, inputs: Sequence[Array], v: Sequence[Array] | None = None) -> Result:
        """Raises `InputError` where inputs or v do not have the shapes and dtypes that were planned for."""
        started = time.perf_counter()
        arrays = check_inputs(self.problem.graph.inputs, inputs)
        seeds = check_vector(self.row, self.seeds, v)
        found = [] if self.direct is None else self.direct.run([*arrays, *seeds])
        n_value, n_output, _ = self.counts
        value: Any = found[:n_value]
        if self.sweep is not None:
            value = self._nested(self.sweep.run(arrays, self.dtypes))
        elif self.row.name == "value":
            value = _bare(value, len(value) == 1)
        elif self.row.vector == "inputs" and self.row.name == "jvp":
            value = _bare(value, len(self.problem.outputs) == 1)
        else:
            value = _bare(value, self.is_bare)
        output = found[n_value:n_value + n_output] if self.row.is_pair else None
        return Result(
            value,
            None if output is None else _bare(output, len(output) == 1),
            found[n_value + n_output:],
            self._stats(time.perf_counter() - started),
        )

    def _nested(self, blocks: list[list[Array]]) -> Any:
        """Blocks [row][wrt] as torch nests them: outputs, then (for a Hessian) inputs i, then inputs j."""
        rows = [_bare(row, self.is_bare) for row in blocks]
        if self.row.name == "hessian":
            width = len(self.problem.wrt)
            rows = [_bare(rows[k:k + width], self.is_bare) for k in range(0, len(rows), width)]
        return _bare(rows, len(self.problem.outputs) == 1)

    @property
    def programs(self) -> list[Program]:
        return ([] if self.direct is None else [self.direct]) + ([] if self.sweep is None else self.sweep.programs)

    def _stats(self, seconds: float) -> dict[str, Any]:
        plan, programs = self.plan, self.programs
        tiers = {p.tier for p in programs}
        return {
            "operation": plan.operation,
            "strategy": plan.strategy,
            "tier": "reference" if "reference" in tiers else "vm",
            "fallbacks": sorted({name for p in programs for name in p.fallbacks}),
            "device": plan.device,
            "threads": plan.threads,
            "columns": plan.columns,
            "chunk_size": plan.chunk_size,
            "chunks": plan.chunks,
            "nodes": plan.derived_nodes,
            "predicted_peak_bytes": plan.predicted_peak_bytes,
            "seconds": seconds,
        }


def _bare(values: list[Any], is_bare: bool) -> Any:
    return values[0] if is_bare else values


def _lower(
    graph: Graph, row: Derivative, problem: Problem, derived: Derived, direct: list[Node], linear: LinearMap | None
) -> Prepared:
    options = problem.options
    threads, inputs = check_threads(options.threads), problem.graph.inputs
    program = None
    if direct:
        program = build_program([*inputs, *derived.seeds], direct, threads=threads, tier=options.tier)
    dtypes = _block_dtypes(row, problem, derived)
    result_bytes = sum([n.size * n.dtype.itemsize for n in derived.value])
    sweep, columns, width = None, 0, 0
    if linear is not None:
        rows, wrt = (linear.faces, linear.seeded) if linear.is_forward else (linear.seeded, linear.faces)
        result_bytes = sum([r.size * x.size * dtypes[i][j].itemsize
                            for i, r in enumerate(rows) for j, x in enumerate(wrt)])
        columns, width = linear.count, chosen_chunk(linear.count, linear.widest, linear.dtype.itemsize,
                                                    options.chunk_size)
        _check_budget(result_bytes, 0, options, width)
        sweep, width = _fitting_sweep(linear, inputs, width, result_bytes, options)
    peak = result_bytes + (0 if sweep is None else sweep.workspace_bytes) + (
        0 if program is None else max(0, program.predicted_bytes - (result_bytes if sweep is None else 0)))
    _check_budget(peak, 0, options, width)
    passes = sweep.images if sweep is not None else []
    derived_nodes = reachable([*direct, *passes])
    chunks = 0 if sweep is None else sweep.chunks
    plan = Plan(
        row.name, derived.strategy, check_device(options.device), threads, columns, width, chunks,
        len(reachable(graph.outputs)), len(derived_nodes), flops_of(derived_nodes) * max(1, chunks), result_bytes, peak,
    )
    is_bare = isinstance(options.argnums, int) or (options.argnums is None and len(problem.wrt) == 1)
    counts = (len(derived.value), len(derived.output), len(problem.aux))
    return Prepared(plan, problem, row, derived.seeds, program, sweep, counts, dtypes, is_bare)


def _fitting_sweep(
    linear: LinearMap, inputs: Sequence[Node], width: int, result_bytes: int, options: Options
) -> tuple[SweepProgram, int]:
    """The sweep of the widest chunk, at most `width`, whose predicted peak is within the budget."""
    while True:
        sweep = SweepProgram(linear, inputs, width, preallocate=options.preallocate,
                             threads=check_threads(options.threads), tier=options.tier)
        peak = result_bytes + sweep.workspace_bytes
        if options.max_memory_bytes is None or peak <= options.max_memory_bytes:
            return sweep, width
        if width <= 1:
            _check_budget(peak, result_bytes, options, 1)
        spare = max(0, options.max_memory_bytes - result_bytes)
        width = max(1, min(width - 1, int(width * spare / max(1, sweep.workspace_bytes))))


def _check_budget(peak: int, result_bytes: int, options: Options, width: int) -> None:
    budget = options.max_memory_bytes
    if budget is not None and peak > budget:
        workspace = f" ({readable_bytes(result_bytes)} of it the result)" if result_bytes else ""
        raise LimitError(
            "over-memory-budget",
            f"The computation is predicted to need {peak:,} bytes{workspace}, more than max_memory_bytes = {budget:,}; "
            f"nothing was allocated. The chunk size considered was {width}, the smallest that could fit is 1.",
            hint="Raise max_memory_bytes, ask for fewer inputs (argnums), or use hvp for products with the matrix.",
        )


def _block_dtypes(row: Derivative, problem: Problem, derived: Derived) -> tuple[tuple[DType, ...], ...]:
    """torch.autograd.functional gives block [i][j] the dtype of input j; torch.func that of row i going forward."""
    if derived.sweep is None:
        return ()
    forward = problem.is_func and derived.sweep.mode == "forward"
    return tuple([tuple([r.dtype if forward else x.dtype for x in derived.sweep.wrt]) for r in derived.sweep.rows])


__all__ = ["Options", "Plan", "Prepared", "Result", "compute", "guards_hold", "prepare"]

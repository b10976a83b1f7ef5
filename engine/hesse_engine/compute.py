"""The whole pipeline on one page: graph -> simplify -> derive -> plan -> run -> Result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hesse_engine.arguments import check_differentiable, check_inputs, check_vector
from hesse_engine.backend import reference
from hesse_engine.backend.device import check_device, check_threads
from hesse_engine.backend.direct import DirectProgram
from hesse_engine.backend.matrix import MatrixProgram, check_budget, is_within_budget
from hesse_engine.backend.plan import Plan, flops_of
from hesse_engine.backend.program import Program, build_program
from hesse_engine.backend.sweep import fitting_sweep
from hesse_engine.derivatives import DERIVATIVES, Derivative, Derived, Problem
from hesse_engine.errors import InputError, StateError
from hesse_engine.ir.graph import Array, Graph, Node
from hesse_engine.ir.walk import reachable
from hesse_engine.options import Options, normalized_argnums
from hesse_engine.result import Result
from hesse_engine.simplify.passes import simplify, simplify_nodes
from hesse_engine.strict import check_strict
from hesse_engine.structure.pushing import QuadraticForm, second_differential
from hesse_engine.structure.sinking import sink


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
    form = quadratic_form(problem) if row.name == "hessian" else None
    program = DirectProgram(form, problem) if form is not None else None
    if program is not None and is_within_budget(program, chosen):
        return _lower(problem, row, Derived("direct-assembly"), program)
    derived = row.derive(problem)
    return _lower(problem, row, derived, None if derived.sweep is None else fitting_sweep(derived.sweep, problem))


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


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One operation, ready to be called; thread-safe."""

    plan: Plan
    problem: Problem
    row: Derivative
    seeds: tuple[Node, ...]
    direct: Program | None
    matrix: MatrixProgram | None
    counts: tuple[int, int, int]  # of value, output and auxiliary nodes in `direct`
    is_bare: bool
    programs: tuple[Program, ...]
    known_stats: dict[str, dict[str, Any]] = field(default_factory=dict)  # by tier

    def __call__(self, inputs: Sequence[Array], v: Sequence[Array] | None = None) -> Result:
        """Raises `InputError` where inputs or v do not have the shapes and dtypes that were planned for."""
        started = time.perf_counter()
        arrays = check_inputs(self.problem.graph.inputs, inputs)
        seeds = check_vector(self.row, self.seeds, v)
        found = [] if self.direct is None else self.direct.run([*arrays, *seeds])
        n_value, n_output, _ = self.counts
        value: Any = found[:n_value]
        if self.matrix is not None:
            value = self._nested(self.matrix.run(arrays))
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
        if self.is_bare and len(blocks) == 1:
            return blocks[0][0]
        rows = [_bare(row, self.is_bare) for row in blocks]
        if self.row.name == "hessian":
            width = len(self.problem.wrt)
            rows = [_bare(rows[k:k + width], self.is_bare) for k in range(0, len(rows), width)]
        return _bare(rows, len(self.problem.outputs) == 1)

    def _stats(self, seconds: float) -> dict[str, Any]:
        tier = "vm"
        for program in self.programs:
            if program.tier == "reference":
                tier = "reference"
        known = self.known_stats.get(tier)
        if known is None:
            known = self.known_stats[tier] = self._described(tier)
        return {**known, "seconds": seconds}

    def _described(self, tier: str) -> dict[str, Any]:
        plan = self.plan
        return {
            "operation": plan.operation,
            "strategy": plan.strategy,
            "tier": tier,
            "fallbacks": sorted({name for p in self.programs for name in p.fallbacks}),
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


def quadratic_form(problem: Problem) -> QuadraticForm | None:
    """The Hessian as a form over linear images of the inputs, where the function allows it and no strategy is named."""
    if problem.options.strategy != "auto" or len(problem.outputs) != 1 or problem.outputs[0].size != 1:
        return None
    return second_differential(sink(problem.outputs[0], problem.wrt), problem.wrt)


def _lower(problem: Problem, row: Derivative, derived: Derived, matrix: MatrixProgram | None) -> Prepared:
    options, inputs = problem.options, problem.graph.inputs
    nodes = simplify_nodes([*derived.value, *derived.output, *problem.aux])
    direct = None
    if nodes:
        seeded = [*inputs, *derived.seeds]
        direct = build_program(seeded, nodes, threads=check_threads(options.threads), tier=options.tier)
    plan = _plan(problem, row, derived, nodes, direct, matrix)
    if matrix is None:
        check_budget(plan.predicted_peak_bytes, options)
    is_bare = isinstance(options.argnums, int) or (options.argnums is None and len(problem.wrt) == 1)
    counts = (len(derived.value), len(derived.output), len(problem.aux))
    programs = (*([] if direct is None else [direct]), *([] if matrix is None else matrix.programs))
    return Prepared(plan, problem, row, derived.seeds, direct, matrix, counts, is_bare, programs)


def _plan(
    problem: Problem, row: Derivative, derived: Derived, nodes: list[Node], direct: Program | None,
    matrix: MatrixProgram | None,
) -> Plan:
    results = sum([n.size * n.dtype.itemsize for n in derived.value])
    peak = 0 if direct is None else direct.predicted_bytes
    columns = width = chunks = 0
    if matrix is not None:
        results = matrix.result_bytes
        peak += results + matrix.workspace_bytes
        columns, width, chunks = matrix.columns, matrix.width, matrix.chunks
    flops = flops_of(reachable(nodes)) + (0 if matrix is None else matrix.flops)
    order = reachable(nodes if matrix is None else [*nodes, *matrix.nodes])
    return Plan(
        row.name, derived.strategy, check_device(problem.options.device), check_threads(problem.options.threads),
        columns, width, chunks, len(reachable(problem.graph.outputs)), len(order), flops,
        results, peak,
    )


__all__ = ["Options", "Plan", "Prepared", "Result", "compute", "guards_hold", "prepare"]

"""The whole pipeline on one page: graph -> simplify -> derive -> plan -> run -> Result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from hesse_engine.arguments import check_asked, check_differentiable
from hesse_engine.backend import reference
from hesse_engine.backend.batched import BatchedAssembly
from hesse_engine.backend.compressed import CompressedProgram, compressed_hessian, compressed_jacobian, is_crowded
from hesse_engine.backend.cost import cheapest, is_worth_comparing, predicted
from hesse_engine.backend.device import check_device, check_threads
from hesse_engine.backend.direct import DirectProgram
from hesse_engine.backend.layouts import ConvertedProgram, DiagonalProgram, chosen_entries, with_extra
from hesse_engine.backend.machine import DEFAULTS
from hesse_engine.backend.mapped import MappedProgram
from hesse_engine.backend.matrix import MatrixProgram, check_budget, is_within_budget
from hesse_engine.backend.plan import Plan, flops_of
from hesse_engine.backend.prepared import Prepared, shared_pattern
from hesse_engine.backend.program import Program, build_program
from hesse_engine.backend.sweep import fitting_sweep
from hesse_engine.derivatives import (
    DERIVATIVES,
    Columns,
    Derivative,
    Derived,
    Problem,
    diagonals,
    repeated,
    trace,
    unrolled,
    weighted_sum,
)
from hesse_engine.errors import InputError, StateError
from hesse_engine.ir.collection import uncollected
from hesse_engine.ir.graph import Array, Graph, Node, flat
from hesse_engine.ir.walk import reachable
from hesse_engine.options import Options, normalized_argnums
from hesse_engine.result import Result
from hesse_engine.simplify.passes import simplify, simplify_nodes
from hesse_engine.strict import check_strict
from hesse_engine.structure.merging import merge_views
from hesse_engine.structure.opaque import through_opaque
from hesse_engine.structure.pattern import Pattern, hessian_pattern, jacobian_pattern
from hesse_engine.structure.pushing import QuadraticForm, second_differential
from hesse_engine.structure.sinking import sink
from hesse_engine.structure.slots import TooManySlots


def compute(
    graph: Graph,
    operation: str,
    inputs: Sequence[Array],
    v: Sequence[Array] | None = None,
    options: Options | None = None,
    *,
    weights: Sequence[Array] | None = None,
    out: Any = None,
) -> Result:
    """`operation` of `graph` at `inputs`: `prepare` and one call of what it returns."""
    chosen = options or Options()
    if weights is not None:
        chosen = replace(chosen, weighted=True)
    return prepare(graph, operation, chosen)(inputs, v, weights, out)


@uncollected()
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
    check_asked(row, chosen)
    problem = pose(graph, row, chosen)
    if chosen.batch is not None:
        return _batched(problem, row)
    _check_result(problem, row)
    is_triple = row.name == "value_grad_hessian" and len(problem.outputs) == 1
    output, slope = (problem.outputs, problem.slope()) if is_triple else ((), ())
    found = structured(problem, row, [*output, *slope, *problem.aux])
    if found is not None and not _is_swept_faster(problem, row, found[1]):
        strategy, program = found
        return _lower(problem, row, Derived(strategy, output=output, gradient=slope), program)
    derived = row.derive(problem)
    return _lower(problem, row, derived) if derived.sweep is None else _swept(problem, row, derived)


def _check_result(problem: Problem, row: Derivative) -> None:
    """Refuse a dense matrix over the budget before its pattern is looked for: that takes longer than saying no."""
    options = problem.options
    if not row.is_matrix or options.layout != "dense" or options.is_selective:
        return
    columns = flat(problem.wrt)
    rows = columns if row.is_second_order else flat(problem.outputs)
    least = rows * columns * min([n.dtype.itemsize for n in problem.wrt])
    check_budget(least, options, least)


def pose(graph: Graph, row: Derivative, options: Options) -> Problem:
    """Weigh the outputs, split off auxiliaries, resolve argnums, decide `strict` on the graph as written; simplify."""
    wrt = tuple([graph.inputs[k] for k in differentiated(options, len(graph.inputs))])
    count, given = _count(graph, options), len(graph.inputs)
    if options.weighted:
        graph, count = weighted_sum(graph, count), 1
    kind = "hessian" if row.is_second_order and row.vector == "none" else row.name
    if row.name != "value":
        check_differentiable(kind, graph.outputs[:count], wrt, options)
    if options.strict:
        check_strict(graph, kind, count, differentiated(options, given), options)
    simple = simplify(graph)
    outputs = simple.outputs[:count]
    if options.layout != "dense" and kind == "hessian" and (len(outputs) != 1 or outputs[0].size != 1):
        raise InputError("bad-layout", f"The layout {options.layout!r} holds the Hessian of one scalar; the function "
                                       f"has {flat(outputs)} output elements.", pointer="/options/layout",
                         hint="Weights make one scalar of them.")
    if row.reads != "all":
        options = replace(options, layout="diag")
    return Problem(simple, outputs, simple.outputs[count:], wrt, options, graph, graph.inputs[given:])


def _count(graph: Graph, options: Options) -> int:
    """How many outputs are differentiated."""
    count = len(graph.outputs) - options.aux
    if count < 1:
        raise InputError("bad-option", f"aux is {options.aux}, but the graph has {len(graph.outputs)} output(s).",
                         pointer="/options/aux")
    return count


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


def quadratic_form(problem: Problem) -> QuadraticForm | None:
    """The Hessian as a form over linear images of the inputs, where the function allows it and no strategy is named."""
    if problem.options.strategy != "auto" or len(problem.outputs) != 1 or problem.outputs[0].size != 1:
        return None
    output = merge_views(sink(problem.outputs[0], problem.wrt))
    return second_differential(output, problem.wrt) or through_opaque(output, problem.wrt)


def structured(
    problem: Problem, row: Derivative, extra: Sequence[Node] = ()
) -> tuple[str, MatrixProgram] | None:
    """(strategy, program) by direct assembly or a coloring, where the function, its pattern and the budget allow it.

    Direct assembly evaluates `extra` nodes along with its own.
    """
    options = problem.options
    if options.is_selective or not (row.is_matrix or row.reads != "all"):
        return None
    compressed: CompressedProgram | None
    if row.is_second_order:
        program = _assembled(problem, extra)
        is_full = program is not None and program.pattern is not None and is_crowded(program.pattern)
        compressed = compressed_hessian(problem, sparse_only=is_full) if program is None or is_full else None
        if program is not None and compressed is None:
            return "direct-assembly", program
    else:
        compressed = compressed_jacobian(problem)
    if compressed is None or not is_within_budget(compressed, options):
        return None
    return compressed.strategy, compressed


def _assembled(problem: Problem, extra: Sequence[Node]) -> DirectProgram | None:
    budget, n = problem.options.max_memory_bytes, flat(problem.wrt)
    if budget is not None and problem.options.layout == "dense" and n * n * problem.wrt[0].dtype.itemsize > budget:
        return None  # before the constant part of H is there
    form = quadratic_form(problem)
    try:
        program = None if form is None else DirectProgram(form, problem, extra)
    except TooManySlots:
        return None
    return program if program is not None and is_within_budget(program, problem.options) else None


def _is_swept_faster(problem: Problem, row: Derivative, program: MatrixProgram) -> bool:
    """Whether a sweep of all columns is predicted to take less than half the time of `program`, if that is long.

    By the rates of no machine in particular: the same call gives the same bits before and after they are measured.
    """
    options = problem.options
    if options.layout != "dense" or options.max_memory_bytes is not None or not is_worth_comparing(program, DEFAULTS):
        return False
    sweep = row.derive(problem).sweep
    return sweep is not None and cheapest([program, fitting_sweep(sweep, problem)], DEFAULTS) is not program


def _swept(problem: Problem, row: Derivative, derived: Derived) -> Prepared:
    """A matrix by chunks of its columns or rows, with everything else evaluated along with it."""
    options, sweep = problem.options, derived.sweep
    assert sweep is not None
    extra = simplify_nodes([*derived.output, *derived.gradient, *problem.aux])
    dense = fitting_sweep(sweep, problem, extra, options.layout)
    program: MatrixProgram = dense
    if options.layout == "diag":
        program = DiagonalProgram(dense)
    elif options.layout != "dense":
        pattern = None if sweep.columns is None else _chosen_pattern(problem, row, sweep.columns)
        program = ConvertedProgram(dense, options.layout, sweep.rows, sweep.wrt, pattern)
        check_budget(program.result_bytes + program.workspace_bytes, options, program.result_bytes)
    return _lower(problem, row, derived, program)


def _chosen_pattern(problem: Problem, row: Derivative, columns: Columns) -> Pattern | None:
    """The pattern of the chosen rows and columns."""
    if row.is_second_order:
        is_scalar = flat(problem.outputs) == 1
        whole = hessian_pattern(problem.outputs[0], problem.wrt, quadratic_form(problem)) if is_scalar else None
    else:
        whole = jacobian_pattern(problem.outputs, problem.wrt)
    return chosen_entries(whole, columns.rows, columns.positions)


def _batched(problem: Problem, row: Derivative) -> Prepared:
    """Over a batch of points: a Hessian by direct assembly, or else everything as nodes, the matrix too."""
    options, derived = problem.options, row.derive(problem)
    assert options.batch is not None
    matrix: MatrixProgram | None = None
    if derived.sweep is not None:
        matrix = _batched_assembly(problem, row)
    if matrix is not None:
        derived = replace(derived, strategy="direct-assembly")
    elif derived.sweep is not None:
        blocks = unrolled(derived.sweep)
        value = blocks if row.reads == "all" else diagonals(blocks, problem.wrt)
        derived = replace(derived, value=(trace(value),) if row.reads == "trace" else value)
    if options.tangents is not None:
        derived = repeated(derived, options.tangents)
    points = [*problem.graph.inputs, *derived.seeds]
    nodes = simplify_nodes([*derived.value, *derived.output, *derived.gradient, *problem.aux])
    mapped: MappedProgram | None = None
    if nodes or matrix is None:
        mapped = MappedProgram(points, nodes, points, options.batch, is_mapped=[True] * len(nodes),
                               cap=options.chunk_size, threads=check_threads(options.threads), tier=options.tier)
    prepared = _finished(problem, row, derived, nodes, mapped, matrix, options.batch)
    check_budget(prepared.outline.predicted_peak_bytes, options)
    return prepared


def _batched_assembly(problem: Problem, row: Derivative) -> MatrixProgram | None:
    form = quadratic_form(problem) if row.is_second_order else None
    if form is None or problem.options.batch is None:
        return None
    try:
        return BatchedAssembly(form, problem, problem.options.batch)
    except TooManySlots:
        return None


def _lower(problem: Problem, row: Derivative, derived: Derived, matrix: MatrixProgram | None = None) -> Prepared:
    options, inputs = problem.options, [*problem.graph.inputs, *derived.seeds]
    nodes = simplify_nodes([*derived.value, *derived.output, *derived.gradient, *problem.aux])
    direct: Program | MappedProgram | None = None
    threads, tier = check_threads(options.threads), options.tier
    if options.tangents is not None:
        is_mapped = [k < len(derived.value) for k in range(len(nodes))]
        direct = MappedProgram(inputs, nodes, derived.seeds, options.tangents, is_mapped=is_mapped,
                               cap=options.chunk_size, threads=threads, tier=tier)
    elif nodes and with_extra(matrix) is None:
        direct = build_program(inputs, nodes, threads=threads, tier=tier)
    prepared = _finished(problem, row, derived, nodes, direct, matrix, options.tangents)
    if matrix is None:
        check_budget(prepared.outline.predicted_peak_bytes, options)
    return prepared


def _finished(
    problem: Problem, row: Derivative, derived: Derived, nodes: list[Node], direct: Program | MappedProgram | None,
    matrix: MatrixProgram | None, points: int | None,
) -> Prepared:
    options = problem.options
    is_bare = isinstance(options.argnums, int) or (options.argnums is None and len(problem.wrt) == 1)
    counts = (len(derived.value), len(derived.output), len(derived.gradient), len(problem.aux))
    programs = (*([] if direct is None else [direct]), *([] if matrix is None else matrix.programs))
    given = len(problem.graph.inputs) - len(problem.weights)
    lead = () if options.batch is None else (options.batch,)
    inputs = _with_lead(problem.graph.inputs[:given], lead)
    weights, seeds = _with_lead(problem.weights, lead), derived.seeds
    if points is not None:
        seeds = _with_lead(seeds, (points,))
    outline = _outline(problem, row, derived, direct, matrix, programs)
    shared = None if matrix is None else shared_pattern(matrix)
    explain = partial(_explained, outline, problem, nodes, direct, matrix)
    return Prepared(outline, explain, problem, row, inputs, weights, seeds, direct, matrix, counts, is_bare, programs,
                    shared)


def _with_lead(nodes: Sequence[Node], lead: tuple[int, ...]) -> tuple[Node, ...]:
    """Inputs of the same names with a leading axis: what a call is checked against."""
    return tuple([n.builder.input(n.attrs["name"], (*lead, *n.shape), n.dtype) for n in nodes] if lead else nodes)


def _outline(
    problem: Problem, row: Derivative, derived: Derived, direct: Program | MappedProgram | None,
    matrix: MatrixProgram | None, programs: Sequence[Program | MappedProgram],
) -> Plan:
    """What a plan says that is known without looking at every node."""
    times = problem.options.batch or problem.options.tangents or 1
    results = sum([n.size * n.dtype.itemsize for n in derived.value]) * times
    peak = 0 if direct is None else direct.predicted_bytes
    columns = width = chunks = 0
    if isinstance(direct, MappedProgram):
        columns, width, chunks = direct.count, direct.width, direct.chunks
    if matrix is not None:
        results = matrix.result_bytes
        peak += results + matrix.workspace_bytes
        columns, width, chunks = matrix.columns, matrix.width, matrix.chunks
    return Plan(
        row.name, derived.strategy, check_device(problem.options.device), check_threads(problem.options.threads),
        columns, width, chunks, len(reachable(problem.graph.outputs)), sum([p.node_count for p in programs]), 0,
        results, peak,
    )


def _explained(
    outline: Plan, problem: Problem, nodes: list[Node], direct: Program | MappedProgram | None,
    matrix: MatrixProgram | None,
) -> Plan:
    """The outline with flops, bytes and seconds: what only somebody who asks for the plan has to wait for."""
    times = problem.options.batch or problem.options.tangents or 1
    is_apart = with_extra(matrix) is None
    flops = (flops_of(reachable(nodes)) * times if is_apart else 0) + (0 if matrix is None else matrix.flops)
    return predicted(replace(outline, flops=flops), direct, matrix)


__all__ = ["Options", "Plan", "Prepared", "Result", "compute", "guards_hold", "prepare"]

"""A derivative as nodes of the graph it is taken in: what a transform called inside a traced function becomes.

The same rows of `derivatives` as for an outermost call. Their sweeps are unrolled over identity seeds, so the result
can be differentiated, batched and nested again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hesse_engine.arguments import check_differentiable
from hesse_engine.derivatives import DERIVATIVES, Derived, Problem, diagonals, trace
from hesse_engine.errors import StateError
from hesse_engine.ir.graph import Graph, Node, apply
from hesse_engine.ir.shapes import convert
from hesse_engine.ir.walk import substitute
from hesse_engine.options import Options, normalized_argnums
from hesse_engine.result import Result
from hesse_engine.transforms.compose import jacobian_forward, jacobian_reverse


def derive(
    graph: Graph,
    operation: str,
    v: Sequence[Node],
    options: Options,
    arguments: Mapping[Node, Node] | None = None,
) -> Result:
    """`operation` of `graph` as nodes, nested as `compute` nests arrays for a tuple `argnums`.

    Args:
        graph: the inner function on inputs of its own. Nodes of the graph around it are constants to the derivative: a
            closure over an outer variable is not perturbed.
        operation: a row of `DERIVATIVES`.
        v: the vectors, of any floating dtype.
        options: `argnums` is a tuple.
        arguments: what is put in the place of the inputs, once everything is derived.

    Raises:
        StateError: `unknown-operation`.
        FunctionError, InputError: as the rows do.
    """
    row = DERIVATIVES.get(operation)
    if row is None:
        raise StateError("unknown-operation", f"The operations are {', '.join(DERIVATIVES)}.")
    count = len(graph.outputs) - options.aux
    wrt = tuple([graph.inputs[k] for k in normalized_argnums(options.argnums, len(graph.inputs))])
    outputs = graph.outputs[:count]
    if operation != "value":
        is_hessian = row.is_second_order and row.vector == "none"
        check_differentiable("hessian" if is_hessian else operation, outputs, wrt, options)
    problem = Problem(graph, outputs, graph.outputs[count:], wrt, options, graph)
    derived = row.derive(problem)
    replaced = dict(arguments or {})
    replaced.update({s: convert(a, s.dtype) for s, a in zip(derived.seeds, v, strict=True)})

    def put(nodes: Sequence[Node]) -> list[Node]:
        return substitute(nodes, replaced)

    is_single = count == 1
    value: Any
    if row.reads != "all":
        lines = diagonals([b for blocks in _unrolled(problem, derived) for b in blocks], wrt)
        value = put(lines) if row.reads == "diag" else put([trace(lines)])[0]
    elif derived.sweep is not None:
        value = _nested([put(blocks) for blocks in _unrolled(problem, derived)], row.is_second_order, len(wrt))
    else:
        value = put(derived.value)
    if is_single and (row.is_matrix or operation in ("value", "jvp")):
        value = value[0]
    output: Any = None
    if derived.output:
        found = put(derived.output)
        output = found[0] if is_single else found
    aux: Any = put(problem.aux)
    return Result(value, output, aux, gradient=put(derived.gradient) or None)


def _unrolled(problem: Problem, derived: Derived) -> list[list[Node]]:
    """The blocks [row][wrt] of a sweep, each of the dtype that torch gives it."""
    sweep = derived.sweep
    assert sweep is not None
    blocks = (jacobian_forward if sweep.mode == "forward" else jacobian_reverse)(sweep.rows, sweep.wrt)
    forward = problem.is_func and sweep.mode == "forward"
    return [
        [convert(block, r.dtype if forward else x.dtype) for block, x in zip(row, sweep.wrt, strict=True)]
        for row, r in zip(blocks, sweep.rows, strict=True)
    ]


def _nested(rows: list[list[Node]], is_hessian: bool, width: int) -> list[Any]:
    if not is_hessian:
        return list(rows)
    return [rows[k:k + width] for k in range(0, len(rows), width)]


def detached(nodes: Sequence[Node]) -> list[Node]:
    """`nodes`, cut off from every derivative taken around them."""
    return [apply("stop_gradient", n) if n.is_floating else n for n in nodes]

"""`func.linearize`: the point is visited once, what is left is linear in the tangents.

    y = f(x),   dy = J(x) dx

J(x) dx is a graph of the tangents and of residuals, the nodes at the border between what depends on the tangents and
what does not. They are computed once, with y, and held; each product then costs its linear part only. Over HTTP they
would have to travel with every product, so there the point itself is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hesse import tree
from hesse.evaluation import Evaluated, Function, Give, evaluate
from hesse.interop import Library, dtype_name, read, torch_size
from hesse.protocol import Call
from hesse.scope import Send, is_tensor
from hesse_engine.errors import FunctionError
from hesse_engine.frontends.trace import Trace, Tracer, active_trace, tracer_in
from hesse_engine.ir.graph import Array, Graph, Node
from hesse_engine.ir.rows import VIEWS
from hesse_engine.ir.walk import dependents, reachable, substitute
from hesse_engine.options import Options
from hesse_engine.result import Result
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.scan import transplanted

LINEARIZE = "linearize(f, *primals)"


@dataclass(frozen=True, slots=True)
class Linear:
    """The products as a graph: its inputs are what is held, then the tangents."""

    graph: Graph
    held: int
    structure: tree.Structure  # of the outputs


def linearized(send: Send, holds_residuals: bool, func: Function, primals: tuple[Any, ...]) -> Any:
    """`func.linearize`."""
    run = evaluate(func, primals, {}, None, False, LINEARIZE, lambda outputs, found: None, is_forward=True)
    scope, wrt = run.scope, [run.scope.inputs[k].node for k in run.wrt]
    tangents = [x.builder.input(f"t_{k}", x.shape, x.dtype) for k, x in enumerate(wrt)]
    moved = push_forward([y.node for y in run.outputs], dict(zip(wrt, tangents, strict=True)))
    products = [y.node.builder.zeros(y.node.shape, y.node.dtype) if t is None else t
                for y, t in zip(run.outputs, moved, strict=True)]
    residuals = border(products, tangents) if holds_residuals and not scope.is_nested else \
        [x.node for x in scope.inputs]
    shapes = [(tuple(p.shape), dtype_name(p.node) if isinstance(p, Tracer) else dtype_name(p))
              for p in tree.flatten(primals)[0]]
    check = _checker(tree.flatten(primals)[1], shapes)

    def finish(result: Result, give: Give) -> Any:
        count = len(run.outputs)
        values = [result.value] if count + len(residuals) == 1 else result.value
        output = tree.unflatten([give(y) for y in values[:count]], run.structure)
        if scope.is_nested:
            return output, _inside(run, products, tangents, values[count:], check)
        holders = [n.builder.input(f"r_{k}", n.shape, n.dtype) for k, n in enumerate(residuals)]
        graph = Graph((*holders, *tangents), tuple(substitute(products, dict(zip(residuals, holders, strict=True)))))
        held = [np.array(a) for a in values[count:]]
        return output, _outside(send, Linear(graph, len(held), run.structure), held, scope.library, check)

    graph = scope.graph([*run.outputs, *[Tracer(scope.trace, n) for n in residuals]])
    return scope.run(send, "value", graph, run.options(), finish)


def border(products: Sequence[Node], tangents: Sequence[Node]) -> list[Node]:
    """The nodes that do not depend on the tangents and are used by those that do; views are looked through."""
    order = reachable(products)
    inside = dependents(order, set(tangents))
    found: dict[Node, None] = {}
    stack = [a for n in order if n in inside for a in n.args] + list(products)
    while stack:
        node = stack.pop()
        if node in inside or node in found or node.value is not None or node.op == "zeros":
            continue
        if node.op in VIEWS and node.args[0].size <= node.size:
            stack.append(node.args[0])
        else:
            found[node] = None
    return sorted(found, key=lambda n: n.number)


Check = Callable[[tuple[Any, ...]], list[Any]]


def _checker(structure: tree.Structure, shapes: Sequence[tuple[tuple[int, ...], str]]) -> Check:
    """What reads tangents as leaves, in torch's words for those that do not fit."""

    def check(tangents: tuple[Any, ...]) -> list[Any]:
        leaves, given = tree.flatten(tangents)
        if given != structure:
            raise FunctionError("bad-structure", f"Expected the tangents {given} to have the same argspec as the "
                                                 f"primals {structure}")
        for k, (leaf, (shape, dtype)) in enumerate(zip(leaves, shapes, strict=True)):
            if not is_tensor(leaf):
                raise FunctionError("bad-structure", f"{LINEARIZE}: Expected tangents to only contain Tensors, got "
                                                     f"{type(leaf)}")
            about = f"tangent:{k} with"
            of = "of the corresponding primal."
            if tuple(leaf.shape) != shape:
                raise FunctionError("bad-v", f"{about} shape {torch_size(tuple(leaf.shape))} in flattened pytree "
                                             f"doesn't match the shape {torch_size(shape)} {of}")
            name = dtype_name(leaf.node if isinstance(leaf, Tracer) else leaf)
            if name != dtype:
                raise FunctionError("bad-v", f"{about} dtype torch.{name} in flattened pytree doesn't match the dtype "
                                             f"torch.{dtype} {of}")
        return leaves

    return check


def _outside(send: Send, linear: Linear, held: list[Array], library: Library, check: Check) -> Function:
    """Products as calls of their own, or as nodes of whatever trace the tangents belong to."""

    def jvp_fn(*tangents: Any) -> Any:
        leaves = check(tangents)
        tracer = tracer_in(leaves)
        trace = active_trace() if tracer is None else tracer.trace
        if trace is not None:
            return _placed(linear, [*held, *leaves], trace)

        def finish(result: Result) -> Any:
            values = [result.value] if len(linear.graph.outputs) == 1 else result.value
            return tree.unflatten([library.wrap(p) for p in values], linear.structure)

        arrays = (*held, *[read(t) for t in leaves])
        return send(Call("value", linear.graph, arrays, None, Options(api="func"), finish))

    return jvp_fn


def _placed(linear: Linear, given: Sequence[Any], trace: Trace) -> Any:
    known = {}
    for node, value in zip(linear.graph.inputs, given, strict=True):
        known[node] = value.node if isinstance(value, Tracer) else trace.constant(read(value)).node
    found = transplanted(linear.graph.outputs, known, trace.builder)
    return tree.unflatten([Tracer(trace, n) for n in found], linear.structure)


def _inside(
    run: Evaluated, products: Sequence[Node], tangents: Sequence[Node], points: Sequence[Node], check: Check
) -> Function:
    """Products as nodes of the trace that the function was called in."""
    at = dict(zip([x.node for x in run.scope.inputs], points, strict=True))

    def jvp_fn(*given: Any) -> Any:
        leaves = [run.scope.lift(t).node for t in check(given)]
        found = substitute(products, {**at, **dict(zip(tangents, leaves, strict=True))})
        return tree.unflatten([Tracer(run.scope.trace, n) for n in found], run.structure)

    return jvp_fn


__all__ = ["linearized"]

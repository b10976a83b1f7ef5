"""Loops of a fixed number of steps that stay rolled: the body is a graph of its own, run once for each step.

    scan          c_0 = init,  c_(t+1) = F(k, x_t, c_t)             F any graph
    linear_scan   d_0 = init,  d_(t+1) = A(k, x_t) d_t + h_t        A a graph that is linear in d

Both give the whole trajectory, since derivatives need it: carries are columns of one flat vector, each with T + 1 rows.
Two facts carry the derivatives of every order, with nothing inside the loop but the recurrence itself:

    the tangent of a scan is a linear scan (A the derivative of F by the carry along the trajectory, h the rest)
    the transpose of a linear scan is a linear scan that runs the other way, with A transposed

They are stated by `transforms.scan`, which needs the transforms for the body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hesse_engine.errors import ArgumentTypeError, GraphError, LimitError
from hesse_engine.ir.graph import Array, Builder, DType, Graph, Node, Shape, is_zero, scalar_value, size_of
from hesse_engine.ir.rows import ROWS, Row, evaluate, register
from hesse_engine.ir.shapes import integer
from hesse_engine.ir.show import graph_id
from hesse_engine.ir.walk import dependents, reachable

MAX_STEPS = 1 << 28
MAX_BODY = 10_000  # nodes


class Body:
    """The step of a loop: a graph whose inputs are constants, slices and carries, in this order; outputs: the carries.

    Two bodies with the same canonical text are equal, so that equal loops are one node.
    """

    __slots__ = ("graph", "id", "order")

    def __init__(self, graph: Graph) -> None:
        self.graph, self.id = graph, graph_id(graph)
        self.order = tuple(reachable(graph.outputs))
        if len(self.order) > MAX_BODY:
            raise LimitError("too-many-nodes", f"The body of a loop has {len(self.order)} nodes; at most {MAX_BODY}.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Body) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"body:{self.id}"


class Calculus(Protocol):
    """How loops are differentiated and batched: what `transforms.scan` provides."""

    def tangent(self, node: Node, tangents: Sequence[Node | None]) -> Node | None: ...

    def transposed(self, node: Node, ct: Node) -> list[Node | None]: ...

    def batched(self, node: Node, args: list[Node], flags: list[bool], size: int) -> Node: ...


_calculus: list[Calculus] = []


def provide(calculus: Calculus) -> None:
    _calculus[:] = [calculus]


@dataclass(frozen=True, slots=True)
class Operands:
    """The operands of a loop by their role; `drive` are the h of a linear scan."""

    constants: tuple[Any, ...]
    slices: tuple[Any, ...]
    init: tuple[Any, ...]
    drive: tuple[Any, ...]


def sorted_out(op: str, values: Sequence[Any], body: Body, constants: int) -> Operands:
    """`values`, one for each operand, by role."""
    carries = len(body.graph.outputs)
    at = len(body.graph.inputs) - carries
    values = tuple(values)
    drive = values[at + carries:] if op == "linear_scan" else ()
    return Operands(values[:constants], values[constants:at], values[at:at + carries], drive)


def packed_size(shapes: Sequence[Shape], length: int) -> int:
    return sum([size_of(s) * (length + 1) for s in shapes])


# ---- building --------------------------------------------------------------------------------------------------------
def _build(op: str, args: tuple[Any, ...], body: Any, constants: Any, length: Any, reverse: Any) -> Node:
    if not isinstance(body, Body):
        raise GraphError("bad-attribute", f"{op}: the attribute body must be a graph.")
    if type(reverse) is not bool:
        raise GraphError("bad-attribute", f"{op}: reverse must be a boolean.")
    steps, count = integer(op, "length", length), integer(op, "constants", constants)
    if not 0 <= steps <= MAX_STEPS:
        raise LimitError("too-many-steps", f"{op}: length is {steps}; 0 to {MAX_STEPS} steps are allowed.")
    graph = body.graph
    carries = len(graph.outputs)
    expected = len(graph.inputs) + (carries if op == "linear_scan" else 0)
    if len(args) != expected or not 0 <= count <= len(graph.inputs) - carries:
        raise GraphError("wrong-arity", f"{op}: {len(args)} operands, {count} of them constant, do not fit a body of "
                                        f"{len(graph.inputs)} inputs and {carries} outputs.")
    for a in args:
        if not isinstance(a, Node):
            raise ArgumentTypeError("bad-type", f"{op}: an operand must belong to a graph; got {type(a).__name__}.")
    if graph.guards:
        raise GraphError("bad-attribute", f"{op}: a body has no guards.")
    dtype = _check(op, sorted_out(op, args, body, count), body, count, steps)
    size = packed_size([y.shape for y in graph.outputs], steps)
    attrs = {"body": body, "constants": count, "length": steps, "reverse": reverse}
    builder: Builder = args[-1].builder
    if op == "linear_scan":
        _check_linear(body, carries)
        if all([is_zero(a) for a in args[len(graph.inputs) - carries:]]):
            return builder.zeros((size,), dtype)
    return builder.make(op, tuple(args), attrs, (size,), dtype)


def _check(op: str, operands: Operands, body: Body, constants: int, steps: int) -> DType:
    """Raise unless operands, inputs and outputs of the body fit; the dtype of the carries."""
    inputs, outputs = body.graph.inputs, body.graph.outputs
    slices = inputs[constants:len(inputs) - len(outputs)]
    for what, values, wanted, lead in (
        ("constant", operands.constants, inputs[:constants], ()), ("slice", operands.slices, slices, (steps,)),
        ("carry", operands.init, outputs, ()), ("carry", inputs[len(inputs) - len(outputs):], outputs, ()),
        ("drive", operands.drive, outputs if op == "linear_scan" else (), (steps,)),
    ):
        for k, (value, like) in enumerate(zip(values, wanted, strict=True)):
            shape = (*lead, *like.shape)
            if value.shape != shape:
                raise GraphError("shape-mismatch", f"{op}: {what} {k} has shape {list(value.shape)}, the body asks for "
                                                   f"{list(shape)}.")
            if value.dtype != like.dtype:
                raise GraphError("dtype-mismatch", f"{op}: {what} {k} is {value.dtype}, the body asks for "
                                                   f"{like.dtype}.")
    kinds = {y.dtype for y in outputs}
    if len(kinds) != 1 or next(iter(kinds)).kind != "f":
        raise GraphError("dtype-mismatch", f"{op}: the carries must have one floating dtype, not "
                                           f"{', '.join(sorted(map(str, kinds)))}.")
    return kinds.pop()


def _check_linear(body: Body, carries: int) -> None:
    """Raise unless the outputs are linear in the carries, by the rows' own kinds."""
    moving = dependents(body.order, set(body.graph.inputs[len(body.graph.inputs) - carries:]))
    for node in body.order:
        if node not in moving or not node.args:
            continue
        row, flags = ROWS[node.op], [a in moving for a in node.args]
        if row.kind == "linear":
            fits = all([f if row.differentiable(k) else not f for k, f in enumerate(flags)
                        if not _is_nothing(node.args[k])])
        elif node.op == "linear_scan":
            linear = len(node.attrs["body"].graph.inputs) - len(node.attrs["body"].graph.outputs)
            fits = not any(flags[:linear]) and all([f or _is_nothing(a) for f, a in
                                                    zip(flags[linear:], node.args[linear:], strict=True)])
        else:
            fits = (row.kind == "bilinear" or node.op == "divide") and flags.count(True) == 1
            fits = fits and (node.op != "divide" or flags[0])
        if not fits:
            raise GraphError("bad-attribute", f"linear_scan: the body is not linear in its carries, at {node}.")
    for y in body.graph.outputs:
        if y not in moving and not _is_nothing(y):
            raise GraphError("bad-attribute", f"linear_scan: the body's output {y} is not linear in its carries.")


def _is_nothing(node: Node) -> bool:
    """Whether `node` is zero by construction."""
    return scalar_value(node) == 0.0


# ---- values ----------------------------------------------------------------------------------------------------------
def _values(op: str, arrays: Sequence[Array], body: Body, constants: int, length: int, reverse: bool) -> Array:
    """The trajectories, step by step."""
    given = sorted_out(op, [np.asarray(a) for a in arrays], body, constants)
    outputs = body.graph.outputs
    dtype = outputs[0].dtype
    carries = [np.asarray(c, dtype) for c in given.init]
    found = [np.empty((length + 1, *y.shape), dtype) for y in outputs]
    steps = range(length - 1, -1, -1) if reverse else range(length)
    for trajectory, c in zip(found, carries, strict=True):
        trajectory[length if reverse else 0] = c
    for t in steps:
        inputs = [*given.constants, *[x[t] for x in given.slices], *carries]
        carries = _step(body, inputs)
        if given.drive:
            carries = [c + h[t] for c, h in zip(carries, given.drive, strict=True)]
        for trajectory, c in zip(found, carries, strict=True):
            trajectory[t if reverse else t + 1] = c
    return np.concatenate([f.reshape(-1) for f in found]) if found else np.empty(0, dtype)


def _step(body: Body, inputs: Sequence[Any]) -> list[Any]:
    values: dict[Node, Any] = dict(zip(body.graph.inputs, inputs, strict=True))
    with np.errstate(all="ignore"):
        for node in body.order:
            if node not in values:
                value = node.value
                values[node] = evaluate(node, [values[a] for a in node.args]) if value is None else value
    return [values[y] for y in body.graph.outputs]


# ---- rows ------------------------------------------------------------------------------------------------------------
def linear_slots(node: Node) -> tuple[int, ...]:
    """The operands that a linear scan is linear in: init and drive."""
    graph = node.attrs["body"].graph
    return tuple(range(len(graph.inputs) - len(graph.outputs), len(node.args)))


def _declare(op: str, doc: str) -> Callable[..., Node]:
    def build(
        *args: Any, body: Any = None, constants: Any = 0, length: Any = None, reverse: Any = False
    ) -> Node:
        return _build(op, args, body, constants, length, reverse)

    def numpy(*arrays: Array, body: Body, constants: int, length: int, reverse: bool) -> Array:
        return _values(op, arrays, body, constants, length, reverse)

    def tangent(y: Node, tangents: Sequence[Node | None]) -> Node | None:
        return _calculus[0].tangent(y, tangents)

    def batch(node: Node, args: list[Node], flags: list[bool], size: int) -> Node:
        return _calculus[0].batched(node, args, flags, size)

    def transpose(ct: Node, y: Node) -> list[Node | None]:
        return _calculus[0].transposed(y, ct)

    is_linear = op == "linear_scan"
    register(Row(
        op, "nonlinear", None, ("body", "constants", "length", "reverse"), build, numpy, tangent, batch,
        linear=linear_slots if is_linear else (), transpose=transpose if is_linear else None, doc=doc,
    ))
    return build


scan = _declare("scan", (
    "The trajectories of carries: c_0 = init, c_(t+1) = body(constants, x_t, c_t). Operands: the constants, the slices "
    "x (axis 0 is the step), init; attrs body (a graph that takes them in this order and gives the next carries), "
    "constants (how many), length, reverse. One flat vector: for each carry all length + 1 values, by step."))
linear_scan = _declare("linear_scan", (
    "As scan, with a body that is linear in the carries, and one more operand for each carry, h (axis 0 is the step): "
    "c_(t+1) = body(constants, x_t, c_t) + h_t."))


__all__ = ["Body", "Operands", "linear_scan", "linear_slots", "provide", "scan", "sorted_out"]

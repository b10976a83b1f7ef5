"""How elementwise rows are built: operands are lifted, promoted and broadcast, so rules only see equal shapes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from hesse_engine.errors import ArgumentTypeError, GraphError
from hesse_engine.ir.graph import BOOL, FLOAT32, FLOAT64, DType, Node, apply
from hesse_engine.ir.rows import Kind, Row, register
from hesse_engine.ir.shapes import broadcast, convert, lift

Builder = Callable[..., Node]
ResultDType = Literal["same", "number", "float", "bool"]  # number: same, but not of booleans


def check_arity(op: str, args: tuple[Any, ...], arity: int) -> None:
    if len(args) != arity:
        raise GraphError("wrong-arity", f"{op} takes {arity} operand{'s' * (arity != 1)}, {len(args)} were given.")


def check_operands(op: str, args: tuple[Any, ...], arity: int) -> None:
    """As `check_arity`, for ops of which every operand is a node."""
    check_arity(op, args, arity)
    for a in args:
        if not isinstance(a, Node):
            raise ArgumentTypeError("bad-type", f"{op}: an operand must belong to a graph; got {type(a).__name__}.")


def expand(node: Node, shape: tuple[int, ...]) -> Node:
    return node if node.shape == shape else apply("broadcast_to", node, shape=shape)


def result_dtype(rule: ResultDType, dtype: DType, library: str) -> tuple[DType, DType]:
    """(dtype the operands are converted to, dtype of the result)."""
    if rule == "float" and dtype.kind != "f":
        dtype = FLOAT32 if library == "torch" else FLOAT64
    return dtype, BOOL if rule == "bool" else dtype


def build_elementwise(name: str, args: tuple[Any, ...], rule: ResultDType, attrs: dict[str, Any]) -> Node:
    first = args[0] if type(args[0]) is Node else args[-1]
    if type(first) is Node and first.dtype.kind == "f":
        # the common case, at a quarter of the cost: floating nodes of one shape, and Python floats
        builder, shape, dtype = first.builder, first.shape, first.dtype
        alike: list[Node] = []
        for a in args:
            if type(a) is Node:
                if a.dtype is not dtype or a.shape != shape:
                    break
                alike.append(a)
            elif type(a) is float:
                alike.append(builder.full(shape, a, dtype))
            else:
                break
        else:
            return builder.make(name, tuple(alike), attrs, shape, BOOL if rule == "bool" else dtype)
    nodes, dtype = lift(args, name)
    builder = nodes[0].builder
    if rule == "number" and dtype == BOOL:
        raise GraphError("dtype-mismatch", f"{name} is not defined for booleans; convert them to a number first.")
    wanted, result = result_dtype(rule, dtype, builder.library)
    shape = broadcast(name, [n.shape for n in nodes])
    operands = tuple([expand(n if n.dtype == wanted else convert(n, wanted), shape) for n in nodes])
    return builder.make(name, operands, attrs, shape, result)


def align(node: Node, size: int) -> Node:
    """`node` repeated along a new last axis of length `size`."""
    scalar = node
    while scalar.op in ("broadcast_to", "reshape"):
        scalar = scalar.args[0]
    if scalar.value is not None and scalar.shape == ():
        return node.builder.full((*node.shape, size), scalar.value[()], node.dtype)
    column = apply("reshape", node, shape=(*node.shape, 1))
    return expand(column, (*node.shape, size))


def batch_elementwise(node: Node, args: list[Node], batched: list[bool], size: int) -> Node:
    """Elementwise rows ignore the batch axis, once every operand has it."""
    operands = tuple([a if b else align(a, size) for a, b in zip(args, batched, strict=True)])
    return node.builder.make(node.op, operands, node.attrs, (*node.shape, size), node.dtype)


def elementwise(
    kind: Kind,
    numpy: Callable[..., Any],
    *,
    vm: str | None,
    result: ResultDType = "float",
    shortcut: Callable[..., Node | None] | None = None,
    slots: tuple[int, ...] | None = None,
    is_movement: bool = False,
    arity: int | None = None,
    domain: str = "",
    kink: str = "",
) -> Callable[[Callable[..., Any]], Builder]:
    """Register the decorated rule as an elementwise row; its name becomes the builder.

    `shortcut(*args)` may answer in place of the node where a structural zero or the like makes it superfluous.
    """

    def declare(rule: Callable[..., Any]) -> Builder:
        name = rule.__name__.rstrip("_")
        parameters = list(inspect.signature(rule).parameters.values())
        operands = arity if arity is not None else sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) - 1

        def build(*args: Any) -> Node:
            check_arity(name, args, operands)
            answer = shortcut(*args) if shortcut is not None else None
            return answer if answer is not None else build_elementwise(name, args, result, {})

        build.__name__, build.__doc__ = name, rule.__doc__
        register(
            Row(name, kind, operands, (), build, numpy, rule, batch_elementwise, vm, slots, is_movement,
                doc=rule.__doc__ or "", domain=domain, kink=kink)
        )
        return build

    return declare


def pointwise(
    numpy: Callable[..., Any], *, vm: str, result: ResultDType = "float", domain: str = "", kink: str = ""
) -> Callable[[Callable[..., Any]], Builder]:
    """A row whose rule gives the partial derivatives `(y, *args) -> (phi_a, phi_b, ...)`; None is a partial of zero."""
    return elementwise("pointwise", numpy, vm=vm, result=result, domain=domain, kink=kink)


def quiet(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` without NumPy's floating-point warnings: IEEE results are answers, not accidents."""

    def call(*args: Any, **attrs: Any) -> Any:
        with np.errstate(all="ignore"):
            return f(*args, **attrs)

    return call

"""Shapes, axes and dtypes: what the builders check before a node exists."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError, FunctionError, GraphError
from hesse_engine.ir.graph import BOOL, DTYPES, FLOAT32, FLOAT64, DType, Node, Shape


def broadcast(op: str, shapes: Sequence[Shape]) -> Shape:
    """NumPy's broadcast of `shapes`."""
    first = shapes[0]
    if all([s == first for s in shapes]):
        return first
    rank = max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for axis, length in enumerate(shape, rank - len(shape)):
            if length != 1:
                if result[axis] not in (1, length):
                    given = " and ".join([str(list(s)) for s in shapes])
                    raise GraphError("shape-mismatch", f"{op}: the shapes {given} cannot be broadcast together.")
                result[axis] = length
    return tuple(result)


def axis_of(op: str, axis: Any, rank: int) -> int:
    """`axis` as a number in [0, rank)."""
    number = integer(op, "axis", axis)
    if not -rank <= number < rank:
        allowed = f"{-rank} to {rank - 1}" if rank else "none, the operand is 0-dimensional"
        raise GraphError("bad-attribute", f"{op}: axis {number} is out of range; allowed: {allowed}.")
    return number % rank


def axes_of(op: str, axes: Any, rank: int) -> tuple[int, ...]:
    """Sorted distinct axes; None means all."""
    if axes is None:
        return tuple(range(rank))
    numbers = [axis_of(op, a, rank) for a in (axes if isinstance(axes, (tuple, list)) else (axes,))]
    if len(set(numbers)) != len(numbers):
        raise GraphError("bad-attribute", f"{op}: the axes {list(axes)} name one axis twice.")
    return tuple(sorted(numbers))


def integer(op: str, name: str, value: Any) -> int:
    """`value` as an int; floats and booleans are refused."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise GraphError(
            "bad-attribute", f"{op}: {name} must be an integer, not {type(value).__name__}."
        ) from None


def integers(op: str, name: str, values: Any) -> tuple[int, ...]:
    """A list of ints."""
    if not isinstance(values, (tuple, list)):
        raise GraphError("bad-attribute", f"{op}: {name} must be a list of integers, not {type(values).__name__}.")
    return tuple([integer(op, name, v) for v in values])


def shape_of(op: str, shape: Any) -> Shape:
    """`shape` as a tuple of non-negative ints."""
    items = shape if isinstance(shape, (tuple, list)) else (shape,)
    lengths = tuple([integer(op, "shape", s) for s in items])
    if any([s < 0 for s in lengths]):
        raise GraphError("bad-attribute", f"{op}: the shape {list(lengths)} has a negative length.")
    return lengths


def dtype_of(op: str, name: Any) -> DType:
    try:
        # NumPy reads many a string as a dtype, some of them with a warning: only the names of the language are asked
        if isinstance(name, str) and name not in DTYPES and not name.startswith("complex"):
            raise TypeError
        dtype: DType = np.dtype(name)
    except (TypeError, ValueError):
        raise GraphError("bad-attribute", f"{op}: no such dtype; allowed are {', '.join(DTYPES)}.") from None
    if dtype.kind == "c":
        raise FunctionError("unsupported-complex", f"{op}: complex dtypes are not supported; got {dtype}.")
    if str(dtype) not in DTYPES:
        raise GraphError("bad-attribute", f"{op}: dtype {dtype} is not supported; allowed are {', '.join(DTYPES)}.")
    return dtype


def promote(args: Iterable[Any], library: str) -> DType:
    """The common dtype; Python scalars are weak, so they never widen a node."""
    nodes = [a.dtype for a in args if isinstance(a, Node)]
    scalars = [a for a in args if not isinstance(a, Node)]
    dtype = nodes[0]
    if any([d != dtype for d in nodes]):
        floats = [d for d in nodes if d.kind == "f"]
        # torch: a float operand decides alone; NumPy: int64 with float32 gives float64
        dtype = np.result_type(*(floats if floats and library == "torch" else nodes))
    for scalar in scalars:
        if isinstance(scalar, complex):
            raise FunctionError("unsupported-complex", "complex numbers are not supported; got a complex scalar.")
        if isinstance(scalar, float) and dtype.kind != "f":
            dtype = FLOAT32 if library == "torch" else FLOAT64
        elif isinstance(scalar, int) and not isinstance(scalar, bool) and dtype == BOOL:
            dtype = np.dtype(np.int64)
    return dtype


def lift(args: Sequence[Any], op: str = "an operation") -> tuple[list[Node], DType]:
    """Operands as nodes of one dtype. Arrays become constants, Python scalars adopt the dtype of the nodes."""
    nodes = [a for a in args if type(a) is Node]
    if not nodes:
        raise ArgumentTypeError("bad-type", f"{op}: none of the operands belongs to a graph.")
    builder, dtype = nodes[0].builder, nodes[0].dtype
    others = [a for a in args if type(a) is not Node]
    if any([n.dtype != dtype for n in nodes]) or not all([type(a) is float and dtype.kind == "f" for a in others]):
        known = [a if isinstance(a, (Node, bool, int, float)) else builder.constant(a) for a in args]
        args, dtype = known, promote(known, builder.library)
    return [convert(a, dtype) if isinstance(a, Node) else builder.constant(a, dtype) for a in args], dtype


def convert(node: Node, dtype: DType) -> Node:
    if node.dtype == dtype:
        return node
    from hesse_engine.ir.graph import apply

    return apply("convert", node, dtype=dtype)


def normalized_shape(op: str, size: int, shape: Any) -> Shape:
    """`shape` with one -1 filled in, checked against `size`."""
    items = [integer(op, "shape", s) for s in (shape if isinstance(shape, (tuple, list)) else (shape,))]
    unknown = [k for k, s in enumerate(items) if s == -1]
    known = 1
    for s in items:
        known *= s if s != -1 else 1
    if len(unknown) == 1 and known > 0 and size % known == 0:
        items[unknown[0]] = size // known
    elif unknown or known != size or any([s < 0 for s in items]):
        raise GraphError("shape-mismatch", f"{op}: cannot reshape {size} elements into shape {items}.")
    return tuple(items)

"""The graph: a DAG of immutable nodes, interned so that equal expressions are one node.

A `Builder` owns the nodes; a `Graph` names some of them as inputs and outputs. A transform takes a `Graph` and gives
another one over the same builder, so common sub-expressions stay shared between a function and its derivatives.

Invariant: a node's `number` is larger than those of its arguments. Sorting by number is a topological order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hesse_engine.errors import GraphError, InputError, LimitError
from hesse_engine.ir.rows import ROWS

Shape = tuple[int, ...]
DType = np.dtype[Any]
Array = NDArray[Any]

FLOAT64: DType = np.dtype(np.float64)
FLOAT32: DType = np.dtype(np.float32)
BOOL: DType = np.dtype(np.bool_)
INT64: DType = np.dtype(np.int64)
DTYPES: dict[str, DType] = {
    str(np.dtype(t)): np.dtype(t)
    for t in (
        np.float64, np.float32, np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8,
        np.bool_,
    )
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a graph may hold. Checked when a node is made, before anything of its size exists."""

    nodes: int = 1_000_000
    rank: int = 32
    elements: int = 1 << 40
    constant_bytes: int = 1 << 34


class Node:
    """An operation applied to nodes: `(op, args, attrs) -> shape, dtype`. Equal nodes of one builder are identical."""

    __slots__ = ("args", "attrs", "builder", "dtype", "number", "op", "shape", "value")

    builder: Builder
    number: int
    op: str
    args: tuple[Node, ...]
    attrs: Mapping[str, Any]
    shape: Shape
    dtype: DType
    value: Array | None  # of a constant: a read-only array

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return size_of(self.shape)

    @property
    def is_floating(self) -> bool:
        return self.dtype.kind == "f"

    def __repr__(self) -> str:
        return f"%{self.number}:{self.op}{list(self.shape)}"

    # The graph language: rules are written with these, `apply` lifts Python scalars.
    def __add__(self, other: Operand) -> Node:
        return apply("add", self, other)

    def __radd__(self, other: Operand) -> Node:
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> Node:
        return apply("subtract", self, other)

    def __rsub__(self, other: Operand) -> Node:
        return apply("subtract", other, self)

    def __mul__(self, other: Operand) -> Node:
        return apply("multiply", self, other)

    def __rmul__(self, other: Operand) -> Node:
        return apply("multiply", other, self)

    def __truediv__(self, other: Operand) -> Node:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Operand) -> Node:
        return apply("divide", other, self)

    def __neg__(self) -> Node:
        return apply("negative", self)

    def __lt__(self, other: Operand) -> Node:
        return apply("less", self, other)

    def __le__(self, other: Operand) -> Node:
        return apply("less_equal", self, other)

    def __gt__(self, other: Operand) -> Node:
        return apply("greater", self, other)

    def __ge__(self, other: Operand) -> Node:
        return apply("greater_equal", self, other)


Operand = Node | float | int | bool


def apply(name: str, *args: Any, **attrs: Any) -> Node:
    """Build the node `name(*args, **attrs)`; broadcasting, promotion and checks are the row's."""
    node: Node = ROWS[name].build(*args, **attrs)
    return node


def size_of(shape: Shape) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


class Builder:
    """Makes and interns nodes. `library` ('numpy' or 'torch') decides type promotion of integers with floats.

    `adopt` may turn a foreign value into an input; what it answers None for becomes a constant.
    """

    __slots__ = ("_checked_shapes", "_digests", "_interned", "adopt", "constant_bytes", "library", "limits", "nodes")

    def __init__(self, limits: Limits | None = None, library: str = "numpy") -> None:
        self.limits, self.library = limits or Limits(), library
        self.nodes: list[Node] = []
        self.adopt: Callable[[Any], Node | None] | None = None
        self.constant_bytes = 0
        self._interned: dict[Any, Node] = {}
        self._checked_shapes: set[Shape] = set()
        self._digests: dict[int, bytes] = {}  # SHA-256 of constants, by number

    def make(self, op: str, args: tuple[Node, ...], attrs: Mapping[str, Any], shape: Shape, dtype: DType) -> Node:
        """The interned node; args must belong to this builder, attrs must be hashable and in the row's order."""
        key: Any
        if attrs or len(args) > 2:
            key = (op, tuple([a.number for a in args]), tuple(attrs.values()))
        else:  # most nodes; the same key, cheaper
            key = (op, args[0].number, args[1].number) if len(args) == 2 else (op, *[a.number for a in args])
        node = self._interned.get(key)
        if node is None:
            for a in args:
                if a.builder is not self:
                    raise GraphError("dangling-id", f"{op}: the operand {a} belongs to another graph.")
            node = self._interned[key] = self._new(op, args, attrs, shape, dtype, None)
        return node

    def _new(
        self, op: str, args: tuple[Node, ...], attrs: Mapping[str, Any], shape: Shape, dtype: DType, value: Array | None
    ) -> Node:
        if len(self.nodes) >= self.limits.nodes:
            raise LimitError("too-many-nodes", f"The graph has more than {self.limits.nodes} nodes.")
        if shape not in self._checked_shapes:
            self._check_shape(op, shape)
        node = object.__new__(Node)
        node.builder, node.number, node.op, node.args, node.attrs = self, len(self.nodes), op, args, attrs
        node.shape, node.dtype, node.value = shape, dtype, value
        self.nodes.append(node)
        return node

    def _check_shape(self, op: str, shape: Shape) -> None:
        limits = self.limits
        if len(shape) > limits.rank:
            raise LimitError("rank-too-high", f"{op} has rank {len(shape)}; at most {limits.rank} is allowed.")
        if size_of(shape) > limits.elements:
            raise LimitError(
                "too-many-elements", f"{op} has shape {list(shape)}; at most {limits.elements} elements are allowed."
            )
        self._checked_shapes.add(shape)

    def input(self, name: str, shape: Shape, dtype: DType) -> Node:
        """A fresh input; two inputs are never the same node, whatever their names."""
        return self._new("input", (), {"name": name}, shape, dtype, None)

    def check_constant(self, size: int) -> None:
        """Refuse a constant of `size` bytes that the limits have no room for; asked before a large one is made."""
        if self.constant_bytes + size > self.limits.constant_bytes:
            raise LimitError("too-many-elements", f"The graph's constants exceed {self.limits.constant_bytes} bytes.")

    def constant(self, value: Any, dtype: DType | None = None) -> Node:
        """A read-only copy of `value`, interned by dtype, shape and bytes: 0.0 and -0.0, 1 and True stay apart."""
        array = _array(value, dtype)
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("="))
        if str(array.dtype) not in DTYPES:
            raise GraphError("dtype-mismatch", f"A constant has dtype {array.dtype}; allowed are {', '.join(DTYPES)}.")
        raw = array.tobytes()
        digest = raw if len(raw) <= 64 else hashlib.sha256(raw).digest()
        key = ("constant", array.dtype, array.shape, digest)
        node = self._interned.get(key)
        if node is None:
            self.check_constant(array.nbytes)
            self.constant_bytes += array.nbytes
            array.flags.writeable = False
            node = self._interned[key] = self._new("constant", (), {}, array.shape, array.dtype, array)
            if digest is not raw:
                self._digests[node.number] = digest
        return node

    def digest(self, node: Node) -> bytes:
        """SHA-256 of the bytes of a constant."""
        found = self._digests.get(node.number)
        if found is None:
            assert node.value is not None
            found = self._digests[node.number] = hashlib.sha256(node.value.tobytes()).digest()
        return found

    def table(self, array: Array) -> Node:
        """A constant that is neither copied nor interned: for arrays that a program derives, and may be large.

        Who reads it takes its memory for row-major, so an array in another order is copied into that one.
        """
        array = np.array(array, order="C", copy=None)
        array.flags.writeable = False
        return self._new("constant", (), {}, array.shape, array.dtype, array)

    def zeros(self, shape: Shape, dtype: DType) -> Node:
        """The structural zero: adding it is nothing, multiplying by it is the structural zero again."""
        return self.make("zeros", (), {"shape": shape, "dtype": str(dtype)}, shape, dtype)

    def full(self, shape: Shape, value: Any, dtype: DType) -> Node:
        """A scalar repeated."""
        key = ("full", shape, dtype, repr(value))  # repr keeps 0.0 and -0.0, 1 and True apart
        node = self._interned.get(key)
        if node is None:
            scalar = self.constant(value, dtype)
            node = self._interned[key] = apply("broadcast_to", scalar, shape=shape) if shape else scalar
        return node


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A function: `outputs` of `inputs`, valid where every guard `(node, value)` holds."""

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    guards: tuple[tuple[Node, bool], ...] = field(default=())

    @property
    def builder(self) -> Builder:
        return (self.inputs or self.outputs)[0].builder

    @property
    def names(self) -> tuple[str, ...]:
        return tuple([n.attrs["name"] for n in self.inputs])


def _array(value: Any, dtype: DType | None) -> Array:
    try:
        with np.errstate(over="ignore"):  # 1e300 is inf in float32
            return np.array(value, dtype=dtype, order="C")
    except OverflowError:
        raise InputError("constant-overflow", f"A constant does not fit {dtype or 'int64'}.") from None
    except (TypeError, ValueError):
        raise InputError("bad-tensor", f"A {type(value).__name__} is not a tensor of numbers.") from None


def common_builder(args: Iterable[Any]) -> Builder:
    """The builder of the first node among `args`."""
    for arg in args:
        if isinstance(arg, Node):
            return arg.builder
    raise TypeError("a graph operation needs at least one node")


def is_zero(node: Node) -> bool:
    return node.op == "zeros"


def scalar_value(node: Node) -> float | None:
    """The one value of a constant that is uniform by construction (a scalar, or a scalar broadcast), else None."""
    while node.op in ("broadcast_to", "reshape"):
        node = node.args[0]
    if node.op == "constant" and node.value is not None and node.value.size == 1:
        return float(node.value.reshape(()))
    return 0.0 if node.op == "zeros" else None


def flat(nodes: Sequence[Node]) -> int:
    """Number of elements of `nodes` together."""
    return sum([n.size for n in nodes])

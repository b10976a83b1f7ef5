"""What a traced function may be given besides tracers: how numbers, arrays, lists and torch tensors become operands.

Everything here speaks of nodes; the tracer wraps and unwraps them. Python scalars stay weak (they adopt the dtype of
the nodes they meet); NumPy scalars are strong under NumPy and weak under torch, as in those libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hesse_engine.errors import ArgumentTypeError, FunctionError, InputError, LimitError
from hesse_engine.ir.graph import BOOL, FLOAT32, FLOAT64, INT64, Array, Builder, DType, Node, apply
from hesse_engine.ir.ops import ROWS
from hesse_engine.ir.ops.elementwise import batch_elementwise
from hesse_engine.ir.shapes import convert, dtype_of, lift

Operand = Node | float | int | bool
CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}
_NOT_OF_BOOLEANS = {"subtract", "negative", "sign", "square"}
_SHORT_NAMES = {"float": "float64", "double": "float64", "single": "float32", "int": "int64", "f8": "float64",
                "f4": "float32", "d": "float64", "f": "float32", "i8": "int64", "i4": "int32"}
_PLAIN = (np.ndarray, np.generic, list, tuple, bool, int, float, complex)


def no_rule(name: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        "no-rule", f"{name} has no rule: it cannot be traced.",
        hint="GET /v1/ops lists what can be; constants may be computed with it outside of the traced values.",
    )


def complex_error(why: str = "got a complex constant.") -> FunctionError:
    return FunctionError("unsupported-complex", f"complex numbers are not supported; {why}")


# ---- constants -------------------------------------------------------------------------------------------------------
def array_of(value: Any) -> Array:
    """`value` as a NumPy array of a dtype that a graph can hold; torch tensors are detached."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.device.type != "cpu":
            raise InputError(
                "device-absent", f"A tensor lies on device {value.device}; only cpu is offered.", hint="Pass x.cpu()."
            )
        if value.is_complex():
            raise complex_error()
        value = values_of(value)
    elif not isinstance(value, _PLAIN) and not hasattr(value, "__array__"):
        raise ArgumentTypeError("bad-type", f"A value of type {type(value).__name__} cannot be an operand.",
                                hint="Allowed are numbers, arrays, tensors and lists of them.")
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError("bad-tensor", "A nested list has rows of different lengths.") from None
    if array.dtype.kind == "c":
        raise complex_error()
    if array.dtype.kind not in "fiub":
        raise ArgumentTypeError("bad-type", f"An array of dtype {array.dtype} cannot be an operand.",
                                hint="Allowed are floating, integer and boolean dtypes.")
    return array


def values_of(value: Any) -> Array:
    """The values of a torch tensor, unless torch differentiates or maps it in a way that ends here.

    Raises:
        FunctionError: `foreign-transform`.
    """
    torch = sys.modules["torch"]
    forward = torch.autograd.forward_ad
    try:
        # a level is entered where dual tensors are, and only there
        is_dual = forward._current_level >= 0 and forward.unpack_dual(value).tangent is not None
        array = None if is_dual else value.detach().numpy(force=True)
    except RuntimeError:
        array = None
    if array is None:
        raise FunctionError(
            "foreign-transform", "A tensor takes part in a transform of torch.func or torch.autograd.forward_ad around "
                                 "this call: its derivatives would end here.",
            hint="Use the transforms of hesse.func in their place, or detach the tensor.",
        )
    found: Array = array
    return found


def dtype_like(dtype: Any) -> DType:
    """`dtype` of NumPy, torch (by its name) or Python as a NumPy dtype."""
    if isinstance(dtype, str):
        return dtype_of("dtype", _SHORT_NAMES.get(dtype, dtype))
    name = str(dtype)
    return dtype_of("dtype", name.removeprefix("torch.") if name.startswith("torch.") else dtype)


# ---- operands --------------------------------------------------------------------------------------------------------
def builder_of(*values: Any) -> Builder:
    """The builder of the first node among `values`, lists included."""
    stack = list(reversed(values))
    while stack:
        value = stack.pop()
        if type(value) is Node:
            return value.builder
        if type(value) in (list, tuple):
            stack.extend(reversed(value))
    raise ArgumentTypeError("bad-type", "None of the operands belongs to a graph.")


def has_node(value: Any) -> bool:
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is Node:
            return True
        if type(item) in (list, tuple):
            stack.extend(item)
    return False


def lower(value: Any, builder: Builder) -> Operand:
    """`value` as a node of `builder`, or as the weak scalar that it is."""
    kind = type(value)
    if kind is Node:
        if value.builder is not builder:
            raise ArgumentTypeError(
                "bad-type", "A traced value of another call was used: it outlived the function that made it.",
                hint="Pass what the function needs as arguments, or detach it before the call.",
            )
        node: Node = value
        return node
    if kind is float or kind is bool:
        scalar: float = value
        return scalar
    if kind is int:
        return value if -(2**63) <= value < 2**64 else _large(value)
    if isinstance(value, complex):
        raise complex_error()
    if isinstance(value, np.generic):
        if builder.library == "torch" and value.dtype.kind in "fiub":
            return lower(value.item(), builder)
        return builder.constant(array_of(value))
    if kind in (list, tuple):
        return nested(value, builder)
    return _adopted(value, builder) or builder.constant(array_of(value))


def _adopted(value: Any, builder: Builder) -> Node | None:
    return None if builder.adopt is None else builder.adopt(value)


def _large(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InputError("constant-overflow", "An integer constant is too large for float64.") from None


def nested(values: Sequence[Any], builder: Builder, depth: int = 0) -> Node:
    """A list, of lists, of numbers and nodes as one node."""
    if depth == 0:
        _check_depth(values, builder.limits.rank)
    if not has_node(values) and not _has_adopted(values, builder):
        return builder.constant(array_of(list(values)))
    parts = [nested(v, builder, depth + 1) if type(v) in (list, tuple) else lower(v, builder) for v in values]
    return apply("stack", *lift(parts, "stack")[0], axis=0)


def _has_adopted(values: Sequence[Any], builder: Builder) -> bool:
    return builder.adopt is not None and any([builder.adopt(v) is not None for v in _elements(values)])


def _elements(values: Sequence[Any]) -> Iterator[Any]:
    for v in values:
        if type(v) in (list, tuple):
            yield from _elements(v)
        else:
            yield v


def _check_depth(values: Sequence[Any], allowed: int) -> None:
    level: list[Any] = list(values)
    for _ in range(allowed):
        level = [v for item in level if type(item) in (list, tuple) for v in item]
        if not level:
            return
    raise InputError("bad-tensor", f"A list is nested more than {allowed} deep.")


def tensor(value: Any, builder: Builder | None = None) -> Node:
    """`value` as a node; a bare scalar becomes a 0-dimensional constant."""
    if type(value) is Node:
        return value
    builder = builder or builder_of(value)
    lowered = lower(value, builder)
    return lowered if isinstance(lowered, Node) else builder.constant(array_of(lowered))


def tensors(*values: Any) -> list[Node]:
    """`values` as nodes of one dtype."""
    builder = builder_of(*values)
    return lift([lower(v, builder) for v in values])[0]


def elementwise(name: str, *values: Any) -> Node:
    """The elementwise row `name` on operands of any kind."""
    if name not in ROWS:
        raise no_rule(name)
    builder = builder_of(*values)
    operands = [lower(v, builder) for v in values]
    if name in _NOT_OF_BOOLEANS and all([_is_boolean(o) for o in operands]):
        raise ArgumentTypeError("bad-type", f"{name} of booleans is not defined.", hint="Use ^ or ~, or convert first.")
    return apply(name, *(_weakened(operands) if builder.library == "torch" else operands))


def _is_boolean(operand: Operand) -> bool:
    return operand.dtype == BOOL if isinstance(operand, Node) else type(operand) is bool


def _weakened(operands: list[Operand]) -> list[Operand]:
    """torch: a 0-dimensional tensor does not widen tensors with dimensions, of its category or a higher one."""
    nodes = [o for o in operands if isinstance(o, Node)]
    sized = [n for n in nodes if n.ndim]
    if not sized or len(sized) == len(nodes):
        return operands
    wanted = np.result_type(*[n.dtype for n in sized])
    highest = CATEGORY[wanted.kind]
    return [
        convert(o, wanted) if isinstance(o, Node) and not o.ndim and CATEGORY[o.dtype.kind] <= highest else o
        for o in operands
    ]


def is_elementwise(name: str) -> bool:
    """Whether `name` is a row that takes operands only and works element by element."""
    row = ROWS.get(name)
    return row is not None and row.batch is batch_elementwise and not row.attrs


def under_no_grad(node: Node) -> Node:
    """`node`, cut off from derivatives where torch.no_grad() holds."""
    torch = sys.modules.get("torch") if node.builder.library == "torch" and node.is_floating else None
    return node if torch is None or torch.is_grad_enabled() else apply("stop_gradient", node)


# ---- small words of the language that several functions share --------------------------------------------------------
def truth(x: Node) -> Node:
    return x if x.dtype == BOOL else apply("not_equal", x, 0)


def floating(x: Node) -> Node:
    """x in a floating dtype: the default one of its library, where it is an integer."""
    return x if x.is_floating else convert(x, FLOAT32 if x.builder.library == "torch" else FLOAT64)


def accumulator(x: Node, dtype: Any) -> Node:
    """x in the dtype that a sum or product is taken in: small integers widen to 64 bits."""
    if dtype is not None:
        return convert(x, dtype_like(dtype))
    if x.dtype.kind in "bi":
        return convert(x, INT64)
    return convert(x, np.dtype(np.uint64)) if x.dtype.kind == "u" else x


def where(condition: Any, a: Any, b: Any) -> Node:
    """a where the condition holds, else b."""
    builder = builder_of(condition, a, b)
    if builder.library == "torch" and not any(isinstance(v, Node) for v in (a, b)) and type(a) is float:
        a = builder.constant(a, FLOAT32)
    operands = [lower(a, builder), lower(b, builder)]
    if builder.library == "torch":
        operands = _weakened(operands)
    return apply("where", truth(tensor(condition, builder)), *operands)


def root(x: Node) -> Node:
    """The square root whose derivatives at 0 are 0: norms and deviations there have torch's subgradient."""
    at_zero = apply("equal", x, 0.0)
    return apply("where", at_zero, 0.0, apply("sqrt", apply("where", at_zero, 1.0, x)))


def full_like(x: Node, value: Any, dtype: Any = None, shape: Any = None) -> Node:
    wanted = x.dtype if dtype is None else dtype_like(dtype)
    lengths = x.shape if shape is None else tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if isinstance(value, Node):
        return apply("broadcast_to", convert(value, wanted), shape=lengths)
    return x.builder.full(lengths, value, wanted)


def check_room(builder: Builder, elements: int) -> None:
    """Refuse a constant of 64-bit numbers before it is allocated."""
    if 8 * elements + builder.constant_bytes > builder.limits.constant_bytes:
        raise LimitError("too-many-elements", f"A constant of {elements} numbers would exceed the graph's limit of "
                                              f"{builder.limits.constant_bytes} bytes.")


def ladder(builder: Builder, length: int) -> Node:
    """0, 1, ..., length - 1."""
    check_room(builder, length)
    return builder.constant(np.arange(length))

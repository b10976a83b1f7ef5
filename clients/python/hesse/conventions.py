"""What `torch.autograd.functional` accepts: tensors and tuples of them, v, modes, `strict`; its words for all else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hesse.interop import complex_error, dtype_name, torch_size
from hesse.scope import Scope, is_tensor
from hesse_engine.errors import (
    ArgumentTypeError,
    BranchError,
    FunctionError,
    IndexRangeError,
    InputError,
    UnsupportedError,
)
from hesse_engine.frontends.trace import is_tracer
from hesse_engine.ir.graph import Graph
from hesse_engine.options import Options
from hesse_engine.strict import check_strict

Function = Callable[..., Any]
OUTPUTS = "outputs of the user-provided function"
HINT = (' Hint: If your function has more outputs than inputs, "forward-mode" tends to be more performant. '
        'Otherwise, prefer to use "reverse-mode".')
ABOUT_INPUTS = "input to the user-provided function is"
ABOUT_OUTPUTS = "user-provided function returns"
STRATEGIES = ("forward-mode", "reverse-mode")


@dataclass(frozen=True, slots=True)
class Given:
    """A Tensor or a tuple of Tensors, as a tuple."""

    values: tuple[Any, ...]
    is_tuple: bool

    def nest(self, values: list[Any]) -> Any:
        """`values` as the caller nests his own: a tuple for a tuple, bare for one."""
        return tuple(values) if self.is_tuple else values[0]


def as_tuple(value: Any, what: str, name: str) -> Given:
    """Raises `ArgumentTypeError` (`bad-outputs`, `bad-type`) in torch's words unless all elements are tensors."""
    is_tuple = isinstance(value, tuple)
    values = value if is_tuple else (value,)
    for k, element in enumerate(values):
        if not is_tensor(element):
            where = f"value at index {k}" if is_tuple else f"given {what}"
            raise ArgumentTypeError(
                "bad-outputs" if what == OUTPUTS else "bad-type",
                f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but the {where} has type "
                f"{type(element)}.",
            )
    return Given(tuple(values), is_tuple)


@dataclass(frozen=True, slots=True)
class Flags:
    """What all functions here can be told."""

    name: str
    create_graph: bool
    strict: bool


def check_mode(strategy: str, hint: str = "") -> None:
    if strategy not in STRATEGIES:
        raise BranchError("bad-strategy", f'Expected strategy to be either "forward-mode" or "reverse-mode".{hint}')


def check_forward(flags: Flags) -> None:
    """torch's limits of forward mode, in its order."""
    if flags.create_graph:
        raise UnsupportedError(
            "unsupported",
            "hesse.functional.jacobian: `create_graph=True` and `strategy=\"forward-mode\"` are not supported together "
            "(yet). Please either set `create_graph=False` or `strategy=\"reverse-mode\"`.",
        )
    if flags.strict:
        raise FunctionError(
            "strict-vectorize",
            "hesse.functional.jacobian: `strict=True` and `strategy=\"forward-mode\"` are not supported together "
            "(yet). Please either set `strict=False` or `strategy=\"reverse-mode\"`.",
        )


def check_vectorized(vectorize: bool) -> None:
    if not vectorize:
        raise UnsupportedError(
            "forward-mode-needs-vectorize",
            "Computing Jacobian using forward-AD or forward-over-reverse Hessian is only implemented for "
            "`vectorize=True`.",
        )


def called(
    func: Function, given: Given, flags: Flags, around: Any = (), is_forward: bool = False
) -> tuple[Scope, Any]:
    """The function's raw outputs on tracers of the inputs, which must be real and floating."""
    for value in given.values:
        check_floating(value, is_forward)
    check_any(given)
    recorded = "always" if flags.create_graph else "no"
    scope = Scope(given.values, around=around, recorded=recorded, adopts=flags.create_graph or flags.strict)
    return scope, scope.call(func, *scope.inputs)


def check_any(given: Given) -> None:
    """torch looks at the first tensor of an empty tuple."""
    if not given.values:
        raise IndexRangeError("index-out-of-range", "tuple index out of range")


def check_floating(value: Any, is_forward: bool = False) -> None:
    """Raises `FunctionError` (`unsupported-complex`, `not-floating`) or `InputError` in torch's words."""
    name = dtype_name(_untraced(value))
    if "complex" in name:
        raise complex_error(name)
    if "float" not in name:
        if is_forward:
            raise InputError("not-floating-primal",
                             f"Expected primal to be floating point or complex, but got: torch.{name}")
        raise FunctionError("not-floating", "only Tensors of floating point dtype can require gradients")


def _untraced(value: Any) -> Any:
    return value.node if is_tracer(value) else value


def scalar_graph(scope: Scope, outputs: Any, flags: Flags) -> Graph:
    results = as_tuple(outputs, OUTPUTS, flags.name)
    tracers = [scope.lift(y) for y in results.values]
    if flags.strict:
        graph = scope.graph(tracers)
        check_strict(graph, "outputs", len(tracers), tuple(range(len(graph.inputs))), Options(), closed=scope.closed)
    if results.is_tuple:
        raise FunctionError("not-single", f"The function given to {flags.name} should return a single Tensor")
    if tracers[0].node.size != 1:
        raise FunctionError(
            "not-scalar", f"The Tensor returned by the function given to {flags.name} should contain a single element"
        )
    return scope.graph(tracers)


def check_dependence(scope: Scope, graph: Graph, operation: str, flags: Flags, vectorize: bool = False) -> None:
    if not flags.strict:
        return
    argnums, first = tuple(range(len(graph.inputs))), "slopes" if operation == "hessian" else "outputs"
    check_strict(graph, first, len(graph.outputs), argnums, Options(), closed=scope.closed)
    if vectorize:
        raise FunctionError(
            "strict-vectorize",
            "hesse.functional.jacobian: `strict=True` and `vectorized=True` are not supported together. Please either "
            "set `strict=False` or `vectorize=False`.",
        )
    check_strict(graph, operation, len(graph.outputs), argnums, Options(), create_graph=flags.create_graph,
                 closed=scope.closed)


def check_empty(count: int, vectorize: bool, strategy: str) -> None:
    """torch stacks the rows one by one, and there is none."""
    if count or strategy == "forward-mode":
        return
    if vectorize:
        raise IndexRangeError("index-out-of-range", "index 0 is out of bounds for dimension 0 with size 0")
    raise FunctionError("empty-result", "stack expects a non-empty TensorList")


def check_vector(v: Any, like: Given, name: str, about: str) -> tuple[Any, ...] | None:
    """`v` as a tuple that fits `like`; None where it is left out and may be."""
    shapes = [tuple(x.shape) for x in like.values]
    if v is None:
        if len(shapes) != 1 or any([s != 1 for s in shapes[0]]):
            raise FunctionError("bad-v", f"The vector v can only be None if the {about} a single Tensor with a single "
                                         "element.")
        return None
    values = as_tuple(v, "v", name).values
    if len(values) != len(shapes):
        raise FunctionError(
            "bad-v", f"v is a tuple of invalid length: should be {len(shapes)} but got {len(values)}." if like.is_tuple
            else "The given v should contain a single Tensor."
        )
    for k, (element, shape) in enumerate(zip(values, shapes, strict=True)):
        if tuple(element.shape) != shape:
            entry = f"Entry {k} in " if like.is_tuple else ""
            raise FunctionError("bad-v", f"{entry}v has invalid size: should be {torch_size(shape)} but got "
                                         f"{torch_size(tuple(element.shape))}.")
        wanted, given = [dtype_name(_untraced(x)) for x in (like.values[k], element)]
        if "complex" in given and given != wanted:
            raise FunctionError(
                "unsupported-complex",
                "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in "
                f"dtype: grad_output[{k}] has a dtype of torch.{given} and output[{k}] has a dtype of torch.{wanted}.",
            )
    return values

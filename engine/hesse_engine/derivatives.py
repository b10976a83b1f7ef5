"""THE table of what is offered. A row derives graphs; what follows (route, schema, client call, tests) reads the row.

Notation: f has inputs x_j of shapes in_j and outputs y_o of shapes out_o; v is the caller's vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hesse_engine.errors import FunctionError
from hesse_engine.ir.graph import Graph, Node, apply, flat
from hesse_engine.options import Options
from hesse_engine.transforms.compose import jacobian_forward, jacobian_reverse
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import gradient, pull_back

Mode = Literal["forward", "reverse"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A function with the choice of what is differentiated with respect to what."""

    graph: Graph
    outputs: tuple[Node, ...]
    aux: tuple[Node, ...]
    wrt: tuple[Node, ...]
    options: Options

    @property
    def is_func(self) -> bool:
        return self.options.api == "func"


@dataclass(frozen=True, slots=True)
class Sweep:
    """A Jacobian d rows / d wrt to be computed in chunks of columns (forward) or rows (reverse)."""

    rows: tuple[Node, ...]
    wrt: tuple[Node, ...]
    mode: Mode


@dataclass(frozen=True, slots=True)
class Derived:
    """What to compute: nodes directly (`value` and `output`), or the blocks of a sweep.

    `seeds` are the inputs that v is fed to.
    """

    strategy: str
    seeds: tuple[Node, ...] = ()
    value: tuple[Node, ...] = ()
    output: tuple[Node, ...] = ()
    sweep: Sweep | None = None


@dataclass(frozen=True, slots=True)
class Derivative:
    """One operation: its name on the wire and in the SDK, its law, and how it is derived."""

    name: str
    summary: str
    law: str
    vector: Literal["none", "inputs", "outputs"]
    derive: Callable[[Problem], Derived]
    is_pair: bool = False  # answers (output, product), as torch does
    is_matrix: bool = False  # one block for each pair (row, input)


DERIVATIVES: dict[str, Derivative] = {}


def derivative(
    summary: str,
    law: str,
    vector: Literal["none", "inputs", "outputs"] = "none",
    *,
    is_pair: bool = False,
    is_matrix: bool = False,
) -> Callable[[Callable[[Problem], Derived]], Callable[[Problem], Derived]]:
    """Add the decorated derivation to the table."""

    def declare(derive: Callable[[Problem], Derived]) -> Callable[[Problem], Derived]:
        name = derive.__name__
        DERIVATIVES[name] = Derivative(name, summary, law, vector, derive, is_pair, is_matrix)
        return derive

    return declare


# ---- the rows --------------------------------------------------------------------------------------------------------
@derivative("The outputs themselves.", "y_o of shape out_o")
def value(problem: Problem) -> Derived:
    return Derived("direct", value=problem.outputs)


@derivative("The gradient of a scalar function.", "(d f / d x_j) of shape in_j")
def grad(problem: Problem) -> Derived:
    output = scalar_output(problem, "grad")
    return Derived("reverse", value=tuple(gradient(output, problem.wrt)))


@derivative("The Jacobian.", "J_oj = d y_o / d x_j of shape out_o + in_j", is_matrix=True)
def jacobian(problem: Problem) -> Derived:
    mode = _jacobian_mode(problem)
    return Derived(mode, sweep=Sweep(problem.outputs, problem.wrt, mode))


@derivative("The Hessian.", "H_ij = d² f / d x_i d x_j of shape in_i + in_j (func: out + in_i + in_j)", is_matrix=True)
def hessian(problem: Problem) -> Derived:
    strategy = problem.options.strategy
    if strategy in ("auto", "forward", "reverse"):
        strategy = "forward-over-reverse"
    outer, inner = strategy.split("-over-")
    if problem.is_func:
        first = jacobian_reverse if inner == "reverse" else jacobian_forward
        rows = [block for row in first(problem.outputs, problem.wrt) for block in row]
    else:
        output = scalar_output(problem, "hessian")
        rows = _gradient_by(inner, output, problem.wrt)
    return Derived(strategy, sweep=Sweep(tuple(rows), problem.wrt, "forward" if outer == "forward" else "reverse"))


@derivative("Jacobian-vector product.", "sum_j J_oj v_j of shape out_o, with f(x)", "inputs", is_pair=True)
def jvp(problem: Problem) -> Derived:
    seeds = _seeds(problem.wrt, "v")
    moved = push_forward(problem.outputs, dict(zip(problem.wrt, seeds, strict=True)))
    return Derived("forward", seeds, _filled(problem.outputs, moved), problem.outputs)


@derivative("Vector-Jacobian product.", "sum_o v_o' J_oj of shape in_j, with f(x)", "outputs", is_pair=True)
def vjp(problem: Problem) -> Derived:
    seeds = _seeds(problem.outputs, "v")
    pulled = pull_back(problem.outputs, seeds, problem.wrt)
    return Derived("reverse", seeds, _filled(problem.wrt, pulled), problem.outputs)


@derivative("Hessian-vector product.", "sum_j H_ij v_j of shape in_i, with f(x)", "inputs", is_pair=True)
def hvp(problem: Problem) -> Derived:
    return _hessian_product(problem, "hvp")


@derivative("Vector-Hessian product.", "sum_i v_i' H_ij of shape in_j, with f(x)", "inputs", is_pair=True)
def vhp(problem: Problem) -> Derived:
    # H is symmetric, so v'H is the same forward-over-reverse product as H v, at the same cost
    return _hessian_product(problem, "vhp")


# ---- shared ----------------------------------------------------------------------------------------------------------
def _hessian_product(problem: Problem, name: str) -> Derived:
    output = scalar_output(problem, name)
    seeds = _seeds(problem.wrt, "v")
    slope = gradient(output, problem.wrt)
    moved = push_forward(slope, dict(zip(problem.wrt, seeds, strict=True)))
    return Derived("forward-over-reverse", seeds, _filled(problem.wrt, moved), problem.outputs)


def _gradient_by(mode: str, output: Node, wrt: Sequence[Node]) -> list[Node]:
    if mode == "reverse":
        return gradient(output, wrt)
    (row,) = jacobian_forward([output], wrt)
    return [apply("reshape", block, shape=x.shape) for block, x in zip(row, wrt, strict=True)]


def _jacobian_mode(problem: Problem) -> Mode:
    """The mode asked for, else the one with fewer passes; a tie goes to forward, which keeps no intermediates."""
    asked = problem.options.strategy.split("-over-")[0]
    if asked in ("forward", "reverse"):
        return "forward" if asked == "forward" else "reverse"
    return "forward" if flat(problem.wrt) <= flat(problem.outputs) else "reverse"


def _seeds(like: Sequence[Node], name: str) -> tuple[Node, ...]:
    return tuple([n.builder.input(f"{name}_{k}", n.shape, n.dtype) for k, n in enumerate(like)])


def _filled(like: Sequence[Node], found: Sequence[Node | None]) -> tuple[Node, ...]:
    return tuple([n.builder.zeros(n.shape, n.dtype) if t is None else t for n, t in zip(like, found, strict=True)])


def scalar_output(problem: Problem, name: str) -> Node:
    """The one output of one element, or torch's error for whichever API is mirrored."""
    outputs = problem.outputs
    if problem.is_func:
        if len(outputs) != 1 or outputs[0].shape != ():
            got = f"tensor with {outputs[0].ndim} dims" if len(outputs) == 1 else f"{len(outputs)} outputs"
            raise FunctionError(
                "not-scalar",
                f"grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got {got}. "
                "Maybe you wanted to use the vjp or jacrev APIs instead?",
            )
    elif len(outputs) != 1:
        raise FunctionError("not-single", f"The function given to {name} should return a single Tensor")
    elif outputs[0].size != 1:
        raise FunctionError(
            "not-scalar", f"The Tensor returned by the function given to {name} should contain a single element"
        )
    return outputs[0]


def describe() -> list[dict[str, Any]]:
    """The table as data, for docs and `GET /v1/ops`."""
    return [{"name": d.name, "summary": d.summary, "law": d.law, "vector": d.vector} for d in DERIVATIVES.values()]

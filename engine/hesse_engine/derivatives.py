"""THE table of what is offered. A row derives graphs; what follows (route, schema, client call, tests) reads the row.

Notation: f has inputs x_j of shapes in_j and outputs y_o of shapes out_o; v is the caller's vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hesse_engine.errors import FunctionError, InputError
from hesse_engine.ir.graph import Array, Graph, Node, apply, flat
from hesse_engine.options import LAYOUTS, Options
from hesse_engine.transforms.batch import batch, from_last, to_last
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
    source: Graph  # as it was written
    weights: tuple[Node, ...] = ()  # the last inputs of the graph

    @property
    def is_func(self) -> bool:
        return self.options.api == "func"

    def slope(self) -> tuple[Node, ...]:
        """The gradient of the one output."""
        return tuple(gradient(self.outputs[0], self.wrt))


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Chosen columns, `positions` among the concatenated flattened elements of `of`, of chosen rows."""

    of: tuple[Node, ...]
    positions: Array
    rows: Array


@dataclass(frozen=True, slots=True)
class Sweep:
    """A Jacobian d rows / d wrt to be computed in chunks of columns (forward) or rows (reverse).

    With `columns`, `wrt` is the one node that has their elements' values, in their order.
    """

    rows: tuple[Node, ...]
    wrt: tuple[Node, ...]
    mode: Mode
    columns: Columns | None = None


@dataclass(frozen=True, slots=True)
class Derived:
    """What to compute: nodes directly (`value`, `output` and `gradient`), or the blocks of a sweep.

    `seeds` are the inputs that v is fed to.
    """

    strategy: str
    seeds: tuple[Node, ...] = ()
    value: tuple[Node, ...] = ()
    output: tuple[Node, ...] = ()
    gradient: tuple[Node, ...] = ()
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
    is_matrix: bool = False  # one block for each pair (row, input); its rows and columns can be chosen
    layouts: tuple[str, ...] = ("dense",)
    reads: Literal["all", "diag", "trace"] = "all"  # how much of a Hessian the result holds
    is_second_order: bool = False  # of one output, so `weights` may make one of several


DERIVATIVES: dict[str, Derivative] = {}


def derivative(
    summary: str,
    law: str,
    vector: Literal["none", "inputs", "outputs"] = "none",
    *,
    is_pair: bool = False,
    is_matrix: bool = False,
    layouts: tuple[str, ...] = ("dense",),
    reads: Literal["all", "diag", "trace"] = "all",
    is_second_order: bool = False,
) -> Callable[[Callable[[Problem], Derived]], Callable[[Problem], Derived]]:
    """Add the decorated derivation to the table."""

    def declare(derive: Callable[[Problem], Derived]) -> Callable[[Problem], Derived]:
        name = derive.__name__
        DERIVATIVES[name] = Derivative(
            name, summary, law, vector, derive, is_pair, is_matrix, layouts, reads, is_second_order
        )
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


@derivative("The Jacobian.", "J_oj = d y_o / d x_j of shape out_o + in_j", is_matrix=True,
            layouts=("dense", "csr", "coo"))
def jacobian(problem: Problem) -> Derived:
    sweep = selected(Sweep(problem.outputs, problem.wrt, _jacobian_mode(problem)), problem.options)
    return Derived(sweep.mode, sweep=sweep)


@derivative("The Hessian.", "H_ij = d² f / d x_i d x_j of shape in_i + in_j (func: out + in_i + in_j)", is_matrix=True,
            layouts=LAYOUTS, is_second_order=True)
def hessian(problem: Problem) -> Derived:
    strategy = _hessian_strategy(problem)
    outer, inner = strategy.split("-over-")
    if problem.is_func:
        first = jacobian_reverse if inner == "reverse" else jacobian_forward
        rows = [block for row in first(problem.outputs, problem.wrt) for block in row]
    else:
        rows = _gradient_by(inner, scalar_output(problem, "hessian"), problem.wrt)
    sweep = selected(Sweep(tuple(rows), problem.wrt, "forward" if outer == "forward" else "reverse"), problem.options)
    return Derived(f"{sweep.mode}-over-{inner}", sweep=sweep)


@derivative("The diagonal of the Hessian.", "(d² f / d x_j[e]²)_e of shape in_j", reads="diag", is_second_order=True)
def hessian_diag(problem: Problem) -> Derived:
    return _of_scalar(problem, "hessian_diag")


@derivative("The Laplacian: the trace of the Hessian.", "sum_je d² f / d x_j[e]², a scalar", reads="trace",
            is_second_order=True)
def laplacian(problem: Problem) -> Derived:
    return _of_scalar(problem, "laplacian")


@derivative("Value, gradient and Hessian together.", "(f(x), (d f / d x_j), (H_ij))",
            is_matrix=True, layouts=LAYOUTS, is_second_order=True)
def value_grad_hessian(problem: Problem) -> Derived:
    derived = _of_scalar(problem, "value_grad_hessian")
    assert derived.sweep is not None
    sweep = selected(derived.sweep, problem.options)
    strategy = f"{sweep.mode}-over-{derived.strategy.split('-over-')[1]}"
    return replace(derived, strategy=strategy, output=problem.outputs, gradient=problem.slope(), sweep=sweep)


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


@derivative("Hessian-vector product.", "sum_j H_ij v_j of shape in_i, with f(x)", "inputs", is_pair=True,
            is_second_order=True)
def hvp(problem: Problem) -> Derived:
    return _hessian_product(problem, "hvp")


@derivative("Vector-Hessian product.", "sum_i v_i' H_ij of shape in_j, with f(x)", "inputs", is_pair=True,
            is_second_order=True)
def vhp(problem: Problem) -> Derived:
    # H is symmetric, so v'H is the same forward-over-reverse product as H v, at the same cost
    return _hessian_product(problem, "vhp")


# ---- what options make of a problem, or of what was derived ----------------------------------------------------------
def weighted_sum(graph: Graph, count: int) -> Graph:
    """sum_o <w_o, y_o> over the first `count` outputs in their place; w_o are further inputs, shaped as the outputs."""
    weights, total = [], None
    for k, y in enumerate(graph.outputs[:count]):
        if not y.is_floating:
            raise FunctionError("not-floating-output", f"Output {k} has dtype {y.dtype}; weights need floating ones.")
        weights.append(y.builder.input(f"w_{k}", y.shape, y.dtype))
        part = apply("sum", weights[-1] * y)
        total = part if total is None else total + part
    assert total is not None
    return Graph((*graph.inputs, *weights), (total, *graph.outputs[count:]), graph.guards)


def selected(sweep: Sweep, options: Options) -> Sweep:
    """Of `sweep`, the rows and columns that are asked for, as one matrix; nothing is computed for any others."""
    if not options.is_selective:
        return sweep
    rows = positions("rows", options.rows, flat(sweep.rows))
    columns = positions("columns", options.columns, flat(sweep.wrt))
    mode: Mode = sweep.mode
    if options.strategy == "auto":
        mode = "forward" if len(columns) <= len(rows) else "reverse"
    return Sweep((_picked(sweep.rows, rows),), (_picked(sweep.wrt, columns),), mode, Columns(sweep.wrt, columns, rows))


def positions(name: str, given: tuple[int, ...] | None, size: int) -> Array:
    if given is None:
        return np.arange(size)
    for k in given:
        if not -size <= k < size:
            raise InputError(f"bad-{name}", f"{name} has {k}, but the matrix has {size} {name}, 0 to {size - 1}.",
                             pointer=f"/options/{name}")
    return np.array([k % size for k in given], np.int64)


def concatenated(nodes: Sequence[Node]) -> Node:
    """All elements of `nodes` as one vector."""
    parts = [apply("reshape", n, shape=(n.size,)) for n in nodes]
    return parts[0] if len(parts) == 1 else apply("concat", *parts, axis=0)


def _picked(nodes: Sequence[Node], positions: Array) -> Node:
    return apply("take", concatenated(nodes), positions)


def repeated(derived: Derived, count: int) -> Derived:
    """`derived` for `count` vectors at once: v and the products with a leading axis, f(x) as it was."""
    seeds = tuple([s.builder.input(s.attrs["name"], (count, *s.shape), s.dtype) for s in derived.seeds])
    replaced = {s: to_last(many, 0) for s, many in zip(derived.seeds, seeds, strict=True)}
    value = tuple([from_last(n, 0) for n in batch(derived.value, replaced, count)])
    return replace(derived, seeds=seeds, value=value)


def unrolled(sweep: Sweep) -> tuple[Node, ...]:
    """The blocks [row][wrt] of a sweep as nodes, all columns at once: for a small matrix at each of many points."""
    jacobian_by = jacobian_forward if sweep.mode == "forward" else jacobian_reverse
    return tuple([block for row in jacobian_by(sweep.rows, sweep.wrt) for block in row])


def diagonals(blocks: Sequence[Node], wrt: Sequence[Node]) -> tuple[Node, ...]:
    """The diagonal of the Hessian with these blocks [i][j], in the shapes of the inputs."""
    found = []
    for k, x in enumerate(wrt):
        entries = apply("reshape", blocks[k * len(wrt) + k], shape=(x.size * x.size,))
        line = apply("slice", entries, start=(0,), step=(x.size + 1,), count=(x.size,))
        found.append(apply("reshape", line, shape=x.shape))
    return tuple(found)


def trace(lines: Sequence[Node]) -> Node:
    """The sum of all elements."""
    total = apply("sum", lines[0])
    for line in lines[1:]:
        total = total + apply("sum", line)
    return total


# ---- shared ----------------------------------------------------------------------------------------------------------
def _hessian_strategy(problem: Problem) -> str:
    strategy = problem.options.strategy
    return "forward-over-reverse" if strategy in ("auto", "forward", "reverse") else strategy


def _of_scalar(problem: Problem, name: str) -> Derived:
    """The Hessian's sweep without func's leading axes, for what is said of one scalar."""
    strategy = _hessian_strategy(problem)
    outer, inner = strategy.split("-over-")
    rows = _gradient_by(inner, scalar_output(problem, name), problem.wrt)
    return Derived(strategy, sweep=Sweep(tuple(rows), problem.wrt, "forward" if outer == "forward" else "reverse"))


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
    return [{"name": d.name, "summary": d.summary, "law": d.law, "vector": d.vector, "layouts": list(d.layouts)}
            for d in DERIVATIVES.values()]

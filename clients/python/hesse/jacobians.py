"""What calls of `jacfwd` and `jacrev` do, and of their compositions: a Hessian is one computation, not two."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from hesse import tree
from hesse.draws import ruled
from hesse.evaluation import (
    JVP,
    VJP,
    Argnums,
    Function,
    Give,
    cast,
    check_forward_outputs,
    check_real,
    check_reverse_outputs,
    evaluate,
    stand_in,
)
from hesse.scope import Send
from hesse_engine.frontends.randomness import Frame
from hesse_engine.result import Result


@dataclass(frozen=True, slots=True)
class Jacobian:
    """What a wrapper of `jacfwd` or `jacrev` does; composed with another one it is a Hessian."""

    mode: str
    func: Function
    argnums: Argnums
    is_plain: bool
    randomness: str | None = None  # of the vmap over columns; rows have none, the function runs once

    @property
    def is_shared(self) -> bool:
        """Whether one run of the function gives all columns or rows."""
        return self.randomness != "different"


def jacobian_of(
    send: Send, jacobian: Jacobian, args: tuple[Any, ...], has_aux: bool, chunk_size: int | None, preallocate: bool
) -> Any:
    """The Jacobian of a call; the Hessian where the function is another Jacobian of the same arguments."""
    name = "jacfwd" if jacobian.mode == "forward" else "jacrev"
    check_real(args, name)
    inner = getattr(jacobian.func, "_jacobian", None)
    if jacobian.is_plain and isinstance(inner, Jacobian) and _is_joined(inner) and inner.argnums == jacobian.argnums:
        return _hessian_of(send, jacobian, inner, args, chunk_size, preallocate)
    check = check_forward_outputs if jacobian.mode == "forward" else check_reverse_outputs
    with _draws(jacobian):
        run = evaluate(jacobian.func, args, {}, jacobian.argnums, has_aux, JVP if name == "jacfwd" else VJP, check,
                       is_forward=jacobian.mode == "forward")
    graph = run.scope.graph([*map(stand_in, run.outputs), *run.aux])
    options = run.options(strategy=jacobian.mode, chunk_size=chunk_size, preallocate=preallocate)
    dtypes = [t.node.dtype for t in run.outputs]

    def finish(result: Result, give: Give) -> Any:
        rows = result.value if len(dtypes) != 1 else [result.value]
        blocks = [
            tree.unflatten([give(b if d.kind == "f" else cast(b, d)) for b in row], run.inner)
            for row, d in zip(rows, dtypes, strict=True)
        ]
        found = tree.unflatten(blocks, run.structure)
        return (found, run.aux_tree(result.aux, give)) if has_aux else found

    return run.scope.run(send, "jacobian", graph, options, finish)


def _hessian_of(
    send: Send, outer: Jacobian, inner: Jacobian, args: tuple[Any, ...], chunk_size: int | None, preallocate: bool
) -> Any:
    strategy = f"{outer.mode}-over-{inner.mode}"
    inner_forward = inner.mode == "forward"
    with _draws(outer), _draws(inner):
        run = evaluate(inner.func, args, {}, inner.argnums, False, JVP if inner_forward else VJP,
                       check_forward_outputs if inner_forward else check_reverse_outputs,
                       is_forward=outer.mode == "forward")
    graph = run.scope.graph([stand_in(t) for t in run.outputs])
    # forward over reverse is what a Hessian means, so the plan may reach it another way; the others are literal
    chosen = "auto" if strategy == "forward-over-reverse" else strategy
    options = run.options(strategy=chosen, chunk_size=chunk_size, preallocate=preallocate)
    dtypes = [t.node.dtype for t in run.outputs]

    def finish(result: Result, give: Give) -> Any:
        per_output = result.value if len(dtypes) != 1 else [result.value]
        trees = []
        for rows, d in zip(per_output, dtypes, strict=True):
            inner = [tree.unflatten([give(b if d.kind == "f" else cast(b, d)) for b in row], run.inner)
                     for row in rows]
            trees.append(tree.unflatten(inner, run.inner))
        return tree.unflatten(trees, run.structure)

    return run.scope.run(send, "hessian", graph, options, finish)


def _is_joined(inner: Jacobian) -> bool:
    return inner.is_plain and inner.is_shared


def _draws(jacobian: Jacobian) -> AbstractContextManager[None]:
    """The rule for random draws while the function runs."""
    return nullcontext() if jacobian.randomness is None else ruled(Frame(jacobian.randomness))

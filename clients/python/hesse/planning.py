"""`hesse.plan`: what a computation would cost, without doing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hesse.asked import first_point, point_count
from hesse.conventions import OUTPUTS, as_tuple
from hesse.interop import read
from hesse.protocol import Call
from hesse.scope import Scope
from hesse_engine.errors import InputError
from hesse_engine.frontends.trace import is_tracer
from hesse_engine.options import Options


def planned(
    f: Callable[..., Any],
    inputs: Any,
    operation: str = "hessian",
    chunk_size: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
    max_memory_bytes: int | None = None,
    layout: str = "dense",
    batched: bool = False,
) -> Call:
    """The call whose plan is asked for."""
    given = as_tuple(inputs, "inputs", "plan")
    arrays = [read(x) for x in given.values if not is_tracer(x)]
    batch = point_count(arrays) if batched else None
    scope = Scope(first_point(arrays) if batched else given.values)
    if scope.is_nested:
        raise InputError("wrong-inputs", "A plan is made for arrays, not inside a traced function.")
    results = as_tuple(scope.call(f, *scope.inputs), OUTPUTS, "plan")
    graph = scope.graph([scope.lift(y) for y in results.values])
    options = Options(argnums=tuple(range(len(graph.inputs))), chunk_size=chunk_size, device=device, threads=threads,
                      max_memory_bytes=max_memory_bytes, layout=layout, batch=batch)
    return Call(operation, graph, scope.arrays, None, options, lambda result: result)

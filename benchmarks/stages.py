"""Where a first call spends its time: the calls between the stages are timed while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

from hesse.function import Function
from hesse_engine import compute
from hesse_engine.backend import program

STAGES = ("trace", "structure", "lower", "first run", "other")


def staged(call: Callable[[], Any]) -> dict[str, Any]:
    """Seconds by stage of `call`, the first one of a function; `nodes` of its graph and after derivation.

    trace: the Python function to a graph. structure: all of `prepare` but making programs (simplify, derive, find the
    form). lower: programs. first run: the prepared computation. other: what is left of the call.
    """
    spent: dict[str, float] = {}
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        for owner, attribute, stage in (
            (Function, "_traced", "trace"),
            (compute, "prepare", "prepare"),
            (program, "lower", "lower"),
            (compute.Prepared, "__call__", "first run"),
        ):
            stack.enter_context(_timed(owner, attribute, stage, spent, found))
        started = perf_counter()
        call()
        total = perf_counter() - started
    structure = spent.get("prepare", 0.0) - spent.get("lower", 0.0)
    stages = {"trace": spent.get("trace", 0.0), "structure": structure, "lower": spent.get("lower", 0.0),
              "first run": spent.get("first run", 0.0)}
    plan = found["prepare"].plan
    return {"stages": {**stages, "other": total - sum(stages.values())}, "nodes": plan.nodes,
            "derived_nodes": plan.derived_nodes}


@contextmanager
def _timed(owner: Any, attribute: str, stage: str, spent: dict[str, float], found: dict[str, Any]) -> Iterator[None]:
    """Add up what calls of `owner.attribute` take, and keep what the last one returned."""
    original = getattr(owner, attribute)

    def timed(*args: Any, **more: Any) -> Any:
        started = perf_counter()
        found[stage] = original(*args, **more)
        spent[stage] = spent.get(stage, 0.0) + perf_counter() - started
        return found[stage]

    setattr(owner, attribute, timed)
    try:
        yield
    finally:
        setattr(owner, attribute, original)

"""Limits on what a computation is predicted to take, checked when it is planned and before it runs."""

from __future__ import annotations

from dataclasses import replace

from hesse_engine.backend.plan import Plan, flops_of
from hesse_engine.errors import LimitError
from hesse_engine.ir.graph import Graph
from hesse_engine.ir.walk import reachable
from hesse_service.settings import Settings

# `options.verify` takes 8 gradients and 8 values of the function, and a product with the Hessian: 8 * 4 + 8 + 8 times
# the function's flops; and some passes over the result.
VERIFIED_VALUES, VERIFIED_PASSES = 48, 8


def with_verification(plan: Plan, graph: Graph) -> Plan:
    """`plan` with the work of checking its result."""
    flops = VERIFIED_VALUES * flops_of(reachable(graph.outputs)) + VERIFIED_PASSES * plan.result_bytes // 8
    return replace(plan, flops=plan.flops + flops)


def check_work(plan: Plan, settings: Settings) -> None:
    """Raises `LimitError`, `too-much-work`."""
    if plan.flops > settings.max_flops:
        raise LimitError(
            "too-much-work",
            f"The computation needs about {plan.flops:.3g} flops; this server allows {settings.max_flops:.3g}.",
            hint="Ask for part of the result: rows, columns, a diagonal, or products (hvp) with single vectors.",
        )


def check_plan(plan: Plan, settings: Settings) -> None:
    """The engine itself keeps to the memory.

    Raises:
        LimitError: `too-much-work`, `result-too-large`.
    """
    check_work(plan, settings)
    if plan.result_bytes > settings.max_result_bytes:
        raise LimitError(
            "result-too-large",
            f"The result has {plan.result_bytes} bytes; this server answers with at most {settings.max_result_bytes}.",
            hint="Ask for part of it: rows, columns, a sparse layout, or products (hvp) with single vectors.",
        )

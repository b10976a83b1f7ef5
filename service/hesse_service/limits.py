"""Limits on what a computation is predicted to take, checked when it is planned and before it runs."""

from __future__ import annotations

from hesse_engine.backend.plan import Plan
from hesse_engine.errors import LimitError
from hesse_service.settings import Settings


def check_plan(plan: Plan, settings: Settings) -> None:
    """The engine itself keeps to the memory.

    Raises:
        LimitError: `too-much-work`, `result-too-large`.
    """
    if plan.flops > settings.max_flops:
        raise LimitError(
            "too-much-work",
            f"The computation needs about {plan.flops:.3g} flops; this server allows {settings.max_flops:.3g}.",
            hint="Ask for part of the result: rows, columns, a diagonal, or products (hvp) with single vectors.",
        )
    if plan.result_bytes > settings.max_result_bytes:
        raise LimitError(
            "result-too-large",
            f"The result has {plan.result_bytes} bytes; this server answers with at most {settings.max_result_bytes}.",
            hint="Ask for part of it: rows, columns, a sparse layout, or products (hvp) with single vectors.",
        )

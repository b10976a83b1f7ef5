"""Exact Hessians, vector-Hessian products and their relatives, here or by a service.

    from hesse import functional, func

    functional.hessian(lambda x: (x**3).sum(), x)        # torch.autograd.functional
    func.hessian(lambda x: (x**3).sum())(x)              # torch.func
    g = hesse.function(f); g.hessian(x)                  # traced once, called often

Computations run in this process, or where HESSE_BASE_URL or `hesse.Client(url)` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__version__ = "0.1.0"

from hesse import errors, func, functional, functorch
from hesse.async_client import AsyncClient
from hesse.client import Client
from hesse.conditional import cond
from hesse.current import current_client, use
from hesse.errors import (
    DetachedWarning,
    HesseError,
    HesseWarning,
    PerformanceWarning,
    TransportError,
    TransportTimeoutError,
)
from hesse.function import Function
from hesse.listed import RegisteredFunction
from hesse.loops import fori_loop, scan
from hesse.plans import Plan


def function(f: Callable[..., Any]) -> Function:
    """`f` with its derivatives, traced once for each signature: `g = hesse.function(f); g.hessian(x)`."""
    return Function(f)


def plan(
    f: Callable[..., Any],
    inputs: Any,
    operation: str = "hessian",
    chunk_size: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
    max_memory_bytes: int | None = None,
    layout: str = "dense",
    batched: bool = False,
) -> Any:
    """How `operation` of `f` at `inputs` would be computed and what it would cost; nothing is computed.

    Args:
        f: takes the inputs as arguments.
        inputs: a tensor, or a tuple of tensors.
        operation: a method of `hesse.function`: 'hessian', 'jacobian', 'grad', 'hvp', 'laplacian', ...
        chunk_size: most columns in flight at once; None leaves it to the plan.
        device: 'cpu'.
        threads: how many threads the computation may use; None is 1.
        max_memory_bytes: the budget; a plan that needs more is refused.
        layout: of a matrix result.
        batched: whether the inputs have a leading axis of points.

    Returns:
        A `Plan`; of an async client, an awaitable of one.

    Raises:
        MemoryError: `over-memory-budget`.
        ValueError: `bad-device`, `device-absent`, `bad-chunk-size`, `bad-option`.
    """
    return current_client().plan(
        f, inputs, operation, chunk_size=chunk_size, device=device, threads=threads, max_memory_bytes=max_memory_bytes,
        layout=layout, batched=batched,
    )


def __getattr__(name: str) -> Any:
    if name in ("numpy", "special", "cli"):
        import importlib

        return importlib.import_module(f"hesse.{name}")
    raise AttributeError(f"module 'hesse' has no attribute {name!r}")


__all__ = [
    "AsyncClient",
    "Client",
    "DetachedWarning",
    "Function",
    "HesseError",
    "HesseWarning",
    "PerformanceWarning",
    "Plan",
    "RegisteredFunction",
    "TransportError",
    "TransportTimeoutError",
    "cond",
    "current_client",
    "errors",
    "fori_loop",
    "func",
    "function",
    "functional",
    "functorch",
    "plan",
    "scan",
    "use",
]

"""The deprecated home of `hessian`, kept because `functorch.hessian` was: use `hesse.func.hessian`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from hesse import func as _func


def hessian(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Deprecated alias of `hesse.func.hessian`."""
    warnings.warn(
        "hesse.functorch.hessian is deprecated and will be removed; please use hesse.func.hessian instead.",
        DeprecationWarning,
        stacklevel=2,
    )
    return _func.hessian(func, argnums)


__all__ = ["hessian"]

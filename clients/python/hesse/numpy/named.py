"""The rest of NumPy, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hesse.eager import call


def function(name: str) -> Callable[..., Any]:
    """`numpy.<name>` with NumPy's own signature: on arrays NumPy's, on what is traced the rule of that name."""

    def named(*args: Any, **kwargs: Any) -> Any:
        return call(name, *args, **kwargs)

    named.__name__ = named.__qualname__ = name.rpartition(".")[2]
    named.__doc__ = f"As `numpy.{name}`."
    return named

"""One call for both worlds: NumPy's own function, or nodes where an argument is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.frontends.trace import tracer_in
from hesse_engine.ir.ops import ROWS

Array = Any  # an np.ndarray, a traced array, or what NumPy makes one of
Unary = Callable[[Array], Array]
Binary = Callable[[Array, Array], Array]


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    tracer = tracer_in([*args, *kwargs.values()])
    if tracer is not None:
        return tracer.trace.call("numpy", name, args, kwargs, f"hesse.numpy.{name}")
    if name in _ROWS_ONLY:
        x = np.asarray(args[0])
        return np.asarray(ROWS[name].numpy(x if x.dtype.kind == "f" else x.astype(np.float64)))
    function: Any = np
    for part in name.split("."):
        function = getattr(function, part)
    return as_arrays(function(*args, **kwargs))


_ROWS_ONLY = {"sigmoid", "softplus"}


def as_arrays(result: Any) -> Any:
    if isinstance(result, np.generic):
        return np.asarray(result)
    return type(result)([as_arrays(r) for r in result]) if type(result) in (list, tuple) else result


def named(name: str, arity: str) -> Callable[..., Any]:
    def function(*operands: Array) -> Array:
        return call(name, *operands)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{arity} `{name}`, as NumPy's."
    return function


def unary(name: str) -> Unary:
    return named(name, "Elementwise")


def binary(name: str) -> Binary:
    return named(name, "Elementwise binary")

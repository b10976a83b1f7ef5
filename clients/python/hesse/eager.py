"""One call for both worlds: NumPy's own function, or nodes where an argument is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from hesse_engine.frontends.trace import Trace, tracer_in
from hesse_engine.ir.ops import ROWS

Array = Any  # an np.ndarray, a traced array, or what NumPy makes one of
Axis = int | tuple[int, ...] | list[int] | None
Unary = Callable[[Array], Array]
Binary = Callable[[Array, Array], Array]
DEVICES = (None, "cpu")


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    """NumPy's function `name` on arrays, or its rule on what is traced; arrays come back, never NumPy's scalars."""
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


def by_rule(name: str) -> Callable[..., Any]:
    """A function that NumPy does not have: its rule, on constants outside of a trace."""

    def function(x: Array, *args: Any, **kwargs: Any) -> Any:
        if tracer_in([x, *args, *kwargs.values()]) is not None:
            return call(name, x, *args, **kwargs)
        trace = Trace()
        return np.array(trace.call("numpy", name, (trace.constant(x), *args), kwargs, f"hesse.numpy.{name}"))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`{name}`, whose rule serves outside of a trace too: NumPy has no such function."
    return function


def is_traced(*values: Any) -> bool:
    """Whether any of the values, or of what their lists hold, is traced."""
    return tracer_in(values) is not None


def as_arrays(result: Any) -> Any:
    """`result` with 0-dimensional arrays in the place of NumPy's scalars, in lists and tuples too."""
    if isinstance(result, np.generic):
        return np.asarray(result)
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*[as_arrays(r) for r in result])
    return type(result)([as_arrays(r) for r in result]) if type(result) in (list, tuple) else result


def check_device(device: Any) -> None:
    """Refuse what is not the one device there is."""
    if device not in DEVICES:
        raise ValueError(f"There is no device {device!r}; arrays lie on 'cpu'.")


def unary(name: str, doc: str) -> Unary:
    """The elementwise function `name` of one array."""

    def function(x: Array, /) -> Array:
        return call(name, x)

    return _named(function, name, doc)


def binary(name: str, doc: str) -> Binary:
    """The elementwise function `name` of two arrays, or of an array and a Python number."""

    def function(x1: Array, x2: Array, /) -> Array:
        return call(name, x1, x2)

    return _named(function, name, doc)


F = TypeVar("F", bound=Callable[..., Any])


def _named(function: F, name: str, doc: str) -> F:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function

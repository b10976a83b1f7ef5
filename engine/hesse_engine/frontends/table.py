"""The two vocabularies of the frontends: functions of nodes under NumPy's names and under torch's.

A function is registered once; the protocols (`__array_function__`, `__torch_function__`), the methods of a tracer, the
namespace `hesse.numpy` and the expression language all look it up here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from hesse_engine.errors import ArgumentTypeError, GraphError, HesseError
from hesse_engine.frontends.operands import elementwise, is_elementwise, no_rule
from hesse_engine.ir.rows import Row

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)
NUMPY: dict[str, Function] = {}
TORCH: dict[str, Function] = {}

# NumPy's names of rows that are called otherwise
NUMPY_ROWS = {
    "absolute": "abs", "fabs": "abs", "true_divide": "divide",
    "bitwise_and": "logical_and", "bitwise_or": "logical_or", "bitwise_xor": "logical_xor", "invert": "logical_not",
    "bitwise_not": "logical_not", "bitwise_invert": "logical_not",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "pow": "power",
    "mod": "remainder", "rint": "round", "fix": "trunc",
}
TORCH_ROWS = {
    "absolute": "abs", "mul": "multiply", "sub": "subtract", "neg": "negative", "eq": "equal", "ne": "not_equal",
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "bitwise_and": "logical_and",
    "bitwise_or": "logical_or", "bitwise_xor": "logical_xor", "bitwise_not": "logical_not", "expit": "sigmoid",
    "and": "logical_and", "or": "logical_or", "xor": "logical_xor", "invert": "logical_not", "true_divide": "divide",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "fix": "trunc", "mod": "remainder", "floordiv": "floor_divide", "sgn": "sign",
}


def _registrar(table: dict[str, Function]) -> Callable[..., Callable[[F], F]]:
    def named(*names: str) -> Callable[[F], F]:
        def declare(function: F) -> F:
            for name in names or (function.__name__.rstrip("_"),):
                if name in table:
                    raise RuntimeError(f"the function {name!r} is registered twice")
                table[name] = function
            return function

        return declare

    return named


numpy_function = _registrar(NUMPY)
torch_function = _registrar(TORCH)


def lookup(table: Mapping[str, Function], rows: Mapping[str, str], name: str) -> Function | None:
    """The function that `name` stands for: a registered one, else an elementwise row."""
    function = table.get(name)
    if function is not None:
        return function
    row = rows.get(name, name)
    if not is_elementwise(row):
        return None
    return lambda *operands: elementwise(row, *operands)


def find(name: str, library: str) -> Function | None:
    return lookup(NUMPY, NUMPY_ROWS, name) if library == "numpy" else lookup(TORCH, TORCH_ROWS, name)


def call(library: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], shown: str | None = None) -> Any:
    """Call `name` of one library on nodes; what it cannot take is refused by name."""
    function, shown = find(name, library), shown or f"{library}.{name}"
    if function is None:
        if library == "torch" and name.endswith("_") and find(name.rstrip("_"), library) is not None:
            raise ArgumentTypeError("cut-graph", f"{shown}: a traced value cannot be changed in place.",
                                    hint=f"Use the returned value: x = x.{name.rstrip('_')}(...).")
        raise no_rule(shown)
    options = _options(shown, library, kwargs)
    with refusing(shown, function, args, options):
        return function(*args, **options)


class refusing:  # noqa: N801  (reads as a word: with refusing(...))
    """Python's errors over unfit arguments, raised within, as ours: naming the function and saying what is wrong."""

    def __init__(self, shown: str, function: Function, args: Sequence[Any], options: Mapping[str, Any]) -> None:
        self.shown, self.function, self.args, self.options = shown, function, args, options

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, HesseError) or not isinstance(error, (TypeError, ValueError, IndexError, OverflowError)):
            return
        if isinstance(error, TypeError):
            try:
                inspect.signature(self.function).bind(*self.args, **self.options)
            except TypeError as mismatch:
                raise ArgumentTypeError("bad-type", f"{self.shown}: {mismatch}.") from error
            message = f"{self.shown}: an argument has a type that it does not take."
            raise ArgumentTypeError("bad-type", message) from error
        raise GraphError("bad-attribute", f"{self.shown}: {error}.") from error


def required(row: Row) -> list[str]:
    """The attributes of a row that have no default."""
    parameters = inspect.signature(row.build).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]


# keywords that say nothing about the value, with the settings that change nothing
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "out": (None,), "where": (True,), "order": ("C", "K", "A", None), "casting": ("same_kind", "safe", "unsafe"),
    "subok": (True, False), "like": (None,), "device": (None, "cpu"), "copy": (None, True, False),
    "optimize": (True, False), "mode": ("raise", "constant"), "layout": (None,), "requires_grad": (False,),
    "memory_format": (None,), "size_average": (None,), "reduce": (None,), "inplace": (False, True),
    "_stacklevel": (3, 5), "weight": (None,), "padding_idx": (None,), "max_norm": (None,), "norm_type": (2.0,),
    "scale_grad_by_freq": (False,),
    "sparse": (False,),
    "compute_mode": (None, "use_mm_for_euclid_dist_if_necessary"),
}
_TORCH_NAMES = {"axis": "dim", "keepdims": "keepdim", "axes": "dims"}


def _options(shown: str, library: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in kwargs.items():
        if value is np._NoValue:
            continue
        if name == "out" and value is not None and not (type(value) is tuple and all(v is None for v in value)):
            raise ArgumentTypeError("cut-graph", f"{shown}: a traced value cannot be written into an existing array.",
                                    hint="Use the returned value: y = a + b in place of np.add(a, b, out=y) or y += b.")
        if name == "out" or any([type(value) is type(v) and value == v for v in _NEUTRAL.get(name, ())]):
            continue
        options[_TORCH_NAMES.get(name, name) if library == "torch" else name] = value
    return options

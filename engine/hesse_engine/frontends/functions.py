"""Operators, ufuncs and torch's function names: how each protocol finds its function of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hesse_engine.frontends import bitwise, products
from hesse_engine.frontends.manipulation import matrix_transpose
from hesse_engine.frontends.operands import builder_of, elementwise, is_elementwise, no_rule, tensor
from hesse_engine.frontends.table import NUMPY, NUMPY_ROWS, call
from hesse_engine.ir.graph import Node, apply

# ufunc.reduce and ufunc.accumulate, under the names of the functions that they are
_REDUCTIONS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all",
               "logical_or": "any", "logaddexp": "logaddexp.reduce"}
_SCANS = {"add": "cumsum", "multiply": "cumprod", "logaddexp": "logaddexp.accumulate"}


def operator(name: str, *operands: Any) -> Node:
    """A Python operator on nodes, scalars and arrays."""
    if name == "matmul":
        return products.matmul(*operands)
    if name in bitwise.OPERATORS:
        return bitwise.OPERATORS[name](*operands)
    if not is_elementwise(name):
        raise no_rule(f"the operator {name}")
    return elementwise(name, *operands)


def ufunc(function: Any, method: str, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A NumPy ufunc, called or reduced, on nodes."""
    name = function.__name__
    shown = f"numpy.{name}" + (f".{method}" if method != "__call__" else "")
    if method == "__call__":
        options = dict(kwargs)
        dtype = options.pop("dtype", None)
        if name in _OPERATORS and not options:
            result = operator(name, *inputs)
        else:
            result = call("numpy", name, inputs, options, shown)
        return result if dtype is None else NUMPY["astype"](result, dtype)
    if method == "reduce" and name in _REDUCTIONS:
        options = dict(kwargs)
        axis = options.pop("axis", 0)
        return call("numpy", _REDUCTIONS[name], inputs, {"axis": axis, **_reduce_options(options)}, shown)
    if method == "accumulate" and name in _SCANS:
        return call("numpy", _SCANS[name], inputs, {"axis": 0, **kwargs}, shown)
    if method == "outer" and (is_elementwise(NUMPY_ROWS.get(name, name)) or name in NUMPY):
        builder = builder_of(*inputs)
        a, b = (tensor(x, builder) for x in inputs)
        column = apply("reshape", a, shape=(*a.shape, *(1,) * b.ndim))
        return call("numpy", name, (column, b), kwargs, shown)
    raise no_rule(shown)


def _reduce_options(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if not (k == "initial" and v is None)}


# ufuncs that are operators: the checks on booleans and integers are theirs
_OPERATORS = {*bitwise.OPERATORS, "matmul"}

# the reflected and in-place forms of Tensor's operators, and the flattened names of torch's sub-namespaces
_PREFIXES = ("special_", "nn_functional_")


def torch_name(function: Any) -> str:
    """The name in torch's vocabulary: `__rmul__` is mul with its operands exchanged, `linalg_norm` is linalg.norm."""
    name = str(getattr(function, "__name__", "")).strip("_")
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


__all__ = ["matrix_transpose", "operator", "torch_name", "ufunc"]

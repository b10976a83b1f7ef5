"""Bitwise functions under NumPy's and torch's names: of booleans they are logic, of integers the bitwise rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hesse_engine.errors import ArgumentTypeError
from hesse_engine.frontends.operands import builder_of, elementwise, lower
from hesse_engine.frontends.table import numpy_function, torch_function
from hesse_engine.ir.graph import BOOL, Node

# row: (row of booleans, NumPy's names, torch's names)
_NAMES: dict[str, tuple[str | None, tuple[str, ...], tuple[str, ...]]] = {
    "bitwise_and": ("logical_and", ("bitwise_and",), ("bitwise_and", "and")),
    "bitwise_or": ("logical_or", ("bitwise_or",), ("bitwise_or", "or")),
    "bitwise_xor": ("logical_xor", ("bitwise_xor",), ("bitwise_xor", "xor")),
    "bitwise_invert": ("logical_not", ("bitwise_invert", "bitwise_not", "invert"), ("bitwise_not", "invert")),
    "bitwise_left_shift": (None, ("bitwise_left_shift", "left_shift"), ("bitwise_left_shift", "lshift")),
    "bitwise_right_shift": (None, ("bitwise_right_shift", "right_shift"), ("bitwise_right_shift", "rshift")),
}


def _function(row: str, logical: str | None) -> Callable[..., Node]:
    def bitwise(*operands: Any) -> Node:
        builder = builder_of(*operands)
        lowered = [lower(o, builder) for o in operands]
        kinds = {o.dtype.kind if isinstance(o, Node) else "b" if type(o) is bool else "if"[type(o) is float]
                 for o in lowered}
        if "f" in kinds:
            raise ArgumentTypeError("bad-type", f"{row} is defined for integers and booleans, not floating numbers.",
                                    hint="Convert with astype, or compare first.")
        if kinds == {BOOL.kind} and logical is not None:
            return elementwise(logical, *lowered)
        return elementwise(row, *lowered)

    bitwise.__name__ = row
    return bitwise


OPERATORS: dict[str, Callable[..., Node]] = {}
for _row, (_logical, _numpy, _torch) in _NAMES.items():
    _named = _function(_row, _logical)
    numpy_function(*_numpy)(_named)
    torch_function(*_torch)(_named)
    OPERATORS |= dict.fromkeys(_numpy, _named)

"""Bitwise rows of integers and booleans: exact, and without a derivative.

They have no opcode: a graph that reads bits of computed integers leaves them to the reference interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hesse_engine.errors import GraphError
from hesse_engine.ir.graph import Node
from hesse_engine.ir.ops.elementwise import Builder, batch_elementwise, build_elementwise, check_arity
from hesse_engine.ir.rows import Row, register
from hesse_engine.ir.shapes import lift


def _declare(name: str, arity: int, numpy: Callable[..., Any], doc: str, *, of_booleans: bool = True) -> Builder:
    def build(*args: Any) -> Node:
        check_arity(name, args, arity)
        dtype = lift(args, name)[1]
        if dtype.kind not in ("biu" if of_booleans else "iu"):
            allowed = "integers and booleans" if of_booleans else "integers"
            raise GraphError("dtype-mismatch", f"{name} is defined for {allowed}, not for {dtype}.")
        return build_elementwise(name, args, "same", {})

    build.__name__, build.__doc__ = name, doc
    rule = _no_partial if arity == 1 else _no_partials
    register(Row(name, "pointwise", arity, (), build, numpy, rule, batch_elementwise, doc=doc))
    return build


def _no_partial(y: Node, x: Node) -> tuple[None]:
    return (None,)


def _no_partials(y: Node, a: Node, b: Node) -> tuple[None, None]:
    return None, None


bitwise_and = _declare("bitwise_and", 2, np.bitwise_and, "The bits set in both operands.")
bitwise_or = _declare("bitwise_or", 2, np.bitwise_or, "The bits set in either operand.")
bitwise_xor = _declare("bitwise_xor", 2, np.bitwise_xor, "The bits set in just one operand.")
bitwise_invert = _declare("bitwise_invert", 1, np.invert, "Every bit turned over: -x - 1 of signed integers.")
bitwise_left_shift = _declare("bitwise_left_shift", 2, np.left_shift, "a * 2**b in the width of the dtype.",
                              of_booleans=False)
bitwise_right_shift = _declare("bitwise_right_shift", 2, np.right_shift, "floor(a / 2**b): the sign stays.",
                               of_booleans=False)

"""The condition number of matrices, under NumPy's name and torch's."""

from __future__ import annotations

from typing import Any

from hesse_engine.frontends.linear_algebra import inv, svdvals
from hesse_engine.frontends.operands import floating, tensor
from hesse_engine.frontends.products import matrix_norm
from hesse_engine.frontends.table import numpy_function, torch_function
from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.ops.linalg import check_square


@torch_function("linalg_cond")
@numpy_function("linalg.cond")
def cond(x: Any, p: Any = None) -> Node:
    """|x| |x^-1| in the norm p; for 2 and -2 the ratio of singular values, also of matrices that are not square."""
    a = floating(tensor(x))
    if p in (None, 2, -2):
        values = svdvals(a)
        largest, smallest = (apply(op, values, axis=-1) for op in ("max", "min"))
        return smallest / largest if p == -2 else largest / smallest
    check_square("cond", a)
    return matrix_norm(a, ord=p) * matrix_norm(inv(a), ord=p)

"""NumPy's sums of products over sliding windows of one axis."""

from __future__ import annotations

from typing import Any

from hesse_engine.errors import GraphError
from hesse_engine.frontends.operands import tensors
from hesse_engine.frontends.padding import in_constants
from hesse_engine.frontends.table import numpy_function
from hesse_engine.ir.graph import Node, apply


def _vectors(name: str, a: Any, v: Any) -> tuple[Node, Node]:
    x, y = (apply("reshape", n, shape=(1,)) if not n.ndim else n for n in tensors(a, v))
    if x.ndim != 1 or y.ndim != 1 or not x.size or not y.size:
        raise GraphError("shape-mismatch", f"{name}: the operands must be vectors that are not empty, not of shapes "
                                           f"{list(x.shape)} and {list(y.shape)}.")
    return x, y


def _overlaps(name: str, mode: str, size: int) -> tuple[int, int]:
    """How many windows hang over on the left and on the right."""
    found = {"valid": (0, 0), "same": (size // 2, size - size // 2 - 1), "full": (size - 1, size - 1)}.get(mode)
    if found is None:
        raise GraphError("bad-attribute", f"{name}: mode must be 'valid', 'same' or 'full', not {mode!r}.")
    return found


def _correlated(name: str, x: Node, y: Node, mode: str) -> Node:
    """c_k = sum_n x_(n + k) y_n, x not shorter than y."""
    read = apply("windows", in_constants(x, [_overlaps(name, mode, y.size)], 0), axis=0, size=y.size)
    return apply("matmul", read, y)


@numpy_function()
def correlate(a: Any, v: Any, mode: str = "valid") -> Node:
    x, y = _vectors("correlate", a, v)
    if x.size >= y.size:
        return _correlated("correlate", x, y, mode)
    return apply("flip", _correlated("correlate", y, x, mode))


@numpy_function()
def convolve(a: Any, v: Any, mode: str = "full") -> Node:
    """c_k = sum_n a_(k - n) v_n."""
    x, y = _vectors("convolve", a, v)
    if x.size < y.size:
        x, y = y, x
    return _correlated("convolve", x, apply("flip", y), mode)

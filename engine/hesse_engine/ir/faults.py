"""Matrices that an op cannot take: an error where it is evaluated, or NaN where a program decides in the end.

A row that meets a singular matrix raises. Within `lenient`, it answers NaN for that matrix instead, and the program
that runs it looks at its results: where they have a NaN, it evaluates the same nodes again without leniency, and the
row raises. So a matrix in the branch that `where` does not take is no error.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hesse_engine.errors import HesseError
from hesse_engine.ir.graph import Array, Node

_STATE = threading.local()
# ops that refuse some matrices at run time
FALLIBLE = frozenset({
    "cholesky", "solve", "triangular_solve", "inv", "cholesky_solve", "cholesky_inv", "reciprocal_gaps", "divided",
    "svd", "pinv",
})


@contextmanager
def lenient() -> Iterator[None]:
    """Within: `refuse` does not raise, in this thread."""
    before = getattr(_STATE, "is_lenient", False)
    _STATE.is_lenient = True
    try:
        yield
    finally:
        _STATE.is_lenient = before


def refuse(error: HesseError) -> None:
    """Raise, unless NaN is accepted for now."""
    if not getattr(_STATE, "is_lenient", False):
        raise error


def is_fallible(order: Iterable[Node]) -> bool:
    """Whether one of the nodes may refuse a matrix, the bodies of loops included."""
    return any([n.op in FALLIBLE or ("body" in n.attrs and is_fallible(n.attrs["body"].order)) for n in order])


def has_nan(arrays: Iterable[Any]) -> bool:
    """Whether a floating array among `arrays` has a NaN."""
    with np.errstate(all="ignore"):  # a sum is NaN if an element is, and takes a tenth of the time of looking at each
        return any([a.dtype.kind == "f" and bool(np.isnan(a.sum())) and bool(np.isnan(a).any()) for a in arrays])


def each_matrix(apart: Any, *operands: Array, out: Array) -> Array:
    """`apart(*matrices)` for each of the matrices on the last two axes, written into `out`."""
    rest = out.ndim - (operands[0].ndim - 2)
    for at in np.ndindex(out.shape[:out.ndim - rest]):
        out[at] = apart(*[a[at] for a in operands])
    return out

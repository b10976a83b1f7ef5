"""Triangular solutions and inverses by the BLAS and LAPACK that NumPy itself loads.

NumPy has no triangular solution of its own. The library behind it does, and is reached here through the symbols of
`numpy.linalg`'s extension module. SciPy's would be a second library with threads of its own: on two cores its waiting
threads slowed every matrix product from 0.7 to 4.6 ms (n = 200). Where no symbol is found, the rows' NumPy functions
answer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from hesse_engine.ir.faults import refuse
from hesse_engine.ir.graph import Array, Node
from hesse_engine.ir.ops.linalg import singular
from hesse_engine.ir.rows import ROWS

Action = Callable[[], object]
Operands = list[Array]

ROW_MAJOR, LEFT, UPPER, LOWER, PLAIN, TRANSPOSED, NON_UNIT = 101, 141, 121, 122, 111, 112, 131
# (name of a BLAS function, of a LAPACK function, the integer they take): ILP64 builds first, which NumPy's wheels have
_SPELLINGS: tuple[tuple[str, str, Any], ...] = (
    ("scipy_cblas_{}64_", "scipy_{}_64_", ctypes.c_int64), ("cblas_{}64_", "{}_64_", ctypes.c_int64),
    ("scipy_cblas_{}", "scipy_{}_", ctypes.c_int32), ("cblas_{}", "{}_", ctypes.c_int32),
)


class Library:
    """`trsm` and `potri` of one precision."""

    def __init__(self, trsm: Any, potri: Any, integer: Any, scalar: Any) -> None:
        flags, pointer = [ctypes.c_int] * 5, ctypes.c_void_p
        trsm.argtypes = [*flags, integer, integer, scalar, pointer, integer, pointer, integer]
        potri.argtypes = [ctypes.c_char_p, pointer, pointer, pointer, pointer]
        trsm.restype = potri.restype = None
        self._trsm, self._potri, self._integer = trsm, potri, integer

    def solve(self, a: Array, x: Array, lower: bool, transposed: bool) -> None:
        """x <- T^-1 x in place, T a triangle of `a` or its transpose; x is row-major."""
        if not x.size:
            return
        if not a.flags.c_contiguous:
            a, lower, transposed = a.T, not lower, not transposed
            if not a.flags.c_contiguous:
                a = np.ascontiguousarray(a)
        if not a.diagonal().all():
            refuse(singular("triangular_solve"))
            x.fill(np.nan)
            return
        n, k = x.shape
        self._trsm(ROW_MAJOR, LEFT, LOWER if lower else UPPER, TRANSPOSED if transposed else PLAIN, NON_UNIT, n, k,
                   1.0, a.ctypes.data, n, x.ctypes.data, k)

    def invert(self, factor: Array) -> Array:
        """(L L')^-1 from L."""
        n = len(factor)
        x = np.array(factor, order="C")
        if n:
            order, info = ctypes.byref(self._integer(n)), self._integer(0)
            self._potri(b"U", order, x.ctypes.data, order, ctypes.byref(info))  # row-major lower is its upper
            if info.value:
                refuse(singular("cholesky_inv"))
                x.fill(np.nan)
        return np.where(np.tri(n, dtype=np.bool_), x, x.T)


@cache
def library(dtype: str) -> Library | None:
    """The functions for float64 or float32; None where NumPy's library shows none of them."""
    letter, scalar = ("d", ctypes.c_double) if dtype == "float64" else ("s", ctypes.c_float)
    try:
        loaded = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    except (AttributeError, OSError):
        return None
    for blas, lapack, integer in _SPELLINGS:
        try:
            trsm = getattr(loaded, blas.format(f"{letter}trsm"))
            potri = getattr(loaded, lapack.format(f"{letter}potri"))
        except AttributeError:
            continue
        return Library(trsm, potri, integer, scalar)
    return None


# ---- actions ---------------------------------------------------------------------------------------------------------
# rows whose NumPy functions are calls of LAPACK and BLAS, or views of their results
BY_NUMPY = ("eigh", "eigh_values", "eigh_vectors", "spectral", "spectral_diag", "svd", "svd_left", "svd_values",
            "svd_right", "svd_matrix", "svd_diag", "qr_factor", "complement", "pinv", "expm", "expm_tangent", "det",
            "cofactor", "cofactor_tangent", "reciprocal_gaps", "divided")


def by_numpy(node: Node, operands: Operands, out: Array) -> Action:
    function, attrs = ROWS[node.op].numpy, node.attrs
    return lambda: np.copyto(out, function(*operands, **attrs), casting="unsafe")


def _solving(node: Node, operands: Operands, out: Array, turns: tuple[tuple[bool, bool], ...]) -> Action:
    """The right-hand sides, solved in place for one triangle (lower, transposed) after the other."""
    found = library(str(node.dtype))
    if found is None:
        return by_numpy(node, operands, out)
    *_, a, b = operands

    def action() -> None:
        x = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        np.copyto(x, b)
        for at in np.ndindex(x.shape[:-2]):
            for lower, transposed in turns:
                found.solve(a[at], x[at], lower, transposed)
        if x is not out:
            np.copyto(out, x)

    return action


def triangular_solve(node: Node, operands: Operands, out: Array) -> Action:
    return _solving(node, operands, out, ((node.attrs["lower"], node.attrs["transposed"]),))


def cholesky_solve(node: Node, operands: Operands, out: Array) -> Action:
    return _solving(node, operands, out, ((True, False), (True, True)))


def cholesky_inv(node: Node, operands: Operands, out: Array) -> Action:
    found = library(str(node.dtype))
    if found is None:
        return by_numpy(node, operands, out)
    factor = operands[1]

    def action() -> None:
        for at in np.ndindex(out.shape[:-2]):
            out[at] = found.invert(factor[at])

    return action

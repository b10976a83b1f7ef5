"""What a computation gives back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hesse_engine.errors import InputError
from hesse_engine.ir.graph import Array, DType


@dataclass(frozen=True, slots=True, eq=False)
class SparseMatrix:
    """A matrix by its entries; all that are not listed are exact zeros.

    Rows and columns count the elements of the concatenated inputs (of a Jacobian's rows: outputs), each flattened in
    row-major order, so several inputs still make one matrix.

    Attributes:
        layout: 'csr' or 'coo'.
        shape: (rows, columns).
        data: the values, row by row, by column within a row.
        indices: int32 column of each value.
        indptr: csr: int32, where each row starts in `data`; length shape[0] + 1.
        rows: coo: int32 row of each value.
    """

    layout: str
    shape: tuple[int, int]
    data: Array
    indices: Array
    indptr: Array | None = None
    rows: Array | None = None

    @property
    def nnz(self) -> int:
        """How many entries are listed."""
        return len(self.indices)

    def row_numbers(self) -> Array:
        """The row of each value, in either layout."""
        if self.rows is not None:
            return self.rows
        assert self.indptr is not None
        counts = np.diff(self.indptr)
        return np.repeat(np.arange(self.shape[0], dtype=np.int32), counts)

    def to_dense(self) -> Array:
        """The whole matrix."""
        found = np.zeros(self.shape, self.data.dtype)
        found[self.row_numbers(), self.indices] = self.data
        return found


@dataclass(frozen=True, slots=True)
class Result:
    """`value` is the derivative: arrays, lists where torch nests tuples, or a `SparseMatrix`.

    `output` is f(x), for the operations that torch answers with a pair (jvp, vjp, hvp, vhp) and, with `gradient`, for
    `value_grad_hessian`; `aux` are the auxiliary outputs; `stats` says how it was computed; `verification`, with
    `Options.verify`, how well the result holds: see `hesse_engine.backend.verification`.
    """

    value: Any
    output: Any = None
    aux: list[Array] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    gradient: Any = None
    verification: dict[str, Any] | None = None


def check_out(out: Any, shape: tuple[int, ...], dtype: DType) -> Array:
    """`out` as the array that a result of this shape and dtype can be written into.

    Raises:
        InputError: `bad-out`.
    """
    if not isinstance(out, np.ndarray):
        raise InputError("bad-out", f"out must be a NumPy array, not {type(out).__name__}.")
    if out.shape != shape or out.dtype != dtype:
        raise InputError("bad-out", f"out is {out.dtype}{list(out.shape)}; the result is {dtype}{list(shape)}.")
    if not out.flags.c_contiguous or not out.flags.aligned:
        raise InputError("bad-out", "out must be C-contiguous and aligned.")
    if not out.flags.writeable:
        raise InputError("bad-out", "out is read-only.")
    return out


def written(value: Any, out: Any) -> Any:
    """`value` with its arrays in those of `out`: an array, lists of them as the result nests, a sparse matrix's data.

    Raises:
        InputError: `bad-out`.
    """
    if isinstance(value, SparseMatrix):
        return replace(value, data=written(value.data, out))
    if isinstance(value, list):
        if not isinstance(out, (list, tuple)) or len(out) != len(value):
            raise InputError("bad-out", f"The result is a list of {len(value)} parts; out must be one, too.")
        return [written(v, o) for v, o in zip(value, out, strict=True)]
    target = check_out(out, value.shape, value.dtype)
    if target is not value:
        np.copyto(target, value)
    return target

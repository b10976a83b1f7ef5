"""Layouts of a matrix result from what a dense program, or a sweep, gives: for programs that have none of their own.

    diag      the diagonal, n values          packed    the upper triangle row by row, n (n + 1) / 2 values
    csr, coo  the values at a pattern's entries, row by row

Rows and columns count the concatenated flattened elements, so several inputs make one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hesse_engine.backend.direct import DirectProgram
from hesse_engine.backend.matrix import Blocks, MatrixProgram
from hesse_engine.backend.program import Program
from hesse_engine.backend.sweep import SweepProgram
from hesse_engine.errors import LimitError
from hesse_engine.ir.graph import Array, DType, Node
from hesse_engine.structure.pattern import Pattern, dense_pattern, from_keys

INT32_MAX = 2**31 - 1


def every_entry(rows: int, columns: int) -> Pattern:
    """The pattern of a matrix of which nothing is known.

    Raises:
        LimitError: `result-too-large`.
    """
    if rows * columns > INT32_MAX:
        raise LimitError("result-too-large", f"A sparse matrix counts its entries in int32: all {rows} x {columns} "
                                             "are too many.", hint="Ask for the layout 'dense', or for some columns.")
    return dense_pattern((rows, columns))


def chosen_entries(pattern: Pattern | None, rows: Array, columns: Array) -> Pattern | None:
    """The pattern of the matrix of some rows and columns; None where it is not known, or a column is taken twice."""
    if pattern is None or len(np.unique(columns)) < len(columns):
        return None
    place = np.full(pattern.shape[1], -1)
    place[columns] = np.arange(len(columns))
    starts, counts = pattern.indptr[rows].astype(np.int64), np.diff(pattern.indptr)[rows]
    row = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    column = place[pattern.indices[np.repeat(starts, counts) + within]]
    keys = row[column >= 0] * len(columns) + column[column >= 0]
    return from_keys(np.sort(keys), (len(rows), len(columns)))


class ConvertedProgram:
    """A dense program whose blocks are read out in another layout."""

    def __init__(self, dense: MatrixProgram, layout: str, rows: Sequence[Node], wrt: Sequence[Node],
                 pattern: Pattern | None = None) -> None:
        self.dense, self.layout = dense, layout
        self.heights, self.widths = [n.size for n in rows], [n.size for n in wrt]
        self.dtype: DType = np.result_type(*[n.dtype for n in wrt])
        self.pattern: Pattern | None = None
        self._at: tuple[Array, Array] | None = None
        if layout in ("csr", "coo"):
            self.pattern = pattern or every_entry(sum(self.heights), sum(self.widths))
            self._at = self.pattern.rows, self.pattern.indices

    columns = property(lambda self: self.dense.columns)
    width = property(lambda self: self.dense.width)
    chunks = property(lambda self: self.dense.chunks)

    @property
    def nodes(self) -> list[Node]:
        return self.dense.nodes

    @property
    def programs(self) -> list[Program]:
        return self.dense.programs

    @property
    def flops(self) -> int:
        return self.dense.flops

    @property
    def size(self) -> int:
        """How many values the layout holds."""
        n = sum(self.widths)
        if self.layout == "diag":
            return n
        return n * (n + 1) // 2 if self.pattern is None else len(self.pattern.indices)

    @property
    def result_bytes(self) -> int:
        held = 0 if self.pattern is None else self.pattern.indices.nbytes + self.pattern.indptr.nbytes
        return self.size * self.dtype.itemsize + held

    @property
    def workspace_bytes(self) -> int:
        joined = self.dense.result_bytes if len(self.heights) + len(self.widths) > 2 else 0
        return self.dense.result_bytes + self.dense.workspace_bytes + joined

    def run(self, inputs: Sequence[Array], out: Array | None = None) -> Blocks:
        return [[self._read(self.dense.run(inputs), out)]]

    def run_with_extra(self, inputs: Sequence[Array], out: Array | None = None) -> tuple[Blocks, list[Array]]:
        """As `run`, with what the dense program evaluates along with it."""
        assert isinstance(self.dense, SweepProgram)
        blocks, extra = self.dense.run_with_extra(inputs)
        return [[self._read(blocks, out)]], extra

    def _read(self, blocks: Blocks, out: Array | None) -> Array:
        matrix = self._joined(blocks)
        found = np.empty(self.size, self.dtype) if out is None else out
        if self.layout == "diag" or self._at is not None:
            found[...] = matrix.diagonal() if self._at is None else matrix[self._at]
            return found
        at = 0
        for k, row in enumerate(matrix):
            found[at:at + len(row) - k] = row[k:]
            at += len(row) - k
        return found

    def _joined(self, blocks: Blocks) -> Array:
        """The blocks as one matrix."""
        rows = [[b.reshape(h, w) for b, w in zip(row, self.widths, strict=True)]
                for row, h in zip(blocks, self.heights, strict=True)]
        return rows[0][0] if len(rows) == len(rows[0]) == 1 else np.block(rows)


class DiagonalProgram:
    """The diagonal of a Hessian from its sweep, chunk by chunk: the matrix is never whole."""

    layout, pattern = "diag", None

    def __init__(self, sweep: SweepProgram) -> None:
        self.sweep = sweep
        self.size, self.dtype = sweep.linear.count, sweep.linear.dtype

    columns = property(lambda self: self.sweep.columns)
    width = property(lambda self: self.sweep.width)
    chunks = property(lambda self: self.sweep.chunks)

    @property
    def nodes(self) -> list[Node]:
        return self.sweep.nodes

    @property
    def programs(self) -> list[Program]:
        return self.sweep.programs

    @property
    def flops(self) -> int:
        return self.sweep.flops

    @property
    def result_bytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def workspace_bytes(self) -> int:
        return self.sweep.workspace_bytes

    def run(self, inputs: Sequence[Array], out: Array | None = None) -> Blocks:
        return self.run_with_extra(inputs, out)[0]

    def run_with_extra(self, inputs: Sequence[Array], out: Array | None = None) -> tuple[Blocks, list[Array]]:
        """The diagonal, and what the sweep evaluates along with it."""
        found = np.empty(self.size, self.dtype) if out is None else out
        extra: list[Array] = []
        for start, parts in self.sweep.pieces(inputs, extra):
            at = 0
            for part in parts:
                low, high = max(start, at), min(start + part.shape[1], at + len(part))
                if low < high:
                    found[low:high] = part[np.arange(low - at, high - at), np.arange(low - start, high - start)]
                at += len(part)
        return [[found]], extra


def with_extra(
    matrix: MatrixProgram | None,
) -> SweepProgram | ConvertedProgram | DiagonalProgram | DirectProgram | None:
    """`matrix`, if it evaluates further nodes along with its own."""
    if isinstance(matrix, ConvertedProgram):
        return matrix if isinstance(matrix.dense, SweepProgram) else None
    return matrix if isinstance(matrix, (SweepProgram, DiagonalProgram, DirectProgram)) else None

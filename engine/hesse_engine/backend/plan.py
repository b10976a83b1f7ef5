"""The plan: which strategy, how many columns at once, and what it will cost, known before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from hesse_engine.ir.graph import Node
from hesse_engine.ir.rows import ROWS

# A tangent array of one region's operand should stay in the second-level cache beside a few others (1 MB and up).
CHUNK_BYTES = 256 * 1024
CHUNK_LANES = 8  # doubles in the widest vector register


@dataclass(frozen=True, slots=True)
class Plan:
    """How one operation will be computed.

    `columns` counts the sweeps a matrix result needs (columns forward, rows reverse; for a sparse result the colors of
    its pattern), done `chunk_size` at a time in `chunks` rounds; 0 for operations without a matrix result, and for
    methods that need none. Bytes, flops and seconds are predictions; bytes read and written are those of one call.
    """

    operation: str
    strategy: str
    device: str
    threads: int
    columns: int
    chunk_size: int
    chunks: int
    nodes: int
    derived_nodes: int
    flops: int
    result_bytes: int
    predicted_peak_bytes: int
    colors: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    predicted_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.operation} by {self.strategy} on {self.device}, {self.threads} thread(s)"]
        if self.columns:
            unit = "colors of the pattern" if self.colors else "columns"
            lines.append(f"  {self.columns} {unit}, {self.chunk_size} at a time in {self.chunks} chunk(s)")
        lines.append(f"  {self.nodes} nodes, {self.derived_nodes} after derivation, about {self.flops:,} flops")
        lines.append(
            f"  result {readable_bytes(self.result_bytes)}, predicted peak {readable_bytes(self.predicted_peak_bytes)}"
        )
        if self.predicted_seconds:
            lines.append(f"  reads {readable_bytes(self.bytes_read)}, writes {readable_bytes(self.bytes_written)}, "
                         f"predicted {readable_seconds(self.predicted_seconds)}")
        return "\n".join(lines)


def readable_seconds(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def readable_bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def chosen_chunk(columns: int, widest: int, itemsize: int, cap: int | None) -> int:
    """Columns in flight: as many as keep the widest tangent in cache, in whole lanes, spread evenly, at most `cap`."""
    if columns <= 0:
        return 0
    fitting = max(CHUNK_LANES, CHUNK_BYTES // max(1, widest * itemsize) // CHUNK_LANES * CHUNK_LANES)
    largest = min(columns, fitting if cap is None else min(fitting, cap))
    chunks = -(-columns // largest)
    even = -(-columns // chunks)
    rounded = -(-even // CHUNK_LANES) * CHUNK_LANES
    return rounded if rounded <= largest else even


def flops_of(nodes: Iterable[Node]) -> int:
    """One flop an element of an elementwise node, two a multiply-add of a contraction; a loop's body at every step."""
    total = 0
    for node in nodes:
        if node.op == "contract":
            a = node.args[0]
            kept = set(node.attrs["subscripts"].split("->")[1])
            summed = 1
            for letter, length in zip(node.attrs["subscripts"].split(",")[0], a.shape, strict=True):
                summed *= 1 if letter in kept else length
            total += 2 * node.size * summed
        elif node.op in _FACTORED:
            matrix, solved = node.args[0], node.size if len(node.args) > 1 else 0
            total += int((_FACTORED[node.op] * matrix.size + 2 * solved) * matrix.shape[-1])
        elif "body" in node.attrs:
            total += node.attrs["length"] * flops_of(node.attrs["body"].order)
        elif ROWS[node.op].vm is not None:
            total += node.size
        elif node.op == "sum":
            total += node.args[0].size
    return total


# Flops of factoring an n x n matrix, over n^3 (Golub and Van Loan, Matrix Computations, 4th ed., sections 3.2 and 4.2).
_FACTORED = {"cholesky": 1 / 3, "cholesky_solve": 0.0, "cholesky_inv": 2 / 3, "triangular_solve": 0.0, "solve": 2 / 3,
             "inv": 2.0, "logabsdet": 2 / 3, "signdet": 2 / 3, "det": 2 / 3, "eigh": 9.0, "svd": 20.0,
             "qr_factor": 8 / 3, "complement": 8 / 3, "pinv": 24.0,
             "expm": 16.0, "expm_tangent": 128.0, "cofactor": 24.0,
             "cofactor_tangent": 28.0, "spectral": 2.0, "spectral_diag": 2.0, "svd_matrix": 2.0, "svd_diag": 2.0}

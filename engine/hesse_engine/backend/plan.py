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

    `columns` counts the sweeps a matrix result needs (columns forward, rows reverse), done `chunk_size` at a time in
    `chunks` rounds; 0 for operations without a matrix result. Bytes and flops are predictions.
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

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.operation} by {self.strategy} on {self.device}, {self.threads} thread(s)"]
        if self.columns:
            lines.append(f"  {self.columns} columns, {self.chunk_size} at a time in {self.chunks} chunk(s)")
        lines.append(f"  {self.nodes} nodes, {self.derived_nodes} after derivation, about {self.flops:,} flops")
        lines.append(
            f"  result {readable_bytes(self.result_bytes)}, predicted peak {readable_bytes(self.predicted_peak_bytes)}"
        )
        return "\n".join(lines)


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
    """One flop an element of an elementwise node, two a multiply-add of a contraction."""
    total = 0
    for node in nodes:
        if node.op == "contract":
            a = node.args[0]
            kept = set(node.attrs["subscripts"].split("->")[1])
            summed = 1
            for letter, length in zip(node.attrs["subscripts"].split(",")[0], a.shape, strict=True):
                summed *= 1 if letter in kept else length
            total += 2 * node.size * summed
        elif ROWS[node.op].vm is not None:
            total += node.size
        elif node.op == "sum":
            total += node.args[0].size
    return total

"""What a program for a matrix result looks like to the pipeline, and the budget it is held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hesse_engine.backend.plan import readable_bytes
from hesse_engine.backend.program import Program
from hesse_engine.errors import LimitError
from hesse_engine.ir.graph import Array, Node
from hesse_engine.options import Options

Blocks = list[list[Array]]


class MatrixProgram(Protocol):
    """Computes blocks [row][wrt] of shape row.shape + wrt.shape; in another layout than 'dense', [[flat values]].

    The only block may be written into `out`, which is of its size and dtype.
    """

    @property
    def layout(self) -> str: ...

    @property
    def columns(self) -> int: ...  # sweeps in all; 0 where the method needs none

    @property
    def width(self) -> int: ...  # of them at once

    @property
    def chunks(self) -> int: ...

    @property
    def nodes(self) -> list[Node]: ...

    @property
    def programs(self) -> list[Program]: ...

    @property
    def flops(self) -> int: ...

    @property
    def result_bytes(self) -> int: ...

    @property
    def workspace_bytes(self) -> int: ...  # beside inputs and result

    def run(self, inputs: Sequence[Array], out: Array | None = None) -> Blocks: ...


def is_within_budget(program: MatrixProgram, options: Options) -> bool:
    budget = options.max_memory_bytes
    return budget is None or program.result_bytes + program.workspace_bytes <= budget


def check_budget(peak: int, options: Options, result_bytes: int = 0) -> None:
    """Refuse a predicted peak over `max_memory_bytes`; with `result_bytes` it is that of the smallest chunk.

    Raises:
        LimitError: `over-memory-budget`.
    """
    budget = options.max_memory_bytes
    if budget is None or peak <= budget:
        return
    if result_bytes == peak:
        need = f"The result alone takes {peak:,} bytes"
    elif result_bytes:
        need = (f"The smallest chunk, chunk_size=1, would need {peak:,} bytes "
                f"({readable_bytes(result_bytes)} of them the result)")
    else:
        need = f"The computation is predicted to need {peak:,} bytes"
    raise LimitError(
        "over-memory-budget", f"{need}, more than max_memory_bytes = {budget:,}; nothing was allocated.",
        hint=f"max_memory_bytes={peak} would do, within what a server allows (HESSE_MAX_MEMORY_BYTES); or ask for "
             "fewer inputs (argnums) or rows, a sparse layout, blocks of rows (stream_hessian), or products (hvp).",
    )

"""What programs will cost, by what they do and what the machine is able to: the model that plans choose and explain by.

    seconds = runs + steps + max(arithmetic, traffic) + products + memory given for the first time

A prediction is good to about a factor of two: enough to tell ways apart that differ by more, and to say what to expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hesse_engine.backend.machine import Machine, current
from hesse_engine.backend.opcodes import STRIP
from hesse_engine.backend.plan import Plan, flops_of
from hesse_engine.backend.program import Program
from hesse_engine.ir.graph import Node
from hesse_engine.ir.rows import ROWS, VIEWS
from hesse_engine.ir.walk import reachable

if TYPE_CHECKING:
    from hesse_engine.backend.mapped import MappedProgram
    from hesse_engine.backend.matrix import MatrixProgram

REUSED = 1 << 25  # bytes: the allocator gives arrays up to this again without asking the system (glibc's limit)
SHARED = 150e-6  # seconds of work from which on threads divide it
EFFICIENCY = 0.85  # of each further thread
MARGIN = 0.5  # a later candidate is taken if it needs less than this share: the model is good to a factor of two
WORTH_COMPARING = 2e-3  # seconds predicted: below, deriving another way costs more than it can save in a few calls
SLOWEST = 10e-9  # seconds for an element of a node, whatever it is
SEEDS = "seeds"  # the name of the input that chunks of seeds come in by
_NO_WORK = frozenset({*VIEWS, "input", "constant", "zeros"})
_MOVING = frozenset({"take", "scatter_add"})


@dataclass(frozen=True, slots=True)
class Cost:
    """Predicted for one call."""

    seconds: float = 0.0
    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.flops + other.flops, self.bytes_read + other.bytes_read,
                    self.bytes_written + other.bytes_written)

    def times(self, count: int) -> Cost:
        return Cost(self.seconds * count, self.flops * count, self.bytes_read * count, self.bytes_written * count)


def node_seconds(node: Node, machine: Machine) -> tuple[float, bool]:
    """(seconds on one thread, whether it is a step of its own rather than a part of a region)."""
    if node.op in _NO_WORK:
        return 0.0, False
    row = ROWS[node.op]
    if row.vm is not None or node.op == "sum":
        is_function = row.vm is not None and "(" in row.vm and row.kind == "pointwise"
        rate = machine.function if is_function else machine.arithmetic
        size = node.args[0].size if node.op == "sum" else node.size
        return rate * size + machine.instruction * -(-size // STRIP), False
    if node.op in _MOVING:
        return machine.moved * max(node.args[0].size if node.op == "scatter_add" else 0, node.size), False
    body = node.attrs.get("body")
    if body is not None:
        return node.attrs["length"] * sum([node_seconds(n, machine)[0] for n in body.order]), True
    flops = flops_of([node])
    seconds = flops / machine.gemm_flops if flops else machine.moved * max([node.size, *[a.size for a in node.args]])
    return machine.call + max(seconds, _traffic(node) / machine.bandwidth), True


def _traffic(node: Node) -> int:
    return nbytes(node) + sum([nbytes(a) for a in node.args])


def nbytes(node: Node) -> int:
    return node.size * node.dtype.itemsize


def cost_of(outputs: Sequence[Node], added: Sequence[Node], threads: int, machine: Machine) -> Cost:
    """One run of a program for `outputs` that adds the `added` nodes into memory of its own."""
    order = reachable([*outputs, *added])
    fused = calls = 0.0
    read = written = 0
    for node in order:
        seconds, is_step = node_seconds(node, machine)
        if is_step:
            calls += _divided(seconds, threads)
            read += sum([nbytes(a) for a in node.args])
            written += nbytes(node)
        else:
            fused += seconds
            read += nbytes(node) if node.op in ("input", "constant") else 0
    adding = sum([n.size for n in added])
    stored = sum([nbytes(n) for n in outputs])
    fused += machine.arithmetic * adding
    written += stored + 8 * adding
    leaves = sum([nbytes(n) for n in order if n.op in ("input", "constant")])
    traffic = (leaves + stored + 16 * adding) / machine.bandwidth
    seconds = machine.run + calls + max(_divided(fused, threads), traffic) + _fresh(stored, machine)
    return Cost(seconds, flops_of(order) + adding, read, written)


def _divided(seconds: float, threads: int) -> float:
    return seconds / (1.0 + EFFICIENCY * (threads - 1)) if seconds > SHARED else seconds


def _fresh(count: int, machine: Machine) -> float:
    """Seconds of being given `count` bytes by the system."""
    return count / machine.fresh_bandwidth if count > REUSED else 0.0


def cost_of_program(program: Program, machine: Machine) -> Cost:
    return cost_of(program.outputs, [s.node for s in program.sinks], program.threads, machine)


def cost_of_matrix(program: MatrixProgram, machine: Machine | None = None) -> Cost:
    """A matrix result: what does not depend on the seeds once, the rest for every chunk, and the result's memory."""
    rates, total = machine or current(), Cost()
    seeded = [p for p in program.programs if any([n.attrs.get("name") == SEEDS for n in p.inputs])]
    for part in program.programs:
        total += cost_of_program(part, rates).times(-(-program.chunks // len(seeded)) if part in seeded else 1)
    filling = program.result_bytes / rates.bandwidth + _fresh(program.result_bytes, rates)
    return total + Cost(filling, 0, 0, program.result_bytes)


def cheapest(candidates: Sequence[MatrixProgram], machine: Machine | None = None) -> MatrixProgram:
    """The candidate predicted to be fastest; an earlier one unless a later one saves more than the model's doubt."""
    rates = machine or current()
    best = candidates[0]
    least = cost_of_matrix(best, rates).seconds
    for candidate in candidates[1:]:
        seconds = cost_of_matrix(candidate, rates).seconds
        if seconds < MARGIN * least:
            best, least = candidate, seconds
    return best


def is_worth_comparing(program: MatrixProgram, machine: Machine | None = None) -> bool:
    """Whether another way of computing the result might save more than deriving it costs."""
    if all([p.work * SLOWEST < WORTH_COMPARING for p in program.programs]) and program.result_bytes < REUSED:
        return False
    return cost_of_matrix(program, machine).seconds > WORTH_COMPARING


def predicted(
    plan: Plan, direct: Program | MappedProgram | None, matrix: MatrixProgram | None, machine: Machine | None = None
) -> Plan:
    """`plan` with seconds and bytes: of the nodes that are evaluated as they are, and of the matrix."""
    rates, total = machine or current(), Cost()
    if isinstance(direct, Program):
        total += cost_of_program(direct, rates)
    elif direct is not None:
        total += cost_of_program(direct.program, rates).times(direct.chunks)
    if matrix is not None:
        total += cost_of_matrix(matrix, rates)
    colors = matrix.columns if matrix is not None and plan.strategy.endswith("coloring") else 0
    return replace(plan, colors=colors, bytes_read=total.bytes_read, bytes_written=total.bytes_written,
                   predicted_seconds=total.seconds)

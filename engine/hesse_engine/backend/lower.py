"""A graph as a list of steps on numbered buffers: regions for the VM, calls for BLAS and NumPy. No values yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hesse_engine.backend.calls import is_fallback, transient_bytes
from hesse_engine.backend.emit import Emitted, emit, pieces, table
from hesse_engine.backend.memory import aligned, place
from hesse_engine.backend.verify import verify
from hesse_engine.ir.graph import FLOAT64, Array, Node, size_of
from hesse_engine.structure.regions import Call, Cut, Region

SMALL = 8192  # bytes: below, copying an array costs less than asking NumPy for its address (0.2 against 0.5 us)
WORTH_THREADS = 150_000.0  # nanoseconds of a region, measured: waking a thread and waiting for it takes 20 to 50 us
FOREVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of one node: at `offset` of the arena, or (offset None) given anew by input, output or constant."""

    node: Node
    nbytes: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class RegionStep:
    """Tables that may run in any order or at once; together they are the region."""

    dtype: str
    tables: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class CallStep:
    node: Node


@dataclass(frozen=True, slots=True)
class ZeroStep:
    """Sums over nothing."""

    node: Node


Step = RegionStep | CallStep | ZeroStep


@dataclass(frozen=True, slots=True)
class Lowered:
    """What a workspace is made from. `inputs` are the buffers of the inputs, None for one that is not read."""

    cut: Cut
    numbers: dict[Node, int]
    buffers: tuple[Buffer, ...]
    inputs: tuple[int | None, ...]
    steps: tuple[Step, ...]
    arena_bytes: int
    scratch_bytes: int
    threads: int
    predicted_bytes: int
    fallbacks: tuple[str, ...]


def lower(inputs: Sequence[Node], outputs: Sequence[Node], order: Sequence[Node], threads: int) -> Lowered:
    """Cut, emit, place and verify. `order`: the nodes that `outputs` are made of."""
    cut = Cut(outputs, order)
    nodes = sorted(cut.kept, key=lambda n: n.number)
    numbers = {n: k for k, n in enumerate(nodes)}
    emitted = [emit(s, cut, numbers) if isinstance(s, Region) and 0 not in s.shape else None for s in cut.steps]
    buffers, arena = _place(cut, nodes, numbers, emitted)
    scratch = max([e.scratch_bytes() for e in emitted if e is not None], default=0)
    steps: list[Step] = []
    lengths = [b.nbytes for b in buffers]
    for step, code in zip(cut.steps, emitted, strict=True):
        if isinstance(step, Call):
            steps.append(CallStep(step.node))
        elif code is not None:
            steps.append(RegionStep("float64" if step.dtype is FLOAT64 else "float32", _tables(code, lengths, threads)))
        else:
            steps += [ZeroStep(n) for n in step.sums]
    calls = [s.node for s in steps if isinstance(s, CallStep)]
    results = sum([n.size * n.dtype.itemsize for n in outputs])
    transient = max([transient_bytes(n) for n in calls], default=0)
    return Lowered(
        cut, numbers, tuple(buffers), tuple([numbers.get(n) for n in inputs]), tuple(steps), arena, aligned(scratch),
        threads, arena + aligned(scratch) * threads + results + transient,
        tuple(sorted({n.op for n in calls if is_fallback(n)})),
    )


def _tables(code: Emitted, lengths: Sequence[int], threads: int) -> tuple[Array, ...]:
    splits = pieces(code, threads) if threads > 1 and code.nanoseconds() > WORTH_THREADS else []
    tables = [table(code, split) for split in splits] or [table(code)]
    for words in tables:
        verify(words, lengths, code.size, code.scratch_bytes())
    return tuple(tables)


def _place(
    cut: Cut, nodes: Sequence[Node], numbers: dict[Node, int], emitted: Sequence[Emitted | None]
) -> tuple[list[Buffer], int]:
    """Where each node's memory is. Small inputs and outputs keep a place in the arena for the whole run."""
    first, last = _lifetimes(cut, nodes, numbers, emitted)
    spans: list[tuple[int, int, int]] = []
    owners: list[int] = []
    sizes = [_bytes_of(n) for n in nodes]
    for k, node in enumerate(nodes):
        is_leaf = not node.args
        if (is_leaf and node.op != "input") or ((is_leaf or node in cut.claims) and sizes[k] > SMALL):
            continue
        is_whole_run = is_leaf or node in cut.claims
        spans.append((sizes[k], 0 if is_whole_run else first[k], FOREVER if is_whole_run else last[k]))
        owners.append(k)
    by_birth = sorted(range(len(spans)), key=lambda j: spans[j][1])
    offsets, top = place([spans[j] for j in by_birth])
    found: list[int | None] = [None] * len(nodes)
    for j, offset in zip(by_birth, offsets, strict=True):
        found[owners[j]] = offset
    return [Buffer(n, s, o) for n, s, o in zip(nodes, sizes, found, strict=True)], top


def _lifetimes(
    cut: Cut, nodes: Sequence[Node], numbers: dict[Node, int], emitted: Sequence[Emitted | None]
) -> tuple[list[int], list[int]]:
    """The first and the last step that touch each buffer."""
    first, last = [FOREVER] * len(nodes), [-1] * len(nodes)
    for at, (step, code) in enumerate(zip(cut.steps, emitted, strict=True)):
        if isinstance(step, Call):
            touched = [numbers[cut.forms[n].root] for n in (step.node, *step.node.args)]
        elif code is not None:
            touched = [a[0] for a in code.addresses]
        else:
            touched = [numbers[n] for n in (*step.nodes, *step.sums, *step.copies) if n in numbers]
        for k in touched:
            first[k] = min(first[k], at)
            last[k] = at
    for _, form in cut.copies:
        last[numbers[form.root]] = len(cut.steps)
    return first, last


def _bytes_of(node: Node) -> int:
    return (1 if node.op == "zeros" else size_of(node.shape)) * node.dtype.itemsize

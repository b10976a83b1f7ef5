"""A graph as a list of steps on numbered buffers: regions for the VM, calls for BLAS and NumPy. No values yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hesse_engine.backend.calls import is_fallback, transient_bytes
from hesse_engine.backend.emit import Emitted, emit, table
from hesse_engine.backend.leading import Lead, lead
from hesse_engine.backend.memory import aligned, place
from hesse_engine.backend.split import Piece, split
from hesse_engine.backend.verify import verify
from hesse_engine.ir.graph import FLOAT64, Array, DType, Node, Shape, size_of
from hesse_engine.structure.regions import Call, Cut, Region, Sink

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
class Private:
    """Buffer `copy` holds what one piece adds to buffer `of`."""

    of: int
    copy: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class RegionStep:
    """Rounds of tables; those of a round may run in any order or at once. Then every private copy is added."""

    dtype: str
    rounds: tuple[tuple[Array, ...], ...]
    private: tuple[Private, ...] = ()


@dataclass(frozen=True, slots=True)
class CallStep:
    node: Node


@dataclass(frozen=True, slots=True)
class ZeroStep:
    """Sums over nothing, and memory that is added into: all of it, or `spans` of its elements."""

    node: Node
    spans: tuple[tuple[int, int], ...] | None = None


Step = RegionStep | CallStep | ZeroStep


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Memory that sinks add into: `shape` elements, which start as those of `base`, or as zeros.

    With `output`, the memory is that of the output at this position, and sinks add to what it holds.
    """

    shape: Shape
    dtype: DType
    base: Array | None = None
    output: int | None = None

    @property
    def nbytes(self) -> int:
        return size_of(self.shape) * self.dtype.itemsize

    def start(self) -> Array:
        """Fresh memory to add into."""
        return np.zeros(self.shape, self.dtype) if self.base is None else self.base.copy()


@dataclass(frozen=True, slots=True)
class Lowered:
    """What a workspace is made from. `inputs` are the buffers of the inputs, None for one that is not read.

    Buffers are numbered: those of nodes, then the targets, then the private copies of threads.
    """

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
    targets: tuple[Target, ...]


def lower(
    inputs: Sequence[Node],
    outputs: Sequence[Node],
    order: Sequence[Node],
    threads: int,
    sinks: Sequence[Sink] = (),
    targets: Sequence[Target] = (),
) -> Lowered:
    """Cut, emit, place and verify. `order`: the nodes that outputs and sinks are made of."""
    cut = Cut(outputs, order, sinks, {k: outputs[t.output] for k, t in enumerate(targets) if t.output is not None})
    tables = {t.node: t for t in cut.tables.values()} | {t.node: t for s in sinks for t in s.tables}
    nodes = sorted({*cut.kept, *tables}, key=lambda n: n.number)
    numbers = {n: k for k, n in enumerate(nodes)}
    emitted = [emit(s, cut, numbers) if isinstance(s, Region) and 0 not in s.shape else None for s in cut.steps]
    buffers, arena = _place(cut, nodes, numbers, emitted)
    scratch = max([e.scratch_bytes() for e in emitted if e is not None], default=0)
    steps: list[Step] = []
    zeroed: dict[Node, None] = {}
    lengths = [b.nbytes for b in buffers] + [t.nbytes for t in targets]
    regions = _Tables(lengths, {numbers[n]: n.value for n in tables if n.value is not None}, threads)
    for step, code in zip(cut.steps, emitted, strict=True):
        if isinstance(step, Call):
            steps.append(CallStep(step.node))
            continue
        fresh = dict.fromkeys([cut.merged[n] for n in step.scatters if cut.merged[n] not in zeroed])
        zeroed |= fresh
        if code is None:
            steps += [ZeroStep(n) for n in (*step.sums, *fresh)]
            continue
        led, seams = _lead(code, [numbers[n] for n in fresh if cut.is_whole_sum(step, n)], regions)
        for node in fresh:
            spans = led.zeros(numbers[node], node.size, seams) if led and numbers[node] in led.starts else None
            steps.append(ZeroStep(node, spans))
        steps.append(regions.step(code, "float64" if step.dtype is FLOAT64 else "float32", led))
    calls = [s.node for s in steps if isinstance(s, CallStep)]
    results = sum([n.size * n.dtype.itemsize for n in outputs])
    transient = max([transient_bytes(n) for n in calls], default=0)
    private = sum(lengths[len(buffers) + len(targets):])
    return Lowered(
        cut, numbers, tuple(buffers), tuple([numbers.get(n) for n in inputs]), tuple(steps), arena, aligned(scratch),
        threads, arena + aligned(scratch) * threads + results + transient + private,
        tuple(sorted({n.op for n in calls if is_fallback(n)})), tuple(targets),
    )


def _lead(code: Emitted, buffers: Sequence[int], regions: _Tables) -> tuple[Lead | None, tuple[Piece, ...]]:
    """The lead of `code` in `buffers`, where its pieces allow one, and the strips between them."""
    led = lead(code, buffers) if buffers else None
    if led is None or not regions.is_split(code):
        return led, ()
    found = led.split(regions.threads)
    return (None, ()) if found is None else (led, found.rounds[1])


class _Tables:
    """Makes the tables of regions. `lengths` grows by the private copies that threads need."""

    def __init__(self, lengths: list[int], offsets: dict[int, Array], threads: int) -> None:
        self.lengths, self.offsets, self.threads = lengths, offsets, threads
        self.spans = {k: (int(t.min()), int(t.max())) for k, t in offsets.items() if t.size}

    def is_split(self, code: Emitted) -> bool:
        return self.threads > 1 and code.nanoseconds() > WORTH_THREADS

    def step(self, code: Emitted, dtype: str, led: Lead | None = None) -> RegionStep:
        found = None
        if self.is_split(code):
            found = split(code, self.threads, self.offsets, self.lengths) if led is None else led.split(self.threads)
        if found is None:
            return RegionStep(dtype, ((self._checked(table(code if led is None else led.code), code),),))
        private: list[Private] = []
        rounds = []
        for r, pieces in enumerate(found.rounds):
            made = []
            for k, piece in enumerate(pieces):
                instead = {}
                if r or k:
                    for buffer in found.private:
                        self.lengths.append(self.lengths[buffer])
                        instead[buffer] = len(self.lengths) - 1
                        private.append(Private(buffer, instead[buffer], self.lengths[buffer]))
                of = code if led is None or r else led.code  # the strips between pieces, a round of their own, add
                made.append(self._checked(table(of, piece, instead), code))
            rounds.append(tuple(made))
        return RegionStep(dtype, tuple(rounds), tuple(private))

    def _checked(self, words: Array, code: Emitted) -> Array:
        verify(words, self.lengths, code.size, code.scratch_bytes(), self.spans)
        return words


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
            touched = [a[0] for a in code.addresses if a[0] < len(nodes)]
        else:
            touched = [numbers[n] for n in (*step.nodes, *step.sums, *step.copies) if n in numbers]
            touched += [numbers[cut.merged[n]] for n in step.scatters]
        for k in touched:
            first[k] = min(first[k], at)
            last[k] = at
    for _, form in cut.copies:
        last[numbers[form.root]] = len(cut.steps)
    return first, last


def _bytes_of(node: Node) -> int:
    return (1 if node.op == "zeros" else size_of(node.shape)) * node.dtype.itemsize

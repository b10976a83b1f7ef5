"""Loops in compiled code: a step costs no Python where its body is regions and movements.

    one region       the step is an outer axis of the region's own table: a store of one step is a load of the next
    several          `driver`, compiled once, runs the tables of a step and moves the addresses of what is indexed by it
    with calls       the body's program, run once for each step

The trajectory is the result itself, so a carry is read where the step before has written it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from hesse_engine.backend import opcodes as oc
from hesse_engine.backend.axes import Axes, plan_axes
from hesse_engine.backend.emit import Emitted, Emitter, table
from hesse_engine.backend.memory import aligned
from hesse_engine.backend.verify import verify
from hesse_engine.ir.graph import Array, Builder, Graph, Node
from hesse_engine.ir.ops.scan import Body
from hesse_engine.structure.regions import Call, Cut, Region
from hesse_engine.structure.sinking import summed_product

EXPANDED = 1 << 16  # multiplications of a product in a body that runs as a sum, to stay in compiled code
KEPT_LOOPS = 256


@dataclass(frozen=True, slots=True)
class Moving:
    """A buffer of the body that is another place in each step: first at element `start`, then `stride` further on."""

    start: int
    stride: int


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop without its arrays. Buffers: the inputs of the body, its outputs, then what lies in the arena."""

    tables: tuple[Array, ...]
    dtype: str
    is_whole: bool  # the one table runs all steps
    inputs: tuple[int | None, ...]  # buffer of each input of the body, drive included
    outputs: tuple[int, ...]
    moves: tuple[tuple[int, int, int], ...]  # (buffer, first byte, bytes a step)
    arena: tuple[tuple[int, int], ...]  # (buffer, offset)
    values: tuple[tuple[int, Array], ...]  # buffers that are constants of the body
    count: int
    arena_bytes: int
    scratch_bytes: int


# ---- the body --------------------------------------------------------------------------------------------------------
def stepped(body: Body, driven: Sequence[bool]) -> Graph:
    """The body with the drives as further inputs, products written as sums, and outputs with memory of their own."""
    builder = Builder(body.graph.builder.limits, body.graph.builder.library)
    new: dict[Node, Node] = {n: builder.input(n.attrs["name"], n.shape, n.dtype) for n in body.graph.inputs}
    inputs = list(new.values())
    for node in body.order:
        if node not in new:
            new[node] = _copied(node, new, builder)
    outputs = [new[y] for y in body.graph.outputs]
    for k, is_driven in enumerate(driven):
        if is_driven:
            inputs.append(builder.input(f"h{k}", outputs[k].shape, outputs[k].dtype))
            outputs[k] = outputs[k] + inputs[-1]
    cut = Cut(outputs)
    own: dict[Node, Node] = {}
    for position, _ in cut.copies:
        y = outputs[position]
        last = own.get(y, y)
        outputs[position] = own[y] = builder.make("stop_gradient", (last,), {}, y.shape, y.dtype)
    return Graph(tuple(inputs), tuple(outputs))


def _copied(node: Node, new: Mapping[Node, Node], builder: Builder) -> Node:
    if node.value is not None:
        return builder.constant(node.value)
    if node.op == "zeros":
        return builder.zeros(node.shape, node.dtype)
    copy = builder.make(node.op, tuple([new[a] for a in node.args]), node.attrs, node.shape, node.dtype)
    return summed_product(copy, EXPANDED) if node.op == "contract" and node.is_floating else copy


class _StepEmitter(Emitter):
    """The code of a region with the step as its outermost axis."""

    moving: Mapping[int, Moving]
    length: int

    def plan(self) -> Axes:
        axes = super().plan()
        strides = [self.moving[b].stride if b in self.moving else 0 for b, _, _ in self.addresses]
        self.addresses = [
            (b, offset + (self.moving[b].start if b in self.moving else 0), size) for b, offset, size in self.addresses
        ]
        return replace(
            axes, outer=(self.length, *axes.outer),
            outer_strides=tuple([(s, *o) for s, o in zip(strides, axes.outer_strides, strict=True)]),
            is_uniform=tuple([u and not s for u, s in zip(axes.is_uniform, strides, strict=True)]),
        )


def _movement(node: Node, cut: Cut, numbers: Mapping[Node, int], size: int) -> list[Emitted]:
    """`concat` and `unslice` as copies into the result's memory."""
    form = cut.forms[node]
    to, at = numbers[node], [0] * node.ndim
    found: list[Emitted] = []
    steps: tuple[int, ...] = (1,) * node.ndim
    if node.op == "unslice":
        at, steps = list(node.attrs["start"]), node.attrs["step"]
        found.append(_copy(node.shape, None, (to, 0, form.strides), size))
    for x in node.args:
        if x.size:
            start = sum([a * s for a, s in zip(at, form.strides, strict=True)])
            strides = tuple([s * d for s, d in zip(form.strides, steps, strict=True)])
            root, offset, own = cut.forms[x]
            found.append(_copy(x.shape, (numbers[root], offset, own), (to, start, strides), size))
        if node.op == "concat":
            at[node.attrs["axis"]] += x.shape[node.attrs["axis"]]
    return found


Place = tuple[int, int, tuple[int, ...]]  # buffer, element offset, strides


def _copy(shape: tuple[int, ...], source: Place | None, target: Place, size: int) -> Emitted:
    """target <- source, or zeros."""
    places = [target] if source is None else [target, source]
    axes = plan_axes(shape, [p[2] for p in places], {0}, (), 1)
    pool, bound, first = 1, 0, [oc.CONST, 0, 0, 0, 0, 0]
    if source is not None:
        is_bound = axes.inner_steps[1] == 1
        pool, bound = (0, 1) if is_bound else (1, 0)
        first = [oc.LOAD, 0, 1, 0, 0, 0]
    code = np.array([first, [oc.STORE, 0, 0, 0, 0, 0]], np.int64)
    return Emitted(code, 0, axes, tuple([(b, o, size) for b, o, _ in places]), pool, bound, 0, size, (), ())


@lru_cache(maxsize=KEPT_LOOPS)
def compiled(
    party: str, body: Body, constants: int, length: int, is_reverse: bool, driven: tuple[bool, ...],
    strides: tuple[int, ...],
) -> Loop | None:
    """The loop for slices and drives that lie `strides` elements apart; None where only NumPy can run the body.

    It is kept for the `party` that it was made for.
    """
    graph = stepped(body, driven)
    cut = Cut(graph.outputs)
    if cut.copies or 0 in [n for y in graph.outputs for n in y.shape]:
        return None
    nodes = sorted({*cut.kept, *[t.node for t in cut.tables.values()]}, key=lambda n: n.number)
    numbers = {n: k for k, n in enumerate(nodes)}
    moving = _moving(graph, body, constants, length, is_reverse, strides, cut, numbers)
    dtype = graph.outputs[0].dtype
    size = dtype.itemsize
    regions = [s for s in cut.steps if isinstance(s, Region)]
    is_whole = len(cut.steps) == len(regions) == 1 and not regions[0].scatters
    codes: list[Emitted] = []
    zeroed: dict[Node, None] = {}
    for step in cut.steps:
        if isinstance(step, Call):
            if step.node.op not in ("concat", "unslice") or step.node.dtype != dtype:
                return None
            codes += _movement(step.node, cut, numbers, size)
        elif step.dtype is not dtype or 0 in step.shape:
            return None
        elif is_whole:
            emitter = _StepEmitter(step, cut, numbers)
            emitter.moving, emitter.length = moving, length
            codes.append(emitter.run())
        else:
            fresh = dict.fromkeys([cut.merged[n] for n in step.scatters if cut.merged[n] not in zeroed])
            zeroed |= fresh
            codes += [_copy(n.shape, None, (numbers[n], 0, cut.forms[n].strides), size) for n in fresh]
            codes.append(Emitter(step, cut, numbers).run())
    return _assembled(graph, cut, nodes, numbers, moving, codes, is_whole, length)


def _moving(
    graph: Graph, body: Body, constants: int, length: int, is_reverse: bool, strides: Sequence[int], cut: Cut,
    numbers: Mapping[Node, int],
) -> dict[int, Moving]:
    """What is another place in each step: slices, drives, and the carries along their trajectories."""
    first, sign = (length - 1, -1) if is_reverse else (0, 1)
    at = len(body.graph.inputs) - len(graph.outputs)
    indexed = [*graph.inputs[constants:at], *graph.inputs[len(body.graph.inputs):]]
    found = {numbers[n]: Moving(first * s, sign * s) for n, s in zip(indexed, strides, strict=True) if n in numbers}
    for c, y in zip(graph.inputs[at:len(body.graph.inputs)], graph.outputs, strict=True):
        if c in numbers:
            found[numbers[c]] = Moving((length if is_reverse else 0) * c.size, sign * c.size)
        found[numbers[cut.forms[y].root]] = Moving((length - 1 if is_reverse else 1) * c.size, sign * c.size)
    return found


def _assembled(
    graph: Graph, cut: Cut, nodes: Sequence[Node], numbers: Mapping[Node, int], moving: Mapping[int, Moving],
    codes: Sequence[Emitted], is_whole: bool, length: int,
) -> Loop:
    """Buffers placed, tables made and verified."""
    outputs = tuple([numbers[cut.forms[y].root] for y in graph.outputs])
    sizes = [n.dtype.itemsize for n in nodes]
    arena, values, lengths, top = [], [], [], 0
    for k, node in enumerate(nodes):
        nbytes = (1 if node.op == "zeros" else node.size) * sizes[k]
        m = moving.get(k)
        reach = max(m.start, m.start + m.stride * (length - 1)) * sizes[k] if m is not None and is_whole else 0
        lengths.append(nbytes + reach)
        if node.op == "zeros":
            values.append((k, np.zeros(1, node.dtype)))
        elif node.value is not None:
            values.append((k, node.value))
        elif node.args and k not in outputs:
            arena.append((k, top))
            top += aligned(nbytes)
    tables = tuple([table(c) for c in codes])
    offsets = {numbers[t.node]: t.node.value for t in cut.tables.values()}
    spans = {k: (int(t.min()), int(t.max())) for k, t in offsets.items() if t is not None and t.size}
    for words, code in zip(tables, codes, strict=True):
        verify(words, lengths, code.size, code.scratch_bytes(), spans)
    moves = () if is_whole else tuple([(k, m.start * sizes[k], m.stride * sizes[k]) for k, m in moving.items()])
    return Loop(
        tables, str(graph.outputs[0].dtype), is_whole, tuple([numbers.get(n) for n in graph.inputs]), outputs, moves,
        tuple(arena), tuple(values), len(nodes), top, aligned(max([c.scratch_bytes() for c in codes])),
    )

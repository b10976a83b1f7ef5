"""Loops under the transforms: the tangent, the transpose and the batch of `scan` and `linear_scan`, and how one is cut.

    c' = F(k, x, c)        dc' = F_c dc + (F_k dk + F_x dx)       a linear scan: A = F_c, h the rest
    d' = A d + h           dd' = A dd + (dA d + dh)               the same A, another h
                           ct_d = A' ct_d' + g                    A transposed, run the other way, driven by g

A body is opened by building its nodes on placeholders in the graph around it; then the transforms are those of any
graph. `cut` closes it again: what is left in the loop is what depends on the carries. The rest, coefficients like F_c
and drives like F_x dx among it, is computed for all steps at once, the step on the last axis of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hesse_engine.ir.graph import Builder, Graph, Node, Shape, apply
from hesse_engine.ir.ops.elementwise import align
from hesse_engine.ir.ops.scan import Body, Operands, provide, sorted_out
from hesse_engine.ir.rows import ROWS, VIEWS
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.transforms.batch import batch, from_last, to_last
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import pull_back

HOISTED = 1 << 24  # elements that a value may have over all steps together; larger ones are made anew in each step
COUPLED = 3  # carries up to which a step is written out as a matrix of coefficients


@dataclass(slots=True)
class Steps:
    """What is known about a loop around its body: `rows` gives nodes of the body for all steps, on the last axis."""

    builder: Builder
    length: int
    is_reverse: bool
    rows: dict[Node, Node] = field(default_factory=dict)

    def across(self, nodes: Sequence[Node]) -> list[Node]:
        """`nodes` of the body in every step: one more axis, the last."""
        return batch(nodes, self.rows, self.length)

    def stacked(self, nodes: Sequence[Node]) -> list[Node]:
        """`nodes` of the body in every step: one more axis, the first."""
        return [from_last(n, 0) for n in self.across(nodes)]

    def add_trajectory(self, carry: Node, after: Node, trajectory: Node) -> None:
        """`trajectory`, of length + 1 on its first axis, is known of `carry` and of what a step makes of it."""
        before, behind = self.shifted(trajectory)
        self.rows[carry] = to_last(before, 0)
        if after.args and after not in self.rows and self.varies(after):
            self.rows[after] = to_last(behind, 0)

    def shifted(self, trajectory: Node) -> tuple[Node, Node]:
        """The carry that goes into each step, and that which comes out."""
        low = apply("slice", trajectory, start=(0,) * trajectory.ndim, count=(self.length, *trajectory.shape[1:]))
        start = (min(1, self.length), *(0,) * (trajectory.ndim - 1))
        high = apply("slice", trajectory, start=start, count=(self.length, *trajectory.shape[1:]))
        return (high, low) if self.is_reverse else (low, high)

    def varies(self, node: Node) -> bool:
        return node in dependents(reachable([node], stop=self.rows), self.rows)


def trajectories(packed: Node, shapes: Sequence[Shape], length: int) -> list[Node]:
    """The result of a loop as one array for each carry, of length + 1 on the first axis."""
    found, at = [], 0
    for shape in shapes:
        full = (length + 1, *shape)
        size = 1
        for n in full:
            size *= n
        part = apply("slice", packed, start=(at if size else 0,), count=(size,))
        found.append(apply("reshape", part, shape=full))
        at += size
    return found


def cut(
    op: str, outputs: Sequence[Node], carries: Sequence[Node], steps: Steps, init: Sequence[Node],
    drive: Sequence[Node] = (),
) -> Node:
    """The loop `op` whose step takes `carries` to `outputs`, with everything else outside of it."""
    order = reachable(outputs, stop={**steps.rows, **dict.fromkeys(carries)})
    inside = dependents(order, set(carries))
    varying = dependents(order, set(steps.rows))
    leaves = _leaves(outputs, inside, varying, set(carries), steps)
    apart = Builder(steps.builder.limits, steps.builder.library)
    constants = [n for n in leaves if n not in varying]
    slices = [n for n in leaves if n in varying]
    known: dict[Node, Node] = {}
    for letter, nodes in (("k", constants), ("x", slices), ("c", carries)):
        known.update({n: apart.input(f"{letter}{j}", n.shape, n.dtype) for j, n in enumerate(nodes)})
    inputs = tuple(known.values())
    body = Body(Graph(inputs, tuple(transplanted(outputs, known, apart))))
    return apply(op, *constants, *steps.stacked(slices), *init, *drive, body=body, constants=len(constants),
                 length=steps.length, reverse=steps.is_reverse)


def _leaves(
    outputs: Sequence[Node], inside: set[Node], varying: set[Node], carries: set[Node], steps: Steps
) -> list[Node]:
    """What the body takes from outside. Views stay in it where they cost nothing there, and numbers become its own."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node in seen or node in carries:
            continue
        seen.add(node)
        is_row = node in steps.rows
        is_small = node not in varying or is_row or node.size * max(1, steps.length) <= HOISTED
        if not is_row and (node in inside or not is_small):
            stack.extend(node.args)
        elif not is_row and node.op in VIEWS and node.args[0].size <= node.size:
            stack.append(node.args[0])
        elif not (node.op == "zeros" or (node.value is not None and node.size == 1)):
            found[node] = None
    return sorted(found, key=lambda n: n.number)


def transplanted(outputs: Sequence[Node], known: Mapping[Node, Node], builder: Builder) -> list[Node]:
    """`outputs` as nodes of another builder; `known` are those that stand for others there."""
    new = dict(known)
    for node in reachable(outputs, stop=known):
        if node in new:
            continue
        if node.value is not None:
            new[node] = builder.constant(node.value)
        elif node.op == "zeros":
            new[node] = builder.zeros(node.shape, node.dtype)
        else:
            new[node] = apply(node.op, *[new[a] for a in node.args], **node.attrs)
    return [new[n] for n in outputs]


def rebuilt(outputs: Sequence[Node], replacements: Mapping[Node, Node]) -> list[Node]:
    """`outputs` with nodes replaced, each built anew by its row, so that the result reads as if it had been written."""
    new = dict(replacements)
    for node in reachable(outputs, stop=replacements):
        if node not in new and any([a in new for a in node.args]):
            new[node] = apply(node.op, *[new.get(a, a) for a in node.args], **node.attrs)
    return [new.get(n, n) for n in outputs]


# ---- opened loops ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Open:
    """A loop with its body built on placeholders in the graph around it."""

    node: Node
    given: Operands
    inputs: Operands  # placeholders; their drive is empty
    outputs: list[Node]
    steps: Steps

    @property
    def shapes(self) -> list[Shape]:
        return [y.shape for y in self.outputs]

    @property
    def builder(self) -> Builder:
        return self.node.builder

    def closed_constants(self, nodes: Sequence[Node]) -> list[Node]:
        """`nodes` with the constants themselves in the place of their placeholders."""
        return rebuilt(nodes, dict(zip(self.inputs.constants, self.given.constants, strict=True)))


def _opened(node: Node) -> _Open:
    body: Body = node.attrs["body"]
    builder, constants = node.builder, node.attrs["constants"]
    holders = [builder.input(n.attrs["name"], n.shape, n.dtype) for n in body.graph.inputs]
    outputs = transplanted(body.graph.outputs, dict(zip(body.graph.inputs, holders, strict=True)), builder)
    given = sorted_out(node.op, node.args, body, constants)
    inputs = sorted_out("scan", holders, body, constants)
    steps = Steps(builder, node.attrs["length"], node.attrs["reverse"])
    for holder, array in zip(inputs.slices, given.slices, strict=True):
        steps.rows[holder] = to_last(array, 0)
    return _Open(node, given, inputs, outputs, steps)


def _filled(like: Sequence[Node], found: Sequence[Node | None]) -> list[Node]:
    return [n.builder.zeros(n.shape, n.dtype) if t is None else t for n, t in zip(like, found, strict=True)]


def _moved(loop: _Open, tangents: Operands) -> list[Node | None]:
    """What tangents of constants and slices do to one step, the carries held fixed."""
    moving: dict[Node, Node] = {h: t for h, t in zip(loop.inputs.constants, tangents.constants, strict=True)
                                if t is not None}
    for holder, t in zip(loop.inputs.slices, tangents.slices, strict=True):
        if t is not None:
            moving[holder] = loop.builder.input("t", holder.shape, holder.dtype)
            loop.steps.rows[moving[holder]] = to_last(t, 0)
    return push_forward(loop.outputs, moving) if moving else [None] * len(loop.outputs)


def linearized(outputs: Sequence[Node], carries: Sequence[Node], seeds: Sequence[Node]) -> list[Node]:
    """The derivative of `outputs` along `seeds`, the tangents of `carries`: as sum_j a_ij d_j where all is elementwise.

    The a_ij do not depend on the seeds, so they leave the loop.
    """
    if not is_elementwise(outputs, carries):
        return _filled(outputs, push_forward(outputs, dict(zip(carries, seeds, strict=True))))
    totals: list[Node | None] = [None] * len(outputs)
    for j, c in enumerate(carries):
        unit = {n: n.builder.zeros(n.shape, n.dtype) for n in carries}
        unit[c] = c.builder.full(c.shape, 1.0, c.dtype)
        for i, slope in enumerate(push_forward(outputs, unit)):
            if slope is not None:
                old = totals[i]
                totals[i] = slope * seeds[j] if old is None else old + slope * seeds[j]
    return _filled(outputs, totals)


def is_elementwise(outputs: Sequence[Node], carries: Sequence[Node]) -> bool:
    """Whether element e of every output depends on the carries through their elements e alone, and they are few."""
    inside = dependents(reachable(outputs, stop=dict.fromkeys(carries)), set(carries))
    return len(carries) <= COUPLED and all([
        n.shape == carries[0].shape and (not n.args or n in carries or ROWS[n.op].vm is not None) for n in inside
    ])


class Loops:
    """The calculus of the two rows."""

    def tangent(self, node: Node, tangents: Sequence[Node | None]) -> Node | None:
        """The linear scan that carries tangents along the trajectory of `node`."""
        if all([t is None for t in tangents]):
            return None
        loop = _opened(node)
        given = sorted_out(node.op, tangents, node.attrs["body"], node.attrs["constants"])
        carries, count = loop.inputs.init, len(loop.outputs)
        moved = _filled(loop.outputs, _moved(loop, given))
        init = _filled(carries, given.init)
        found = trajectories(node, loop.shapes, loop.steps.length)
        if node.op == "linear_scan":
            drives = loop.closed_constants(moved)
            for carry, trajectory in zip(carries, found, strict=True):
                loop.steps.rows[carry] = to_last(loop.steps.shifted(trajectory)[0], 0)
            own = [None if h is None else to_last(h, 0) for h in given.drive]
            drive = [d if h is None else d + h for d, h in zip(loop.steps.across(drives), own, strict=True)]
            operands = [*loop.given.constants, *loop.given.slices, *init, *[from_last(d, 0) for d in drive]]
            return apply("linear_scan", *operands, **node.attrs)
        seeds = [loop.builder.input("d", c.shape, c.dtype) for c in carries]
        slopes = linearized(loop.outputs, carries, seeds)
        closed = loop.closed_constants([*moved, *slopes, *loop.outputs])
        for carry, after, trajectory in zip(carries, closed[2 * count:], found, strict=True):
            loop.steps.add_trajectory(carry, after, trajectory)
        return cut("linear_scan", closed[count:2 * count], seeds, loop.steps, init, loop.steps.stacked(closed[:count]))

    def transposed(self, node: Node, ct: Node) -> list[Node | None]:
        """The cotangents of init and drive of a linear scan: a linear scan of the transposed body, backwards."""
        loop = _opened(node)
        builder, steps, carries = loop.builder, loop.steps, loop.inputs.init
        length, is_reverse = steps.length, steps.is_reverse
        seeds = [builder.input("ct", y.shape, y.dtype) for y in loop.outputs]
        pulled = _filled(carries, pull_back(loop.outputs, seeds, carries))
        closed = loop.closed_constants(pulled)
        init, drive = [], []
        for g in trajectories(ct, loop.shapes, length):
            # the cotangent of the last value starts the loop, those of the others drive it
            drive.append(steps.shifted(g)[0])
            start = (0 if is_reverse else length, *(0,) * (g.ndim - 1))
            last = apply("slice", g, start=start, count=(1, *g.shape[1:]))
            init.append(apply("reshape", last, shape=g.shape[1:]))
        back = Steps(builder, length, not is_reverse, steps.rows)
        result = cut("linear_scan", closed, seeds, back, init, drive)
        to_init, to_drive = [], []
        for found in trajectories(result, loop.shapes, length):
            start = (length if is_reverse else 0, *(0,) * (found.ndim - 1))
            first = apply("slice", found, start=start, count=(1, *found.shape[1:]))
            to_init.append(apply("reshape", first, shape=found.shape[1:]))
            to_drive.append(steps.shifted(found)[1])
        others = len(node.args) - 2 * len(carries)
        return [*[None] * others, *to_init, *to_drive]

    def batched(self, node: Node, args: list[Node], flags: list[bool], size: int) -> Node:
        """The loop over batches: each carry has the batch on its last axis."""
        loop = _opened(node)
        body, constants = node.attrs["body"], node.attrs["constants"]
        given = sorted_out(node.op, list(zip(args, flags, strict=True)), body, constants)
        wide: dict[Node, Node] = {}
        closed: dict[Node, Node] = {}
        for holder, (arg, flag) in zip(loop.inputs.constants, given.constants, strict=True):
            if flag:
                wide[holder] = _widened(holder, size)
            closed[wide.get(holder, holder)] = arg
        for holder, (arg, flag) in zip(loop.inputs.slices, given.slices, strict=True):
            if flag:
                wide[holder] = _widened(holder, size)
                loop.steps.rows[wide[holder]] = to_last(arg, 0)
        carries = [_widened(c, size) for c in loop.inputs.init]
        wide.update(zip(loop.inputs.init, carries, strict=True))
        outputs = rebuilt(batch(loop.outputs, wide, size), closed)
        init = [a if flag else align(a, size) for a, flag in given.init]
        drive = [a if flag else align(a, size) for a, flag in given.drive]
        result = cut(node.op, outputs, carries, loop.steps, init, drive)
        return apply("reshape", result, shape=(*node.shape, size))


def _widened(holder: Node, size: int) -> Node:
    return holder.builder.input("b", (*holder.shape, size), holder.dtype)


provide(Loops())

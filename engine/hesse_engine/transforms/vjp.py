"""Reverse mode, as linearise and transpose in one sweep: every row is linear in its tangents, and transposed as such.

    linear      ct -> the row's own transposes
    bilinear    ct -> the transpose in each slot, the other operand held fixed
    pointwise   ct -> ct * partial (the linearised row is `sum_i partial_i * t_i`)
    nonlinear   the row's tangent is built on placeholder tangents, and that linear piece is transposed; where only
                operands move that the row is linear in, ct -> the row's own transposes

Masks: a cotangent that came through `where` is zero, by selection, in the branch not taken. It carries that selection
along, so that a partial which is infinite there is selected away instead of giving 0 * inf = NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hesse_engine.ir.graph import INT64, Graph, Node, apply, is_zero
from hesse_engine.ir.ops.contraction import operand_mask
from hesse_engine.ir.ops.structural import any_over
from hesse_engine.ir.rows import ROWS, Row
from hesse_engine.ir.shapes import convert
from hesse_engine.ir.walk import connected, reachable
from hesse_engine.transforms.jvp import distinct


@dataclass(frozen=True, slots=True)
class Cotangent:
    """`value`, known to be zero where `mask` (bool, same shape) is false; no mask: nothing known."""

    value: Node
    mask: Node | None = None


def pull_back(
    outputs: Sequence[Node], cotangents: Sequence[Node | Cotangent], wrt: Sequence[Node]
) -> list[Node | None]:
    """ct' J for each node of `wrt`; None where no output depends on it."""
    masked = [c if isinstance(c, Cotangent) else Cotangent(c) for c in cotangents]
    pulled = _pull(reachable(outputs), outputs, masked, wrt)
    return [None if c is None else c.value for c in pulled]


def _pull(
    order: Sequence[Node], outputs: Sequence[Node], cotangents: Sequence[Cotangent], wrt: Sequence[Node]
) -> list[Cotangent | None]:
    active = connected(order, set(wrt))
    sums: dict[Node, Cotangent] = {}
    for node, ct in zip(outputs, cotangents, strict=True):
        sums[node] = merged(sums.get(node), ct)
    stop = set(wrt)
    for node in reversed(order):
        if node not in sums or node not in active or node in stop:
            continue
        ct = sums.pop(node)
        for arg, contribution in zip(node.args, transposed(node, ct, active), strict=True):
            if contribution is not None and arg in active:
                sums[arg] = merged(sums.get(arg), contribution)
    return [sums.get(n) for n in wrt]


def transposed(node: Node, ct: Cotangent, active: set[Node]) -> list[Cotangent | None]:
    """The contributions of `node`'s cotangent to each operand."""
    row = ROWS[node.op]
    rule = row.rule
    if rule is None:
        return [None] * len(node.args)
    if row.kind == "linear":
        masks = _moved_masks(row, node, ct.mask)
        return [None if c is None else Cotangent(c, m) for c, m in zip(rule(ct.value, node), masks, strict=True)]
    if row.kind == "bilinear":
        a, b = node.args
        found = []
        for slot, (arg, other) in enumerate(((a, b), (b, a))):
            value = rule(ct.value, other, node, slot) if arg in active else None
            if value is None or ct.mask is None:
                found.append(None if value is None else Cotangent(value))
            elif node.op == "multiply":
                found.append(_selected(value, ct.mask))
            else:
                mask = operand_mask(ct.mask, node, slot)
                found.append(Cotangent(value, mask) if _is_given(other) else _selected(value, mask))
        return found
    if row.kind == "pointwise":
        partials = rule(node, *node.args)
        return [
            None if p is None or a not in active
            else ct if isinstance(p, float) and p == 1.0
            else _selected(ct.value * p, ct.mask)
            for a, p in zip(node.args, partials, strict=True)
        ]
    return _transpose_nonlinear(node, ct, active)


def _transpose_nonlinear(node: Node, ct: Cotangent, active: set[Node]) -> list[Cotangent | None]:
    row = ROWS[node.op]
    builder, rule = node.builder, row.rule
    assert rule is not None
    moving = [k for k, a in enumerate(node.args) if a in active and row.differentiable(k)]
    if row.transpose is not None and set(moving) <= set(row.linear_slots(node)):
        return [None if c is None else _selected(c, _any_of(ct.mask, c)) for c in row.transpose(ct.value, node)]
    tangents = [builder.input("t", a.shape, a.dtype) if k in moving else None for k, a in enumerate(node.args)]
    placeholders = [t for t in tangents if t is not None]
    image = rule(node, tangents) if placeholders else None
    if image is None:
        return [None] * len(tangents)
    # what depends on a placeholder is newer than it: the primal graph behind the node is not walked again
    order = reachable([image], since=placeholders[0].number)
    pulled = iter(_pull(order, [image], [ct], placeholders))
    return [None if t is None else next(pulled) for t in tangents]


def _any_of(mask: Node | None, like: Node) -> Node | None:
    """Whether any element is live, for every element of `like`: without a live cotangent there is no contribution."""
    if mask is None:
        return None
    return apply("broadcast_to", any_over(mask, tuple(range(mask.ndim))), shape=like.shape)


def _selected(value: Node, mask: Node | None) -> Cotangent:
    if mask is None or is_zero(value):
        return Cotangent(value)
    return Cotangent(apply("where", mask, value, value.builder.zeros(value.shape, value.dtype)), mask)


def _is_given(node: Node) -> bool:
    """Whether `node` holds elements of an input or a constant, which a dead branch cannot have made infinite."""
    while node.op in ("reshape", "permute_dims", "broadcast_to", "slice", "convert"):
        node = node.args[0]
    return not node.args


def _moved_masks(row: Row, node: Node, mask: Node | None) -> list[Node | None]:
    """The masks that the operands of a linear row inherit; dropping a mask is always safe."""
    nothing: list[Node | None] = [None] * len(node.args)
    if node.op == "where":
        condition = node.args[0]
        taken, other = condition, apply("logical_not", condition)
        both = [taken, other] if mask is None else [apply("logical_and", m, mask) for m in (taken, other)]
        return [None, *both]
    if mask is None:
        return nothing
    if node.op in ("add", "subtract", "negative", "convert"):
        return [mask] * len(node.args)
    if node.op == "broadcast_to":
        source = node.args[0].shape
        axes = tuple([k for k, (s, w) in enumerate(zip(source, node.shape, strict=True)) if s != w])
        return [apply("reshape", any_over(mask, axes), shape=source)]
    if node.op == "take":
        (x, index), k = node.args, node.attrs["axis"]
        return [apply("scatter_add", convert(mask, INT64), index, axis=k, size=x.shape[k]) > 0, None]
    if node.op == "scatter_add":
        return [apply("take", mask, node.args[1], axis=node.attrs["axis"]), None]
    if node.op == "take_along":
        (x, index), k = node.args, node.attrs["axis"]
        return [apply("add_along", convert(mask, INT64), index, axis=k, size=x.shape[k]) > 0, None]
    if node.op == "add_along":
        return [apply("take_along", mask, node.args[1], axis=node.attrs["axis"]), None]
    if row.is_movement and row.rule is not None:
        return list(row.rule(mask, node))
    return nothing


def merged(old: Cotangent | None, new: Cotangent) -> Cotangent:
    """The sum of two contributions; it is masked only where both are."""
    if old is None:
        return new
    mask = None if old.mask is None or new.mask is None else _either(old.mask, new.mask)
    return Cotangent(old.value + new.value, mask)


def _either(a: Node, b: Node) -> Node | None:
    """a or b; None, everywhere, where one is the other's negation: both branches of a `where` meet again."""
    if (a.op == "logical_not" and a.args[0] is b) or (b.op == "logical_not" and b.args[0] is a):
        return None
    return a if a is b else apply("logical_or", a, b)


def vjp(graph: Graph, argnums: Sequence[int]) -> Graph:
    """(x, ct) -> (f(x), ct' J): cotangents of all outputs become further inputs, ct' J further outputs."""
    builder = graph.builder
    names = distinct([f"ct_{k}" for k in range(len(graph.outputs))], graph.names)
    seeds = [builder.input(name, y.shape, y.dtype) for name, y in zip(names, graph.outputs, strict=True)]
    wrt = [graph.inputs[k] for k in argnums]
    pulled = pull_back(graph.outputs, seeds, wrt)
    filled = [builder.zeros(x.shape, x.dtype) if c is None else c for x, c in zip(wrt, pulled, strict=True)]
    return Graph((*graph.inputs, *seeds), (*graph.outputs, *filled), graph.guards)


def gradient(output: Node, wrt: Sequence[Node]) -> list[Node]:
    """d output / d wrt for an output of one element."""
    builder = output.builder
    seed = builder.full(output.shape, 1.0, output.dtype)
    pulled = pull_back([output], [seed], wrt)
    return [builder.zeros(x.shape, x.dtype) if c is None else c for x, c in zip(wrt, pulled, strict=True)]

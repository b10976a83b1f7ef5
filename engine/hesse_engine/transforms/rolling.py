"""A loop, given by one step, as nodes: only true recurrences become loops, all else is computed for all steps at once.

The carries are split by how they depend on each other (strongly connected components, in topological order):

    c' = f(x)            no recurrence: the values for all steps, shifted by one
    c' = c + f(x)        a sum, or where its course is needed a linear scan with A = 1
    c' = F(c, x)         a scan, of the carries of this component alone

where x is whatever is known for all steps, earlier components included. What a step gives out besides the carries is
computed from their trajectories.
"""

from __future__ import annotations

from collections.abc import Sequence

from hesse_engine.ir.graph import Node, apply
from hesse_engine.ir.walk import dependents, reachable
from hesse_engine.transforms.batch import to_last
from hesse_engine.transforms.scan import Steps, cut, is_elementwise, linearized, trajectories


def roll(
    steps: Steps, carries: Sequence[Node], after: Sequence[Node], init: Sequence[Node], outputs: Sequence[Node]
) -> tuple[list[Node], list[Node]]:
    """(the last carries, `outputs` of every step on a new first axis) of the loop that takes `carries` to `after`.

    `steps.rows` holds the slices when it is given, and the trajectories when this returns.
    """
    order = reachable([*after, *outputs], stop={**steps.rows, **dict.fromkeys(carries)})
    users = [dependents(order, {c}) for c in carries]
    last: dict[int, Node] = {}
    for group in _components([[j for j in range(len(carries)) if a in users[j]] for a in after]):
        members = [carries[k] for k in group]
        k = group[0]
        added = _added(after[k], carries[k], users[k]) if len(group) == 1 else None
        is_read = any([y in users[k] for j, y in enumerate([*after, *outputs]) if j != k])
        if len(group) == 1 and after[k] not in users[k]:
            last[k] = _shifted(steps, carries[k], after[k], init[k])
        elif added is not None and not is_read:
            (drive,) = steps.across([added])
            last[k] = init[k] + apply("sum", drive, axis=-1)
        else:
            if added is not None:
                (drive,) = steps.stacked([added])
                packed = cut("linear_scan", members, members, steps, [init[k]], [drive])
            else:
                packed = _recurrence([after[k] for k in group], members, steps, [init[k] for k in group])
            found = trajectories(packed, [c.shape for c in members], steps.length)
            for k, trajectory in zip(group, found, strict=True):
                steps.add_trajectory(carries[k], after[k], trajectory)
                last[k] = _at(trajectory, 0 if steps.is_reverse else steps.length)
    return [last[k] for k in range(len(carries))], steps.stacked(outputs)


def _recurrence(after: Sequence[Node], carries: Sequence[Node], steps: Steps, init: Sequence[Node]) -> Node:
    """A scan; a linear one where the step is affine in the carries, element by element."""
    rest = _at_zero(after, carries) if is_elementwise(after, carries) else None
    if rest is None:
        return cut("scan", after, carries, steps, init)
    return cut("linear_scan", linearized(after, carries, carries), carries, steps, init, steps.stacked(rest))


def _at_zero(after: Sequence[Node], carries: Sequence[Node]) -> list[Node] | None:
    """`after` where the carries are zero; None unless it is affine in them, by the kinds of its operations."""
    inside = dependents(reachable(after, stop=dict.fromkeys(carries)), set(carries))
    new = {c: c.builder.zeros(c.shape, c.dtype) for c in carries}
    for node in sorted(inside - set(carries), key=lambda n: n.number):
        flags = [a in inside for a in node.args]
        is_product = node.op == "multiply" and flags.count(True) == 1
        is_choice = node.op == "where" and not flags[0]
        if not (node.op in ("add", "subtract", "negative") or is_product or is_choice):
            return None
        new[node] = apply(node.op, *[new.get(a, a) for a in node.args], **node.attrs)
    return [new.get(y, y) for y in after]


def _added(after: Node, carry: Node, users: set[Node]) -> Node | None:
    """g where after = carry + g or carry - g, and g does not depend on the carry."""
    if after.op not in ("add", "subtract") or carry not in after.args:
        return None
    a, b = after.args
    if a is carry and b not in users:
        return b if after.op == "add" else apply("negative", b)
    return a if after.op == "add" and b is carry and a not in users else None


def _shifted(steps: Steps, carry: Node, after: Node, init: Node) -> Node:
    """A carry that no carry of its own component enters: its last value; its trajectory joins the rows."""
    (behind,) = steps.stacked([after])
    if not steps.length:
        steps.rows[carry] = apply("reshape", behind, shape=(*carry.shape, 0))
        return init
    first = apply("reshape", init, shape=(1, *init.shape))
    rest = apply("slice", behind, start=(1 if steps.is_reverse else 0, *(0,) * init.ndim),
                 count=(steps.length - 1, *init.shape))
    before = apply("concat", *((rest, first) if steps.is_reverse else (first, rest)), axis=0)
    steps.rows[carry] = to_last(before, 0)
    if after.args and after not in steps.rows and steps.varies(after):
        steps.rows[after] = to_last(behind, 0)
    return _at(behind, 0 if steps.is_reverse else steps.length - 1)


def _at(array: Node, position: int) -> Node:
    start = (position, *(0,) * (array.ndim - 1))
    part = apply("slice", array, start=start, count=(1, *array.shape[1:]))
    return apply("reshape", part, shape=array.shape[1:])


def _components(needs: Sequence[Sequence[int]]) -> list[list[int]]:
    """Strongly connected components of `k needs j`, those needed first (Warshall 1962: carries are few)."""
    count = len(needs)
    reach = [sum([1 << j for j in row]) for row in needs]
    for m in range(count):
        for k in range(count):
            if reach[k] >> m & 1:
                reach[k] |= reach[m]
    groups: list[list[int]] = []
    placed = 0
    while placed != (1 << count) - 1:
        for k in range(count):
            group = [j for j in range(count) if j == k or (reach[k] >> j & 1 and reach[j] >> k & 1)]
            own = sum([1 << j for j in group])
            if not placed >> k & 1 and not reach[k] & ~(placed | own):
                groups.append(group)
                placed |= own
    return groups


__all__ = ["Steps", "roll"]

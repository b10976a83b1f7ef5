"""Bring a function into the shape that edge pushing wants: views at the leaves, short inner sums written out.

    broadcast(exp(x)) + ...     ->  exp(broadcast(x)) + ...       one iteration space, nothing else in between
    contract(a, b)              ->  sum(a * b)                    for two variable operands
    sqrt(sum(d * d, axis=-1))   ->  sqrt(d_0 * d_0 + d_1 * d_1)   for an axis of at most 4
"""

from __future__ import annotations

from collections.abc import Sequence

from hesse_engine.ir.graph import Node, Shape, apply, size_of
from hesse_engine.ir.rows import ROWS, VIEWS, evaluate
from hesse_engine.ir.walk import connected, dependents, reachable, rebuild

SPECTRA = ("eigh_values", "svd_values")  # sums of functions of all values stay whole: see ir/ops/slopes.py
UNROLLED = 8  # terms of a sum that is used nonlinearly: coordinates of a point, factors of a low rank
UNROLLED_ROWS = 16  # the same for several sums side by side: rows of a softmax, whose outer products would be sparse
EXPANDED = 1 << 20  # elements of the iteration space of a product of two variable arrays


def is_elementwise(node: Node) -> bool:
    return ROWS[node.op].vm is not None


def sink(output: Node, wrt: Sequence[Node]) -> Node:
    """`output` with short nonlinear sums over `wrt` written out, and views moved to the leaves."""
    order = reachable([output])
    active = connected(order, set(wrt))
    bent = _nonlinearly_used(order, output, active)
    bent -= dependents(order, [n for n in order if n.op in SPECTRA])
    new: dict[Node, Node] = {}
    for node in order:
        args = tuple([new[a] for a in node.args])
        changed = node if args == node.args else rebuild(node, args)
        if node in active:
            if node.op == "sum" and node in bent:
                changed = _unrolled(changed)
            elif node.op == "contract" and all([a in active for a in node.args]):
                changed = _product(changed, node in bent)
            elif node.op in VIEWS and is_elementwise(changed.args[0]):
                changed = _through(changed, changed.args[0])
            elif node.op in VIEWS and changed.args[0].op == "take":
                changed = _through_take(changed)
        new[node] = changed
    return new[output]


def _nonlinearly_used(order: Sequence[Node], output: Node, active: set[Node]) -> set[Node]:
    """Nodes that some path to `output` leaves through an op that is not linear in them."""
    bent: set[Node] = set()
    for node in reversed(order):
        kind = ROWS[node.op].kind
        factors = [a for a in node.args if a in active]
        is_linear = kind == "linear" or (kind == "bilinear" and len(factors) == 1)
        if node in bent or not is_linear:
            bent.update(factors)
    return bent


def _product(node: Node, is_bent: bool) -> Node:
    """A product of two variable arrays, written out where that helps; one of two leaves is eliminated whole."""
    if not is_bent:
        return summed_product(node)
    left, _, out = node.attrs["subscripts"].replace("->", ",").split(",")
    terms = size_of(tuple([n for n, c in zip(node.args[0].shape, left, strict=True) if c not in out]))
    if terms > UNROLLED and all([_is_view_of_input(a) for a in node.args]):
        return node
    found = summed_product(node)
    return _unrolled(found) if found.op == "sum" else found


def _is_view_of_input(node: Node) -> bool:
    while node.op in VIEWS:
        node = node.args[0]
    return node.op == "input"


def summed_product(node: Node, largest: int = EXPANDED) -> Node:
    """contract(a, b) of two variable arrays as sum(a * b) over one iteration space: elementwise up to the sum."""
    a, b = node.args
    left, right, out = node.attrs["subscripts"].replace("->", ",").split(",")
    letters = out + "".join([c for c in left if c not in out])
    lengths = {**dict(zip(left, a.shape, strict=True)), **dict(zip(right, b.shape, strict=True))}
    shape = tuple([lengths[c] for c in letters])
    if size_of(shape) > largest:
        return node
    product = spread(a, left, letters, shape) * spread(b, right, letters, shape)
    return apply("sum", product, axis=tuple(range(len(out), len(letters))))


def spread(x: Node, own: str, letters: str, shape: Shape) -> Node:
    """x broadcast over `letters`."""
    ordered = apply("permute_dims", x, axes=[own.index(c) for c in letters if c in own])
    column = apply("reshape", ordered, shape=[n if c in own else 1 for c, n in zip(letters, shape, strict=True)])
    return apply("broadcast_to", column, shape=shape)


def _unrolled(node: Node) -> Node:
    (x,), axes = node.args, node.attrs["axis"]
    largest = UNROLLED_ROWS if node.size >= UNROLLED else UNROLLED
    if len(axes) != 1 or not 1 <= x.shape[axes[0]] <= largest or _holds_product(x):
        return node
    (axis,) = axes
    count = tuple([1 if k == axis else s for k, s in enumerate(x.shape)])
    total: Node | None = None
    for c in range(x.shape[axis]):
        part = apply("slice", x, start=tuple([c if k == axis else 0 for k in range(x.ndim)]), count=count)
        part = apply("reshape", part, shape=node.shape)
        while part.op in VIEWS and _can_sink(part):
            part = _sunk(part)
        total = part if total is None else total + part
    assert total is not None
    return total


def _holds_product(root: Node) -> bool:
    """Whether a contraction is among the leaves of the elementwise expression `root`: slices of it are no images."""
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node.op == "contract":
            return True
        if is_elementwise(node) or node.op in VIEWS:
            fresh = [a for a in node.args if a not in seen]
            seen.update(fresh)
            stack.extend(fresh)
    return False


def _can_sink(view: Node) -> bool:
    inner = view.args[0]
    return is_elementwise(inner) or (inner.op in VIEWS and is_elementwise(inner.args[0]))


def _sunk(view: Node) -> Node:
    inner = view.args[0]
    if is_elementwise(inner):
        return _through(view, inner)
    return rebuild(view, (_through(inner, inner.args[0]),))


def _through(view: Node, root: Node) -> Node:
    """`view(root)` with the view applied to what the elementwise expression `root` is made of."""
    inside: dict[int, Node] = {}
    stack = [root]
    while stack:
        node = stack.pop()
        if node.number not in inside:
            inside[node.number] = node
            if is_elementwise(node):
                stack.extend(node.args)
    new: dict[Node, Node] = {}
    for number in sorted(inside):
        node = inside[number]
        if is_elementwise(node):
            args = tuple([new[a] for a in node.args])
            new[node] = node.builder.make(node.op, args, node.attrs, view.shape, node.dtype)
        else:
            new[node] = apply(view.op, node, **view.attrs)
            new[node] = _through_take(new[node])
    return new[root]


def _through_take(view: Node) -> Node:
    """`view(x[I])` as `x'[I']` where the view is a slice, or drops axes of length 1: gathers stay at the leaves."""
    taken = view.args[0] if view.op in VIEWS else None
    if taken is None or taken.op != "take" or taken.args[1].value is None:
        return view
    (x, index), axis = taken.args, taken.attrs["axis"]
    rank = index.ndim
    if view.op == "slice":
        start, step, count = (view.attrs[k] for k in ("start", "step", "count"))
        inner = slice(axis, axis + rank)
        if (start[inner], step[inner], count[inner]) != ((0,) * rank, (1,) * rank, index.shape):
            part = apply("slice", index, start=start[inner], step=step[inner], count=count[inner])
            index = x.builder.constant(evaluate(part, [index.value]))
        outer = [(*k[:axis], own, *k[axis + rank:]) for k, own in ((start, 0), (step, 1), (count, x.shape[axis]))]
        return apply("take", apply("slice", x, start=outer[0], step=outer[1], count=outer[2]), index, axis=axis)
    if view.op == "reshape" and view.shape == _squeezed(taken.shape, axis, rank):
        before = _squeezed(x.shape[:axis], axis, 0)
        shape = (*before, x.shape[axis], *_squeezed(x.shape[axis + 1:], 0, 0))
        return apply("take", apply("reshape", x, shape=shape), index, axis=len(before))
    return view


def _squeezed(shape: Shape, axis: int, rank: int) -> Shape:
    """`shape` without its axes of length 1, but for the `rank` ones at `axis`."""
    return tuple([n for k, n in enumerate(shape) if n != 1 or axis <= k < axis + rank])

"""Second differentials through functions of matrices: what edge pushing cannot take apart is taken whole.

Let P be the nodes that a nonlinear array op (cholesky, solve, logabsdet, ...) leads to, and s(x) the nodes that P
reads. Then f(x) = F(s(x)), and

    d²f = <s*, d²s> + <ds, F'' ds>        with s* = F'(s), the cotangents of s

The first term is the second differential of sum <s*, s(x)> with s* held fixed, which edge pushing may cover; the second
takes one tangent ds_j for each variable x_j, its image F'' ds_j under forward over reverse, and one matrix product. A
sweep would pull each of these images back to x instead, element by element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hesse_engine.ir.graph import Node, apply, flat
from hesse_engine.ir.rows import ROWS
from hesse_engine.ir.walk import connected, reachable, substitute
from hesse_engine.structure.pushing import OuterProduct, QuadraticForm, second_differential
from hesse_engine.transforms.batch import batch
from hesse_engine.transforms.jvp import push_forward
from hesse_engine.transforms.vjp import pull_back

ELEMENTS = 1 << 24  # of all tangents together
VARIABLES = 64  # each takes a tangent of its own: with more of them, a sweep's chunks need less memory


def through_opaque(output: Node, wrt: Sequence[Node]) -> QuadraticForm | None:
    """The form of `output` (one element, views sunk to its leaves), or None where it has no such part or the rest is
    not covered."""
    order = reachable([output])
    active = connected(order, set(wrt))
    if any([x.dtype != output.dtype for x in wrt]) or output not in active:
        return None
    if any(["body" in n.attrs for n in order]):  # a loop runs once for all seeds of a sweep; here it would run twice
        return None
    parts = _interface(order, active)
    count, size = flat(wrt), flat(parts)
    if not parts or not 0 < count <= VARIABLES or not count <= size <= ELEMENTS // count:
        return None
    # P as a function of placeholders: a transpose of a transposed s would be what s views, and bypass s
    places = [output.builder.input("s", s.shape, s.dtype) for s in parts]
    (whole,) = substitute([output], dict(zip(parts, places, strict=True)))
    one = output.builder.full(output.shape, 1.0, output.dtype)
    pulled = pull_back([whole], [one], places)
    back = dict(zip(places, parts, strict=True))
    live = [(p, c) for p, c in zip(places, pulled, strict=True) if c is not None]
    cotangents = substitute([c for _, c in live], back)
    form = _weighted([(back[p], c) for (p, _), c in zip(live, cotangents, strict=True)], wrt)
    curved = None if form is None else _curvature(live, back, wrt)
    return form if form is None or curved is None else replace(form, outer=[*form.outer, curved])


def _interface(order: Sequence[Node], active: set[Node]) -> list[Node]:
    """The active nodes outside of P that P reads."""
    opaque: set[Node] = set()
    read: dict[Node, None] = {}
    for node in order:
        row = ROWS[node.op]
        if node in active and ((row.kind == "nonlinear" and row.vm is None) or any([a in opaque for a in node.args])):
            opaque.add(node)
            read.update(dict.fromkeys([a for k, a in enumerate(node.args)
                                       if a in active and a not in opaque and row.differentiable(k)]))
    return list(read)


def _weighted(parts: Sequence[tuple[Node, Node]], wrt: Sequence[Node]) -> QuadraticForm | None:
    """The second differential of sum <s*, s> with s* held fixed: by placeholders, which are replaced in the end."""
    total = wrt[0].builder.zeros((), wrt[0].dtype)
    held: dict[Node, Node] = {}
    for s, cotangent in parts:
        weight = s.builder.input("w", s.shape, s.dtype)
        held[weight] = cotangent
        total = total + apply("sum", weight * s)
    form = second_differential(total, wrt)
    if form is None:
        return None
    nodes = [w for _, _, w in form.pairs] + [n for o in form.outer for n in (*o.g, *o.b)]
    nodes += [c.weight for c in form.products]
    found = iter(substitute(nodes, held))
    pairs = [(a, b, next(found)) for a, b, _ in form.pairs]
    outer = [OuterProduct(tuple([next(found) for _ in o.g]), tuple([next(found) for _ in o.b])) for o in form.outer]
    products = [replace(c, weight=next(found)) for c in form.products]
    return QuadraticForm(pairs, form.images, outer, products)


def _curvature(
    parts: Sequence[tuple[Node, Node]], back: Mapping[Node, Node], wrt: Sequence[Node]
) -> OuterProduct | None:
    """<ds_i, F'' ds_j> for all pairs of variables, as sum_k e_k b_k' + b_k e_k' with b_k half of its row k."""
    builder, count, dtype = wrt[0].builder, flat(wrt), wrt[0].dtype
    tangents = [builder.input("t", x.shape, x.dtype) for x in wrt]
    moved = push_forward([back[p] for p, _ in parts], dict(zip(wrt, tangents, strict=True)))
    moving = [(p, c, t) for (p, c), t in zip(parts, moved, strict=True) if t is not None]
    held = [builder.input("t", p.shape, p.dtype) for p, _, _ in moving]
    curved = push_forward([c for _, c, _ in moving], {p: h for (p, _, _), h in zip(moving, held, strict=True)})
    found = iter(substitute([b for b in curved if b is not None],
                            {**back, **{h: t for h, (_, _, t) in zip(held, moving, strict=True)}}))
    bent = [None if b is None else next(found) for b in curved]
    pairs = [(t, b) for (_, _, t), b in zip(moving, bent, strict=True) if b is not None]
    if not pairs:
        return None
    eye, at, seeds = np.eye(count), 0, []
    for x in wrt:
        seeds.append(builder.constant(eye[at:at + x.size].reshape(*x.shape, count), dtype))
        at += x.size
    batched = batch([n for pair in pairs for n in pair], dict(zip(tangents, seeds, strict=True)), count)
    total = builder.zeros((count, count), dtype)
    for t, b in zip(batched[::2], batched[1::2], strict=True):
        rows, columns = (apply("reshape", n, shape=(n.size // count, count)) for n in (t, b))
        total = total + apply("contract", rows, columns, subscripts="ab,ac->bc")
    half, at, cut = total * 0.5, 0, []
    for x in wrt:
        part = apply("slice", half, start=(at, 0), count=(x.size, count))
        cut.append(apply("reshape", part, shape=(*x.shape, count)))
        at += x.size
    return OuterProduct(tuple(seeds), tuple(cut))
